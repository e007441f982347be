package fluster

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// follow waits for the head of the flight's response and takes the response if
// it is for this request too; done is false if the request has to be forwarded.
func (x *exchange) follow(f *flight) (done bool, err error) {
	head, why := x.board(f)
	if err := x.r.Context().Err(); err != nil && why != fits {
		return false, caddyhttp.Error(statusClientClosed, err)
	}
	switch why {
	case fits:
	case isVariant:
		x.varies = nominatedNames(head.resp.Nominated)
		return false, nil
	case isOfAnother:
		x.renameBySearch()
		return false, nil
	case isForItself:
		x.waited = true
		return false, nil
	case isOutdated:
		f.all.close(f) // nor is it for anybody who comes now
		x.ahead = true
		return false, nil
	default:
		return false, nil
	}
	defer f.leave(x)
	x.now = time.Now() // it may have waited long
	fd := &found{entry: head}
	if head.resp.Chunks != nil { // it was confirmed, and lies on a node
		if !x.open(fd) {
			return false, nil
		}
		x.collapsed(head)
		return true, x.write(fd)
	}
	if x.isConditional() && httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, head.resp.Status, head.header(), x.now) {
		x.collapsed(head)
		x.writeHead(fd, httpcache.NotModifiedHeader(head.header()))
		x.w.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	first, ok := x.takeFirst(f)
	if !ok {
		return false, nil
	}
	x.collapsed(head)
	x.writeHead(fd, head.header())
	if f.length >= 0 {
		x.w.Header().Set("Content-Length", itoa(f.length))
	}
	x.w.WriteHeader(head.resp.Status)
	if len(first) > 0 {
		if int64(len(first)) == f.length {
			x.corkFor(f.length).hold()
		}
		if _, err := x.w.Write(first); err != nil {
			return true, nil
		}
	}
	off, end := x.takeBody(f, x.w, int64(len(first)))
	x.complete(f, off, end)
	return true, nil
}

// collapsed tells that the response is that of another request's forward.
func (x *exchange) collapsed(head *entry) {
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: head.resp.Status, Collapsed: true}
	metrics.requests.WithLabelValues("collapsed").Inc()
}

// statusClientClosed is what Caddy logs for a request whose client has gone.
const statusClientClosed = 499

// fitting says whether the response of another exchange's forward is for a request.
type fitting uint8

const (
	fits        fitting = iota
	isVariant           // it is for requests with other values of the fields that it varies by
	isOfAnother         // it is for another query
	isOutdated          // it was for those who came before
	isNone              // it is for nobody, or is not to be had any more
	isForItself         // nor would the next one be for it
)

// board waits for the head, and makes the exchange a follower if the response
// is for it.
func (x *exchange) board(f *flight) (head *entry, why fitting) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.waiting--
		f.boarding--
		if f.held {
			f.changedLocked()
		}
		if why != fits {
			f.endIfUnwantedLocked()
			f.releaseLocked()
		}
	}()
	late := f.state != undecided
	f.boarded = true
	if !f.waitWhileLocked(x.r.Context(), undecided) {
		return nil, isNone
	}
	switch {
	case f.state == shared, f.state == whole:
	case f.releasesLocked(x):
		return nil, isForItself
	default:
		return nil, isNone
	}
	if why := x.mayTake(f.head, late); why != fits {
		return f.head, why
	}
	if f.base > 0 && !f.servesLateLocked() {
		return nil, isNone
	}
	f.followLocked(x, 0)
	return f.head, fits
}

// servesLateLocked reports whether who comes when memory does not hold the
// beginning any more can read it from a node, or else from the origin.
func (f *flight) servesLateLocked() bool { return f.divisible && f.fill.isAlive() }

// followLocked makes the exchange a follower that has the body up to off.
func (f *flight) followLocked(x *exchange, off int64) {
	if f.followers == nil {
		f.followers = map[*exchange]int64{}
	}
	f.followers[x] = off
}

// mayTake says whether the response of another exchange's forward answers this
// request. Who waited for its head shares the forward itself; who is late, as the
// head was there already, is given what is stored of it as it were, and so it must
// still be fresh (RFC 9111, Section 4).
func (x *exchange) mayTake(head *entry, late bool) fitting {
	now := time.Now()
	if !x.pool.book.Leased(now) {
		return isNone
	}
	if x.validity(head) != journal.Valid {
		return isOutdated
	}
	if !x.isSearchedBy(head) {
		return isOfAnother
	}
	if !x.mayShow(head) {
		return isNone
	}
	for _, n := range head.resp.Nominated {
		if httpcache.NominatedValue(n.Name, x.r.Header) != n.Value {
			return isVariant
		}
	}
	if late && x.policy.ReuseFor(x.directives, &head.resp.Terms, now).Use != httpcache.UseFresh {
		return isOutdated
	}
	return fits
}
