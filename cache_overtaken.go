package fluster

import "github.com/caddy-fluster/caddy-fluster/journal"

// A response whose body takes long may end after another one of its key was asked
// for, stored and served: who came when it was stale, or obsolete, forwarded anew. It
// is not to take that one's place. What was asked for first is told by counting:
//
//  1. The one's head comes.
//  2. The other is asked for, comes whole and is stored.
//  3. The one has come whole.

// overtaken reports whether the near cache has what was asked for when e's head had
// come already; or, if e was read from a node, what was read from there later.
func (x *exchange) overtaken(e *entry) bool {
	near := x.pool.near.Load()
	for i, key := range [...]string{e.resp.Key, x.key} {
		if i == 1 && key == e.resp.Key {
			break // it is no variant
		}
		old, ok := near.Get(key)
		isNewer := ok && (old.sent > e.came || old.sent == 0 && e.sent == 0 && old.came > e.came)
		switch {
		case !isNewer:
		case old.resp != nil && x.validity(old) == journal.Valid, old.variants != nil && key == e.resp.Key:
			return true
		}
	}
	return false
}

// date notes when the response that e is made of was asked for, and came.
func (x *exchange) date(e *entry) { e.sent, e.came = x.place.sent, x.place.came }
