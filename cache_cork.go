package fluster

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A response that is longer than net/http's buffer leaves in two writes: the
// header with the first of the body, and the rest. Each goes through the network's
// layers by itself, and wakes the client. A connection that is corked (TCP_CORK)
// keeps the first until the second is there, so that they leave in as few
// packets as there can be, and the client is woken once.
//
//   - A connection is corked only for a body that is all in memory, so that nothing
//     waits for an origin behind a cork.
//   - The cork is lifted when the response has ended, by net/http's own report of
//     it; a connection that is closed needs none. Should that come late, as a
//     handler before this one takes its time, the system waits for 200 ms at most.
//   - TLS has buffers of its own, and HTTP/2 and /3 have frames: they do without.

// corks are the connections of one server that may be corked.
type corks struct {
	conns sync.Map     // net.Conn → *cork
	held  atomic.Int64 // how many are corked
}

// A cork is that of one connection. The nil one is of a connection without.
type cork struct {
	all  *corks
	raw  syscall.RawConn
	held atomic.Bool
}

// corkKey is where a request's context has the cork of its connection.
type corkKey struct{}

const (
	// corkLeast is the length of a body that may not fit, with its header, in
	// net/http's buffer of 4 KiB.
	corkLeast = 3584
	// corkMost is the longest body for which a connection is corked. The client of a
	// longer one begins to read while the rest is written, which is worth more.
	corkMost = 32 << 10
)

// useCorks prepares the server that a handler is provisioned for.
func (a *App) useCorks(ctx caddy.Context) {
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || !canCork || a.corked[srv] {
		return
	}
	a.corked[srv] = true
	c := new(corks)
	srv.RegisterConnContext(c.opened)
	srv.RegisterConnState(c.changed)
}

// opened notes a connection in the context of its requests.
func (c *corks) opened(ctx context.Context, conn net.Conn) context.Context {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return ctx
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return ctx
	}
	k := &cork{all: c, raw: raw}
	c.conns.Store(conn, k)
	return context.WithValue(ctx, corkKey{}, k)
}

// changed lifts the cork when a response has ended, and forgets a connection that
// is the server's no more.
func (c *corks) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		if c.held.Load() == 0 {
			return
		}
		if k, ok := c.conns.Load(conn); ok {
			k.(*cork).lift()
		}
	case http.StateClosed, http.StateHijacked:
		if k, ok := c.conns.LoadAndDelete(conn); ok {
			k.(*cork).lift()
		}
	}
}

// corkFor returns the cork of the client's connection if a body of n bytes that is
// written at one time is worth one.
func (x *exchange) corkFor(n int64) *cork {
	if n < corkLeast || n > corkMost || x.r.ProtoMajor != 1 || x.isBackground() {
		return nil
	}
	k, _ := x.r.Context().Value(corkKey{}).(*cork)
	return k
}

// hold keeps back what is written from now on.
func (k *cork) hold() {
	if k != nil && k.held.CompareAndSwap(false, true) {
		k.all.held.Add(1)
		k.set(true)
	}
}

// lift sends on what was kept back.
func (k *cork) lift() {
	if k.held.CompareAndSwap(true, false) {
		k.set(false)
		k.all.held.Add(-1)
	}
}

func (k *cork) set(held bool) {
	k.raw.Control(func(fd uintptr) { setCork(fd, held) }) //nolint:errcheck // the connection is closed, and needs none
}

// A kept is the first part of a short body, which waits for the rest: a proxy reads
// 4 KiB of a response at first, and then all that there is. No more is kept than
// net/http might, and for no longer: until more has come, a flush or the end.
type kept struct {
	cork *cork
	part *firstPart // nil if nothing is kept
	n    int        // bytes of it
}

// A firstPart is as long as net/http's buffer.
type firstPart [4 << 10]byte

var firstParts = sync.Pool{New: func() any { return new(firstPart) }}

// keepFirst keeps a part of the body back. It returns false if the part is to be
// written now; then the connection is corked if it is the last one of a short body.
func (w *fillWriter) keepFirst(p []byte) bool {
	n := int64(len(p))
	if w.got == 0 && !w.muted {
		w.kept.cork = w.x.corkFor(w.want)
	}
	switch {
	case w.kept.cork == nil:
	case w.got+n == w.want:
		w.kept.cork.hold()
	case w.got == int64(w.kept.n) && w.got+n <= int64(len(firstPart{})):
		if w.kept.part == nil {
			w.kept.part = firstParts.Get().(*firstPart)
		}
		w.kept.n += copy(w.kept.part[w.kept.n:], p)
		return true
	}
	return false
}

// sendFirst writes what was kept back, and keeps no more. It comes before
// whatever else is written or flushed.
func (w *fillWriter) sendFirst() error {
	part, n := w.kept.part, w.kept.n
	w.kept = kept{cork: w.kept.cork, n: -1}
	if part == nil {
		return nil
	}
	_, err := w.ResponseWriter.Write(part[:n])
	firstParts.Put(part)
	return err
}
