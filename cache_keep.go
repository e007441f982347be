package fluster

import (
	"time"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// keepWhole stores a response that was there whole.
func (x *exchange) keepWhole(e *entry) {
	resp, ttl := x.asKept(e, int64(len(e.resp.Body)))
	x.pool.keep(x.place, e.whole(resp), ttl)
}

// keepCame stores the response of a flight, which has come whole.
func (x *exchange) keepCame(fl *flight, head *entry, body []byte) {
	resp, ttl := x.asKept(head, int64(len(body)))
	resp.Body = body
	x.pool.keep(x.place, fl.entire(head, resp), ttl)
}

// keepFilled is keepCame for a response whose body a fill has; kept says
// whether body has all of it too.
func (x *exchange) keepFilled(e *entry, f *fill, size int64, body []byte, kept bool) {
	resp, _ := x.asKept(e, size)
	if kept {
		near := resp
		near.Body = fit(body)
		x.pool.near.Load().Set(near.Key, e.whole(near))
	}
	f.finish(&resp)
}

// asKept returns the response as it is stored, and how long it is kept. Where it
// is a variant, that is noted.
func (x *exchange) asKept(e *entry, size int64) (stored.Response, time.Duration) {
	resp := *e.resp
	resp.BodySize, resp.Stamp = size, stored.Stamp(x.place.stamp)
	now := time.Now()
	ttl := keepFor(&resp.Terms, now)
	if len(resp.Nominated) > 0 {
		v := stored.Variant{Nominated: resp.Nominated, Key: resp.Key, Stored: now.UnixMilli(), Language: e.field("Content-Language")}
		x.listVariant(v, resp.Terms.Received, max(ttl, keepList))
	}
	return resp, ttl
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
