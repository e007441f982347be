package shard

import (
	"errors"
	"net"
	"syscall"
)

// Bounds on one reply. go-redis sets memory aside for as many elements as a
// reply announces, before they have come; what is no Redis can announce any number.
const (
	maxElements = 1 << 20
	maxBulk     = 512 << 20 // Redis's own default bound of a value
)

// errReply says that a reply announces more than any that this package asks for.
var errReply = errors.New("shard: a reply that is too large for a Redis server's")

// A guarded connection reads the lengths in the replies that pass, and fails
// before the client believes one that is beyond the bounds.
type guarded struct {
	net.Conn
	replies replyScanner
	forget  func() // called when it is closed
}

// Close closes the connection.
func (g *guarded) Close() error {
	g.forget()
	return g.Conn.Close()
}

// Read reads as net.Conn does.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if !g.replies.scan(p[:n]) {
		g.Close() //nolint:errcheck // it is of no use any more
		return 0, errReply
	}
	return n, err
}

// guard returns conn, guarded, and noted in open. A connection that is the system's own stays one
// that go-redis can look at while it is idle.
func guard(conn net.Conn, open *conns) net.Conn {
	g := &guarded{Conn: conn, forget: open.add(conn)}
	if own, ok := conn.(syscall.Conn); ok {
		return struct {
			*guarded
			syscall.Conn
		}{g, own}
	}
	return g
}

// A replyScanner follows a stream of RESP replies: lines that begin with a type,
// and bulks that follow the line that gives their length.
type replyScanner struct {
	kind     byte  // the type of the line that is being read; 0 at its beginning
	number   int64 // the length that the line gives so far
	skip     int64 // bytes of a bulk that are still to come
	pending  int64 // elements of the reply that are still to come
	elements int64 // that the reply has announced
}

// scan follows b, and reports whether all was within the bounds.
func (s *replyScanner) scan(b []byte) bool {
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(s.skip, int64(len(b)))
			s.skip -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		switch {
		case s.kind == 0:
			s.kind, s.number = c, 0
		case c == '\n':
			if !s.endLine() {
				return false
			}
		case '0' <= c && c <= '9' && s.hasLength():
			if s.number = s.number*10 + int64(c-'0'); s.number > maxBulk {
				return false
			}
		case c == '-' && s.hasLength():
			s.kind = '_' // a null
		}
	}
	return true
}

// hasLength reports whether the line gives a length.
func (s *replyScanner) hasLength() bool {
	switch s.kind {
	case '$', '=', '!', '*', '~', '>', '%':
		return true
	}
	return false
}

// endLine takes a line that has ended.
func (s *replyScanner) endLine() bool {
	if s.pending == 0 {
		s.elements = 0 // the line begins a reply
	} else {
		s.pending--
	}
	switch s.kind {
	case '$', '=', '!':
		s.skip = s.number + 2
	case '%':
		s.number *= 2
		fallthrough
	case '*', '~', '>':
		s.pending += s.number
		s.elements += s.number
	}
	s.kind = 0
	return s.elements <= maxElements
}
