package shard

import "sync"

// holds are those who are in the middle of a long value, for whom a node's
// connections for long values stay open when the node is closed.
type holds struct {
	mu     sync.Mutex // guards all below
	count  int
	closed bool
}

// Hold keeps the connections of Bulk and ReadBulk open, also after Close, until
// release is called, once. Of a node that is closed already it keeps nothing.
func (n *Node) Hold() (release func()) {
	if n.whole != nil {
		return n.whole.Hold()
	}
	h := &n.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed && h.count == 0 {
		return func() {}
	}
	h.count++
	return n.release
}

func (n *Node) release() {
	h := &n.holds
	h.mu.Lock()
	h.count--
	last := h.closed && h.count == 0
	h.mu.Unlock()
	if last {
		n.bulk.Close() //nolint:errcheck // nobody is left to tell
	}
}

// close notes that the node is closed, and reports whether nobody holds it.
func (h *holds) close() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.count == 0
}
