package fluster

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// newest are the URLs that were answered by the origin while nobody knew what
// lies on their nodes: the lookup had failed, or there was none. Such an answer
// may be newer than what lies there, fresh as that may be, and then nobody who
// saw it is to be given the other (C4). So of these URLs nothing that was received
// before is used without being validated, until the answer lies on the node.
//
// It is bounded: when it is full, what lies on all nodes is doubted in its place.
// It is safe for concurrent use.
type newest struct {
	notes sync.Map     // uint64, the hash of a cache key → note
	count atomic.Int64 // of notes
	seed  maphash.Seed

	mu      sync.Mutex // guards settled, and all changes of notes
	settled []settled  // in the order of time
}

// note is when the newest answer of a URL was received, and whether it lies on
// its node.
type note struct {
	received int64 // Unix ms
	settled  bool
}

type settled struct {
	hash uint64
	note note
	at   time.Time
}

const (
	// maxNewest bounds the notes, at about 100 bytes each.
	maxNewest = 1 << 16
	// settleFor is for how long a note still counts when the answer lies on its
	// node: what was read from there before may yet be on its way, and a replica
	// that is made master may lack what its master had last.
	settleFor = 10 * time.Second
)

func (n *newest) hash(key string) uint64 { return maphash.String(n.seed, key) }

// served notes that an answer was received and served. It reports false if there
// is no room; then all notes are gone.
func (n *newest) served(key string, received int64, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trimLocked(now)
	h := n.hash(key)
	if old, ok := n.notes.Load(h); ok {
		received = max(received, old.(note).received)
	} else if n.count.Add(1) > maxNewest {
		n.notes.Clear()
		n.count.Store(0)
		n.settled = nil
		return false
	}
	n.notes.Store(h, note{received: received})
	return true
}

// stored notes that what was received then lies on its node.
func (n *newest) stored(key string, received int64, now time.Time) {
	if n.count.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trimLocked(now)
	h := n.hash(key)
	old, ok := n.notes.Load(h)
	if !ok || old.(note).settled || old.(note).received > received {
		return
	}
	done := note{received: old.(note).received, settled: true}
	n.notes.Store(h, done)
	n.settled = append(n.settled, settled{h, done, now})
}

// trimLocked forgets what has been settled for long enough.
func (n *newest) trimLocked(now time.Time) {
	for len(n.settled) > 0 && now.Sub(n.settled[0].at) > settleFor {
		s := n.settled[0]
		n.settled = n.settled[1:]
		if n.notes.CompareAndDelete(s.hash, s.note) {
			n.count.Add(-1)
		}
	}
}

// isOlder reports whether an answer of this URL was served that was received
// after this one was.
func (n *newest) isOlder(key string, received int64) bool {
	if n.count.Load() == 0 {
		return false
	}
	v, ok := n.notes.Load(n.hash(key))
	return ok && received < v.(note).received
}

// noteServed notes that the origin's answer is served although what lies on the
// URL's node is not known. Of a failure nobody says that it is newer.
func (w *fillWriter) noteServed(status int) {
	x := w.x
	if x.seen && !w.use.Request || status >= 500 || len(x.pool.nodes) == 0 || !httpcache.IsSafe(x.r.Method) {
		return
	}
	if !x.pool.newest.served(x.key, w.times.Received.UnixMilli(), w.times.Received) {
		x.pool.doubtAll()
	}
}
