package fluster

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxChanges is how many changes of a node are remembered.
const maxChanges = 16

// history is when a node went out of use, why, and when it was back: the last
// changes. It is safe for concurrent use.
type history struct {
	mu      sync.Mutex // guards changes
	changes []change   // oldest first
}

// change is one that the log and an event told of as well.
type change struct {
	At     time.Time `json:"at"`
	State  string    `json:"state"` // penalty or up
	Reason string    `json:"reason,omitempty"`
	For    float64   `json:"for"` // seconds: the first penalty; for up: how long the node was out of use
}

func (h *history) add(c change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.At = c.At.UTC()
	h.changes = append(h.changes[max(0, len(h.changes)-maxChanges+1):], c)
}

func (h *history) list() []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes)
}

// history returns that of the node; the parts of a Redis Cluster have one.
func (n *node) history() *history {
	if f := n.family.Load(); f != nil {
		return &f.history
	}
	return &n.own
}

// maxReason is the longest reason that is told, in bytes.
const maxReason = 240

// reasonOf returns what is told of an error. Whatever a server has sent may be in
// it: what cannot be printed is escaped, and what is too long is cut.
func reasonOf(err error) string {
	s := err.Error()
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case b.Len() >= maxReason:
			b.WriteString("…")
			return b.String()
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}
