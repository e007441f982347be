package fluster

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// serve answers from a stored response.
func (x *exchange) serve(f *found) error {
	x.status = x.hitStatus(f)
	return x.write(f)
}

// hitStatus counts a hit, and returns what is told of it.
func (x *exchange) hitStatus(f *found) httpcache.CacheStatus {
	ttl := f.termsAt(x.now).TTL(x.now)
	metrics.hit(f.where, ttl)
	s := httpcache.CacheStatus{Hit: true, TTL: ttl, HasTTL: true}
	if ttl > 0 {
		s.Detail = f.where
	}
	return s
}

// write sends a stored response, or the part or the 304 that the client asks for.
func (x *exchange) write(f *found) error {
	if x.isConditional() && httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, f.resp.Status, f.header(), x.now) {
		x.writeHead(f, httpcache.NotModifiedHeader(f.header()))
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if f.resp.Status == http.StatusOK && x.r.Header["Range"] != nil {
		if done, err := x.writeRanges(f); done {
			return err
		}
	}
	h := x.w.Header()
	delete(h, "Server")
	values := make([]string, 0, len(f.resp.Header))
	for _, l := range f.lines {
		// The lines are shared by all requests; whoever changes them in place
		// must not change ours.
		if l.added && len(h[l.name]) > 0 {
			h[l.name] = slices.Concat(h[l.name], l.values)
			continue
		}
		n := len(values)
		values = append(values, l.values...)
		h[l.name] = values[n:len(values):len(values)]
	}
	x.writeAge(h, f)
	x.tell(h)
	if mayHaveBody(f.resp.Status) {
		h["Content-Length"] = []string{strconv.FormatInt(f.resp.BodySize, 10)}
	}
	x.w.WriteHeader(f.resp.Status)
	if x.r.Method == http.MethodHead || !mayHaveBody(f.resp.Status) {
		return nil
	}
	x.w.Write(f.resp.Body) //nolint:errcheck // a client that went away is nobody's fault
	return nil
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
		h[name] = append([]string(nil), values...)
	}
	x.writeAge(h, f)
	x.tell(h)
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
