package fluster

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// forward asks the origin, together with all who want the same at this time.
// What was found stale is validated.
func (x *exchange) forward(f *found, use httpcache.Reuse) error {
	if !x.sharesForwards(use) {
		return x.fetch(x.pool.flights.solo(), f, use)
	}
	// What turns out to be for others is tried again: as the variant that it is, or
	// with those who came as late. A leader that goes away without an answer counts for
	// nothing.
	for tries := 0; tries < 3 && !x.waited; tries++ {
		if x.list == nil && (tries > 0 || x.node != nil) { // it may be known by now, and then others go by it
			x.list = x.nearList()
		}
		fl, leads := x.pool.flights.join(x.flightKey())
		if leads {
			return x.lead(fl, f, use)
		}
		if done, err := x.follow(fl); done || err != nil {
			return err
		}
		x.marked = true // maybe, by whom it has waited for
		if fl.isAbandoned() {
			tries--
		}
	}
	return x.fetch(x.pool.flights.solo(), f, use)
}

// sharesForwards reports whether the answer to others will do for this request.
func (x *exchange) sharesForwards(use httpcache.Reuse) bool {
	if x.Collapse == "off" || use.Request || x.r.Method != http.MethodGet || x.r.Header["Range"] != nil || x.part != nil ||
		x.directives.NoCache() || x.directives.NoStore() {
		return false
	}
	return !x.alone && !ownForwards.has(x.r.RemoteAddr) // else it would wait for itself
}

// flightKey is what a forward is for: the cache key, and as far as it is known
// what selects the variant.
func (x *exchange) flightKey() string {
	names := x.varies
	if names == nil && x.list != nil && len(x.list.variants.List) > 0 {
		names = nominatedNames(x.list.variants.List[0].Nominated)
	}
	if len(names) == 0 {
		return x.key
	}
	return variantKey(x.key, nominate(names, x.r.Header))
}

// fetch sends the request to the origin and its answer to the client, and keeps
// a copy if that may be stored.
func (x *exchange) fetch(fl *flight, f *found, use httpcache.Reuse) error {
	// Before the request to the origin: what is invalidated from now on is held
	// against the response.
	if x.node == nil || !x.node.inUse() {
		x.node = x.pool.pick(x.key)
	}
	lock, now := x.place.lock, time.Now()
	x.place = x.pool.placeFor(x.node, now)
	x.place.lock = lock
	req, end := x.request(fl, f)
	defer end()
	fw := newFillWriter(x, fl, f, use, now)
	defer fw.abort() // when a handler behind panics
	again, err := fw.finish(fw.await(req))
	if again {
		// The origin confirmed, or completed, a response that is not the stored one.
		x.part = nil
		if f != nil && use.Request {
			x.pool.near.Load().Delete(f.resp.Key) // it may be fresh, and is another one
		}
		return x.fetch(x.pool.flights.solo(), nil, use)
	}
	return err
}

// request returns the request as it is sent on: conditional by the validators
// of what is to be validated and never by the client's, which are about the
// client's copy. A request for a part goes on as it is, and so does one whose
// response nobody else may have; but in handle_errors neither conditions nor ranges
// count, and file_server does not know (RFC 9110, Sections 13.2.1 and 14.2). The
// forward outlives the client while others wait for it.
func (x *exchange) request(fl *flight, f *found) (*http.Request, func()) {
	ctx, end := ownForwards.trace(x.mark(x.r.Context()))
	if fl.key != "" {
		untrace := end
		var land func()
		ctx, land = fl.outlive(ctx)
		end = func() { land(); untrace() }
	}
	req := x.toNext(ctx)
	asks := x.isConditional() || x.r.Header["Range"] != nil
	if x.r.Method == http.MethodGet && (f != nil || x.part != nil || asks && !x.goesAsItIs()) {
		req.Header = x.r.Header.Clone()
		if f != nil || !x.goesAsItIs() {
			httpcache.RemoveConditionals(req.Header)
		}
		if f != nil && x.isValidatable(f) {
			httpcache.AddValidators(req.Header, f.header())
		}
		if x.part != nil && !httpcache.AddRange(req.Header, x.part.f.header(), x.part.missing) {
			x.part = nil // nothing to say by that it is the same representation
		}
	}
	return req, end
}

// goesAsItIs reports whether the range that the client asks for, or its conditions, are
// the origin's to answer where nothing was found.
func (x *exchange) goesAsItIs() bool {
	return (x.r.Header["Range"] != nil || x.alone && x.isConditional()) && !isForError(x.r)
}

// isValidatable reports whether the origin can be asked whether a response is still good.
// Conditions count only where the answer without them were a success (RFC 9110, Section
// 13.2.1). Not every handler knows: file_server sends an error page without its body then.
func (x *exchange) isValidatable(f *found) bool {
	return f.resp.Status/100 == 2 && f.resp.Terms.Flags.Has(httpcache.HasValidator) && !isForError(x.r)
}

// asRequest is what the rules need to know of the request.
func (x *exchange) asRequest() httpcache.Request {
	r := httpcache.Request{Method: x.r.Method, Header: x.r.Header}
	if r.Method == http.MethodPost {
		r.URL = x.absoluteURL() // for others it does not matter
	}
	return r
}

// absoluteURL is the URL as the client asked for it.
func (x *exchange) absoluteURL() *url.URL {
	u, err := url.Parse(x.asked)
	if err != nil {
		return x.r.URL
	}
	return u
}

// first returns the first of a field's values, "" if there is none. (To get it by any
// spelling of the field's name costs as much as to find it.)
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// contentLength returns the Content-Length of a header, −1 if there is none.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(first(h["Content-Length"])), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
