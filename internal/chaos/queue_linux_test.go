package chaos

import (
	"net"
	"syscall"
	"testing"
)

// shrinkQueue makes a listener hold as few connections as can be that it has not
// accepted.
func shrinkQueue(t *testing.T, l net.Listener) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
