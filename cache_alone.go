package fluster

import (
	"net/http"
	"time"
)

// Where a response turned out not to be for others, its key is marked for a
// while: the requests that come then neither wait for one another nor look on a
// node, where there is nothing. A response that may be stored takes the mark away. What
// another process stores meanwhile is found here when the mark has had its time,
// or has cost one forward. It may be older than what was served here since, which
// nobody has held against what lies on the node: the mark remembers that, too (C4),
// for as long as there is room for it.
//
// Where it may be the credentials of its request that a response was not shared for,
// the mark counts for requests with credentials alone.

// aloneFor is how long a mark counts.
const aloneFor = 10 * time.Second

// mark says that responses of a key cannot be shared.
type mark struct {
	until int64   // until when that is believed, Unix ms
	whom  release // for whom: with credentials, or everybody
	last  note    // the newest response that was served while it was
}

// isBelieved reports whether the mark has not had its time. One that has much more
// than there is was made before the clock was set back.
func (m mark) isBelieved(now time.Time) bool {
	left := m.until - now.UnixMilli()
	return 0 < left && left <= 2*aloneFor.Milliseconds()
}

// counts reports whether the mark is believed for the exchange.
func (m mark) counts(x *exchange) bool {
	return m.isBelieved(x.now) && (m.whom == everybody || x.r.Header["Authorization"] != nil)
}

// weighAlone returns about how many bytes of memory a mark takes.
func weighAlone(key string, _ mark) uint32 { return uint32(min(len(key)+160, 1<<31)) }

// isAlone reports whether the key is marked. One that was sighted is from now on.
func (x *exchange) isAlone() bool {
	m, ok := x.pool.alone.Get(x.key)
	if ok && m.counts(x) {
		return true
	}
	x.marked = ok && m.isBelieved(x.now)
	hash := x.pool.newest.hash(x.key)
	left := x.pool.sighted.left(hash, x.now)
	if left == 0 {
		return false
	}
	x.markAlone(x.now.Add(left), everybody)
	x.pool.sighted.remove(hash)
	return true
}

// markAlone spares the requests to come, of those whom it is for, the waiting for a
// response that will not be for them.
func (x *exchange) markAlone(until time.Time, whom release) {
	x.pool.marks.Lock()
	defer x.pool.marks.Unlock()
	m, _ := x.pool.alone.Get(x.key)
	if whom < m.whom && m.isBelieved(time.Now()) {
		return // it is for more
	}
	m.until, m.whom = until.UnixMilli(), whom
	x.pool.alone.Set(x.key, m)
}

// servedAlone notes that a response was served without looking on a node.
func (x *exchange) servedAlone(sent int64, etag uint64) {
	x.pool.marks.Lock()
	defer x.pool.marks.Unlock()
	if m, ok := x.pool.alone.Get(x.key); ok && (m.last.sent < sent || m.last.isAhead(time.Now())) {
		m.last = note{sent: sent, etag: etag}
		x.pool.alone.Set(x.key, m)
	}
}

// unmarkAlone takes the mark away, as a response may be stored. Where it did not count
// for the exchange, it still remembers what was served: that was not held against what
// this one has found.
func (x *exchange) unmarkAlone() {
	if !x.alone && !x.marked {
		return
	}
	x.pool.marks.Lock()
	defer x.pool.marks.Unlock()
	if x.alone {
		x.pool.alone.Delete(x.key)
		x.pool.sighted.remove(x.pool.newest.hash(x.key))
	} else if m, ok := x.pool.alone.Get(x.key); ok {
		m.until = 0
		x.pool.alone.Set(x.key, m)
	}
}

// settleAlone releases all who wait for this response, here and in other
// processes. It marks the key for such if there were any, or if nothing was found
// where the next request would look in vain again; but not where something may lie
// that stands in for a failure, or was only not found as the node was slow.
func (w *fillWriter) settleAlone(status int) {
	x := w.x
	to := everybody
	if x.r.Header["Authorization"] != nil && status < 500 {
		to = authorized // it may be shared where there are no credentials
	}
	waited, never := w.fl.releaseTo(to), x.isNeverShared(status)
	switch {
	case x.seen && waited && (w.f == nil || never):
		x.markAlone(time.Now().Add(aloneFor), to)
	case x.seen && w.f == nil && never && !x.alone && x.list == nil:
		x.pool.sighted.add(x.pool.newest.hash(x.key), time.Now())
	case never && w.f != nil:
		x.pool.near.Load().Delete(w.f.resp.Key) // else it is found, and waited for, each time
	}
	x.place.lock.letGo(isAlone)
}

// isNeverShared reports whether the response was not stored for what it says
// itself, which the next one will say too, and not for what the request says.
func (x *exchange) isNeverShared(status int) bool {
	if x.r.Method != http.MethodGet || status >= 500 || x.directives.NoStore() || x.r.Header["Authorization"] != nil {
		return false
	}
	switch x.status.Detail {
	case "no-store", "private", "set-cookie", "vary", "no-freshness", "event-stream", "max-body":
		return true
	}
	return false
}
