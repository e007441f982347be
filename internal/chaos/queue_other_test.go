//go:build !linux

package chaos

import (
	"net"
	"testing"
)

// shrinkQueue is for Linux: elsewhere such a queue is never full in this way.
func shrinkQueue(t *testing.T, _ net.Listener) {
	t.Helper()
	t.Skip("no way to fill a listener's queue on this system")
}
