package caddytest

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Packets returns how many packets with data have come over a TCP connection.
func Packets(tb testing.TB, conn net.Conn) (n uint32) {
	tb.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	var info *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil || failed != nil {
		tb.Fatal(err, failed)
	}
	return info.Data_segs_in
}
