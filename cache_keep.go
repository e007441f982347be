package fluster

import (
	"strings"
	"time"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// keepWhole stores a response that was there whole.
func (x *exchange) keepWhole(e *entry) {
	e = e.whole(x.asKept(e, int64(len(e.resp.Body))))
	x.pool.near.Load().Set(e.resp.Key, e)
	x.pool.keepOnNode(x.place, e.resp)
}

// keepCame stores the response of a flight, which has come whole, unless it was
// overtaken. Mostly there is nothing yet in its place, and then one lookup tells that
// and puts it there.
func (x *exchange) keepCame(fl *flight, head *entry, body []byte) {
	isFirst := x.hit.entry == nil && head.resp.Key == x.key
	if !isFirst && x.overtaken(head) {
		return
	}
	resp := x.asKept(head, int64(len(body)))
	resp.Body = body
	e, near := fl.entire(head, resp), x.pool.near.Load()
	if !isFirst || !near.Add(e.resp.Key, e) {
		if isFirst && x.overtaken(e) {
			return
		}
		near.Set(e.resp.Key, e)
	}
	x.pool.keepOnNode(x.place, e.resp)
}

// keepFilled is keepCame for a response whose body a fill has. Memory may have it too;
// else what was there would be found first, and validated each time.
func (x *exchange) keepFilled(fl *flight, e *entry, f *fill, size int64) {
	if x.overtaken(e) {
		return
	}
	resp, near := x.asKept(e, size), x.pool.near.Load()
	body, ok := []byte(nil), false
	if uint64(size) <= near.Largest() {
		body, ok = fl.whole()
	}
	if ok {
		kept := resp
		kept.Body = fit(body)
		near.Set(kept.Key, e.whole(kept))
	} else {
		near.Delete(resp.Key)
	}
	f.finish(&resp)
}

// asKept returns the response as it is stored. Where it is a variant, that is noted.
func (x *exchange) asKept(e *entry, size int64) stored.Response {
	resp := *e.resp
	resp.BodySize, resp.Stamp = size, stored.Stamp(x.place.stamp)
	if len(resp.Nominated) > 0 {
		now := time.Now()
		language := strings.Clone(e.field("Content-Language")) // or the list would keep the memory of the response
		v := stored.Variant{Nominated: resp.Nominated, Key: resp.Key, Stored: now.UnixMilli(), Language: language}
		x.listVariant(v, resp.Terms.Received, max(keepFor(&resp.Terms, now), keepList))
	}
	return resp
}

// listVariant puts a variant on the URL's list. One does so at a time: of two that
// end at once, each would put in its place a list without the other's.
func (x *exchange) listVariant(v stored.Variant, received int64, ttl time.Duration) {
	x.pool.listing.Lock()
	defer x.pool.listing.Unlock()
	list := x.list
	if l := x.nearList(); l != nil {
		list = l // others may have stored variants meanwhile
	}
	list = list.with(x.key, v)
	list.sent = x.place.sent
	x.pool.keepVariants(x.place, list, received, ttl)
}

// canStore reports whether there is a place for what may be stored, of this
// length if it is known.
func (x *exchange) canStore(length int64) bool {
	return x.place.node != nil && x.place.ok || length < int64(x.pool.near.Load().Largest())
}
