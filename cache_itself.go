package fluster

import (
	"context"
	"net"
	"net/http/httptrace"
	"sync"
)

// A cache may stand behind another one of the same process on the far side of a
// connection: a site proxies to another site of this Caddy. What both call by the same
// key, the one behind must not wait for: it is itself what the forward of the one
// before waits for. It is told by the connection that it comes on.

// ownForwards are the connections of all forwards of this process.
var ownForwards connections

// connections are those that forwards are on, by the address that they come from.
type connections struct {
	mu    sync.Mutex // guards count, and all that is traced
	count map[string]int
}

// traced are the connections that one forward has been on.
type traced struct {
	httptrace.ClientTrace
	all  *connections
	from []string // more than one where it was tried again
	over bool
}

// trace returns a context that takes note of the connection of a forward, until end is
// called.
func (c *connections) trace(ctx context.Context) (_ context.Context, end func()) {
	t := &traced{all: c}
	t.GotConn = t.note
	return httptrace.WithClientTrace(ctx, &t.ClientTrace), t.end
}

// note takes note of a connection. One that is none of a network has no name of its own.
func (t *traced) note(info httptrace.GotConnInfo) {
	var addr string
	switch a := info.Conn.LocalAddr().(type) {
	case *net.TCPAddr, *net.UDPAddr:
		addr = a.String()
	default:
		return
	}
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	if t.over {
		return
	}
	if t.all.count == nil {
		t.all.count = map[string]int{}
	}
	t.all.count[addr]++
	t.from = append(t.from, addr)
}

func (t *traced) end() {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	t.over = true
	for _, addr := range t.from {
		if t.all.count[addr]--; t.all.count[addr] == 0 {
			delete(t.all.count, addr)
		}
	}
}

// has reports whether a forward is on the connection that comes from there.
func (c *connections) has(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[addr] > 0
}
