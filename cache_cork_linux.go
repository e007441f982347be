package fluster

import "syscall"

const canCork = true

// setCork sets TCP_CORK (tcp(7)).
func setCork(fd uintptr, held bool) {
	v := 0
	if held {
		v = 1
	}
	syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, v) //nolint:errcheck // it only makes fewer packets
}
