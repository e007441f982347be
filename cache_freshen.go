package fluster

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// freshen makes the stored response anew from the 304 that confirmed it (RFC
// 9111, Section 4.3.4).
func (x *exchange) freshen(f *found, header304 http.Header, t httpcache.Times) (*entry, httpcache.Verdict) {
	header := httpcache.Freshen(f.header(), header304)
	if header["Date"] == nil {
		header.Set("Date", t.Received.UTC().Format(http.TimeFormat))
	}
	req := x.asRequest()
	req.Method = http.MethodGet // which it is the response to
	v := x.policy.MayStore(req, f.resp.Status, header, t)
	switch {
	case !v.Store:
	case !httpcache.TagsFit(header304, x.tags):
		v = httpcache.Verdict{Detail: "tags"}
	case headerSize(header) > maxHeader:
		v = httpcache.Verdict{Detail: "max-header"} // each validation may add fields
	}
	resp := *f.resp
	resp.Terms = v.Terms
	if !v.Store {
		resp.Terms = httpcache.Unstored(header, t)
	}
	resp.Terms.Flags |= f.resp.Terms.Flags & (httpcache.Recoded | httpcache.Untyped)
	if tags := httpcache.Tags(header304, x.tags); len(tags) > 0 {
		resp.Tags = tags
	}
	if header304["Cache-Groups"] != nil {
		resp.Groups = httpcache.CacheGroups(header304)
	}
	drop(header, v.Drop, x.tags)
	resp.Header = fields(header, t.Received, f.asStored)
	x.renominate(&resp, v.Nominated)
	e := newEntry(&resp, x.place.learn)
	e.node = f.node
	x.date(e)
	return e, v
}

// renominate gives a response whose Vary has changed the key of the variant that
// this request, by which it was confirmed, selects.
func (x *exchange) renominate(r *stored.Response, names []string) {
	if slices.EqualFunc(r.Nominated, names, func(f stored.Field, name string) bool { return f.Name == name }) {
		return
	}
	r.Key, r.Nominated = x.key, nil
	if len(names) > 0 {
		r.Nominated = nominate(names, x.r.Header)
		r.Key = variantKey(x.key, r.Nominated)
	}
}

// freshenByHead takes from the response to a HEAD what it says of the stored
// response to a GET: it is still so, or it is stale (RFC 9111, Section 4.3.5).
func (x *exchange) freshenByHead(f *found, head http.Header, t httpcache.Times) {
	if !httpcache.HeadFreshens(f.header(), head, f.resp.BodySize) {
		// The body was not confirmed: it keeps its old learn number, and its stamp.
		if f.resp.Chunks == nil {
			resp := *f.resp
			resp.Terms.FreshUntil = min(resp.Terms.FreshUntil, t.Received.UnixMilli())
			x.pool.near.Load().Set(resp.Key, f.as(&resp))
		}
		if n := x.place.node; n != nil {
			n.writes.push(write{forget: []string{n.journal.bucket.entry(f.resp.Key)}})
		}
		return
	}
	if head["Etag"] == nil && head["Last-Modified"] == nil {
		return // nothing that says that the body is still the same
	}
	if e, v := x.freshen(f, head, t); v.Store {
		x.keepAgain(e)
	}
}

// keepAgain stores a response that was confirmed.
func (x *exchange) keepAgain(e *entry) {
	if e.resp.Chunks == nil {
		x.keepWhole(e)
		return
	}
	if pl := x.place; pl.node != e.node || !pl.ok || !pl.node.inUse() {
		return
	}
	resp := x.asKept(e, e.resp.BodySize)
	w := encodeRenewal(x.place.node.journal.bucket, &resp, keepFor(&resp.Terms, time.Now()))
	w.key, w.received = resp.Key, resp.Terms.Received
	w.lock = x.place.lock.hand()
	x.place.node.writes.push(w)
}
