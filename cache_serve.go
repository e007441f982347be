package fluster

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// serve answers from a stored response.
func (x *exchange) serve(f *found) error {
	x.noteHit(f)
	return x.write(f)
}

// noteHit counts a hit, and notes what is told of it.
func (x *exchange) noteHit(f *found) {
	ttl := f.termsAt(x.now).TTL(x.now)
	metrics.hit(f.where, ttl)
	x.status = httpcache.CacheStatus{Hit: true, TTL: ttl, HasTTL: true}
	if ttl > 0 {
		x.status.Detail = f.where
	}
}

// write sends a stored response, or the part or the 304 that the client asks for.
// On a hit nothing from here on may keep x, which is used again (see exchange.end).
func (x *exchange) write(f *found) error {
	if x.isConditional() && x.isNotModified(f.entry) {
		x.writeNotModified(f)
		return nil
	}
	if f.resp.Status == http.StatusOK && x.r.Header["Range"] != nil && mayDivide(&f.resp.Terms) {
		if done, err := x.writeRanges(f); done {
			return err
		}
	}
	t := x.writeLines(f, false)
	if mayHaveBody(f.resp.Status) {
		x.w.Header()["Content-Length"] = x.own(t.length)
	}
	x.w.WriteHeader(f.resp.Status)
	if x.r.Method == http.MethodHead || !mayHaveBody(f.resp.Status) {
		return nil
	}
	x.send(f, httpcache.Range{Length: f.resp.BodySize})
	return nil
}

// writeNotModified tells the client that its own copy is still good.
func (x *exchange) writeNotModified(f *found) {
	x.writeLines(f, true)
	x.w.WriteHeader(http.StatusNotModified)
}

// isNotModified reports whether the client's copy is still good, by the stored
// response's validators.
func (x *exchange) isNotModified(e *entry) bool {
	stored := make(http.Header, 3) // all that counts; it stays on the stack
	for _, name := range [...]string{"Etag", "Last-Modified", "Date"} {
		if values := e.values(name); values != nil {
			stored[name] = values
		}
	}
	return httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, e.resp.Status, stored, x.now)
}

// writeLines sets the header of a stored response, or of its 304.
func (x *exchange) writeLines(f *found, notModified bool) *told {
	h := x.w.Header()
	delete(h, "Server")
	hasETag := notModified && f.field("Etag") != ""
	all := f.storedLines()
	own := x.own(all.values...) // all at once: one by one they would take as long as the map
	for i := range all.lines {
		l := &all.lines[i]
		n := len(l.values)
		values := own[:n:n]
		own = own[n:]
		switch {
		case notModified && !httpcache.InNotModified(l.name, hasETag):
		case l.added && len(h[l.name]) > 0:
			h[l.name] = slices.Concat(h[l.name], l.values)
		default:
			h[l.name] = values
		}
	}
	f.keepUntyped(h)
	t := x.toldOf(f)
	if x.status.Hit {
		x.text = t.status
	}
	h["Age"] = x.own(t.age)
	switch before := h["Cache-Status"]; {
	case x.CacheStatus != "" && x.CacheStatus != "full" || !x.status.Hit:
		x.tell(h)
	case before != nil:
		h["Cache-Status"] = append(before, t.status)
	default:
		h["Cache-Status"] = x.own(t.status)
	}
	return t
}

// isConditional reports whether the client has a copy of its own.
func (x *exchange) isConditional() bool {
	return x.r.Header["If-None-Match"] != nil || x.r.Header["If-Modified-Since"] != nil
}

// writeHead sets the header of a response made from a stored one.
func (x *exchange) writeHead(f *found, header http.Header) {
	h := x.w.Header()
	delete(h, "Server")
	for name, values := range header {
		if f.isAdded(name) {
			h[name] = slices.Concat(h[name], values)
			continue
		}
		h[name] = slices.Clone(values)
	}
	f.keepUntyped(h)
	x.writeAge(h, f)
	x.tell(h)
}

// keepUntyped keeps the server from guessing a Content-Type that the handler did not want
// guessed: who may upload a file could else have it shown as a page.
func (e *entry) keepUntyped(h http.Header) {
	if e.resp.Terms.Flags.Has(httpcache.Untyped) && len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil
	}
}

func (x *exchange) writeAge(h http.Header, f *found) {
	var age [20]byte
	h["Age"] = []string{string(httpcache.AppendAge(age[:0], f.resp.Terms.Age(x.now)))}
}

// mayHaveBody reports whether responses of this status have a body.
func mayHaveBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified && status >= 200
}

// keepFor returns how long a response is kept: as long as it can be of use, and
// then for a while to be validated, or to be served when the origin fails.
func keepFor(t *httpcache.Terms, now time.Time) time.Duration {
	fresh := time.Duration(t.FreshUntil-now.UnixMilli()) * time.Millisecond
	stale := time.Duration(max(t.StaleWhileRevalidate, t.StaleIfError)) * time.Millisecond
	grace := min(max(fresh, minGrace), maxGrace)
	return min(max(fresh, 0)+max(stale, grace), maxKeep)
}

const (
	minGrace = time.Minute
	maxGrace = 24 * time.Hour
	maxKeep  = 365 * 24 * time.Hour
	// keepList is how long the list of a URL's variants is kept at least.
	keepList = 30 * 24 * time.Hour
)
