package fluster

import (
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// newest are the answers of the origin for which what lies on the node may be
// older, fresh as it may be: nobody who was given the one is to be given the other
// (C4). So what has the same key, was received before that answer was asked for,
// and is not the same, is not used without being validated. (What came to somebody
// else while the answer was under way may be newer as well as older.) There are
// two cases:
//
//   - Nobody knew what lies on the node: the lookup had failed, or there was none.
//     Then it is so until the answer lies on the node.
//   - Somebody else may yet store an older answer, late: for a while.
//
// It is bounded: when it is full, what lies on all nodes is doubted in its place.
// It is safe for concurrent use.
type newest struct {
	seed  maphash.Seed
	count atomic.Int64 // of notes

	mu      sync.RWMutex    // guards all below, which have no pointers: there are many of them
	notes   map[uint64]note // by the hash of a cache key
	settled []settled       // in the order of time
}

// note is when the newest answer of a URL was asked for, and which it was.
type note struct {
	sent    int64  // Unix ms
	etag    uint64 // a hash of its strong entity tag; 0 if it has none
	settled bool   // no older answer lies on the node, or it was replaced
}

// settled is a note that needs to be kept no longer, after a while, and since when.
type settled struct {
	hash uint64
	note note
	at   time.Time
}

const (
	// maxNewest bounds the notes, at about 100 bytes each.
	maxNewest = 1 << 16
	// settleFor is for how long a note still counts when it is settled: what was
	// read from the node before may yet be on its way, somebody else may store late,
	// and a replica that is made master may lack what its master had last.
	settleFor = 10 * time.Second
	// storeWithin is how long an answer may wait to be stored, which must be less.
	storeWithin = settleFor / 2
)

func (n *newest) hash(key string) uint64 { return maphash.String(n.seed, key) }

// served notes that an answer was served whose request was sent then; seen says
// that no older one lies on the node. It reports false if there is no room; then
// all notes are gone.
func (n *newest) served(key string, sent int64, etag uint64, seen bool, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trimLocked(now)
	if seen && len(n.settled) >= maxNewest {
		return true // more answers than can be noted; the others count more
	}
	h := n.hash(key)
	next := note{sent: sent, etag: etag, settled: seen}
	switch old, ok := n.notes[h]; {
	case ok:
		next.settled = seen && old.settled
		if old.sent > sent && !old.isAhead(now) {
			next.sent, next.etag = old.sent, old.etag
		}
	case seen && n.count.Load() >= maxNewest/2:
		return true // likewise
	case len(n.notes) >= maxNewest:
		n.notes, n.settled = nil, nil
		n.count.Store(0)
		return false
	}
	if n.notes == nil {
		n.notes = map[uint64]note{}
	}
	n.notes[h] = next
	n.count.Store(int64(len(n.notes)))
	if next.settled {
		n.settled = append(n.settled, settled{h, next, now})
	}
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
	done, ok := n.notes[h]
	if !ok || done.settled || done.sent > received && !done.isAhead(now) {
		return
	}
	done.settled = true
	n.notes[h] = done
	n.settled = append(n.settled, settled{h, done, now})
}

// trimLocked forgets what has been settled for long enough.
func (n *newest) trimLocked(now time.Time) {
	for len(n.settled) > 0 && now.Sub(n.settled[0].at) > settleFor {
		s := n.settled[0]
		n.settled = n.settled[1:]
		if n.notes[s.hash] == s.note {
			delete(n.notes, s.hash)
			n.count.Store(int64(len(n.notes)))
		}
	}
	if len(n.notes) == 0 {
		n.notes = nil // and the memory that it had
	}
}

// isOlder reports whether an answer of this URL was served that was asked for
// after this one was received, and is another one.
func (n *newest) isOlder(key string, received int64, etag uint64) bool {
	if n.count.Load() == 0 {
		return false
	}
	h := n.hash(key)
	n.mu.RLock()
	defer n.mu.RUnlock()
	v, ok := n.notes[h]
	return ok && v.isAfter(received, etag)
}

// isAfter reports whether the answer was asked for after this one was received,
// and is another one.
func (n note) isAfter(received int64, etag uint64) bool {
	return received < n.sent && (etag == 0 || etag != n.etag)
}

// isAhead reports whether the answer was asked for so much later than now that the
// clock was set back since. What was received before that is validated in any case, but
// for what is less than ten seconds ahead (see httpcache.ReuseFor).
func (n note) isAhead(now time.Time) bool { return n.sent-now.UnixMilli() > settleFor.Milliseconds() }

// etagHash returns a hash of a strong entity tag; 0 of anything else.
func (n *newest) etagHash(etag string) uint64 {
	if !strings.HasPrefix(etag, `"`) {
		return 0
	}
	return max(1, maphash.String(n.seed, etag))
}

// isOlder reports whether a response that was found is older than one that was
// served.
func (x *exchange) isOlder(e *entry) bool {
	n := &x.pool.newest
	m, marked := x.pool.alone.Get(x.key)
	if n.count.Load() == 0 && !marked {
		return false
	}
	etag := n.etagHash(e.field("Etag"))
	return marked && m.last.isAfter(e.resp.Terms.Received, etag) || n.isOlder(e.resp.Key, e.resp.Terms.Received, etag) ||
		e.resp.Key != x.key && n.isOlder(x.key, e.resp.Terms.Received, etag)
}

// noteServed notes that the origin's answer with this entity tag is served, which
// is to be stored under key: it says nothing of other variants of its URL, unless
// it is not known what there are. One that is not stored has the URL's own key, and
// counts for all variants.
func (w *fillWriter) noteServed(key string, stored bool, etag string) {
	x := w.x
	seen := x.seen && !w.use.Request
	if len(x.pool.nodes) == 0 || !httpcache.IsSafe(x.r.Method) {
		return
	}
	if seen && x.alone { // in truth nobody has looked
		x.servedAlone(w.times.Sent.UnixMilli(), x.pool.newest.etagHash(etag))
		if seen = false; !stored {
			return
		}
	}
	keys := []string{key}
	if !seen && key != x.key && !x.list.has(key) {
		// What lies under the URL's own key may be an answer that does not vary, or a
		// list by which another variant is selected.
		keys = append(keys, x.key)
	}
	n := &x.pool.newest
	for _, key := range keys {
		if !n.served(key, w.times.Sent.UnixMilli(), n.etagHash(etag), seen, w.times.Received) {
			x.pool.doubtAll()
		}
	}
}

// noteUnstored is noteServed for an answer that is not stored. Where nothing older lay
// on the node, two are left out: one that says itself that it is for nobody else, as
// there may be many of them, and one that varies, as it is not known for whom it is.
func (w *fillWriter) noteUnstored(status int, h http.Header) {
	x := w.x
	isKnown := x.seen && !w.use.Request && !x.alone
	if isKnown && (x.isNeverShared(status) || x.list != nil || h["Vary"] != nil) {
		return
	}
	w.noteServed(x.key, false, first(h["Etag"]))
}
