package httpcache

import (
	"net/http"
	"net/url"
	"strings"
)

// Request is what the rules need to know of a request.
type Request struct {
	Method string
	URL    *url.URL // absolute, as the client asked
	Header http.Header
}

// RequestDirectives are the cache directives of a request (RFC 9111, Section 5.2.1; RFC 5861, Section 4).
// The zero value is a request without any.
type RequestDirectives struct {
	noStore, noCache, onlyIfCached bool

	// Bits for the numbers below: the zero value must mean that none was given.
	hasMaxAge, hasMaxStale, hasMinFresh, hasStaleIfError bool

	maxAge, minFresh, maxStale, staleIfError int64 // seconds
}

// NoStore reports whether the client asks to store neither its request nor the response.
func (d RequestDirectives) NoStore() bool { return d.noStore }

// NoCache reports whether the client asks for validation before anything stored is used.
func (d RequestDirectives) NoCache() bool { return d.noCache }

// OnlyIfCached reports whether the client wants a stored response or none: 504 (Gateway Timeout).
func (d RequestDirectives) OnlyIfCached() bool { return d.onlyIfCached }

// RequestDirectives returns the directives of a request that this policy obeys: none if it ignores the request's.
func (p *Policy) RequestDirectives(h http.Header) RequestDirectives {
	if p.IgnoreRequest {
		return RequestDirectives{}
	}
	return ParseRequestDirectives(h)
}

// ParseRequestDirectives returns the directives of a request with the header h.
// It does not allocate for requests that have none.
func ParseRequestDirectives(h http.Header) RequestDirectives {
	var d RequestDirectives
	lines, ok := h["Cache-Control"]
	if !ok {
		// RFC 9111, Section 5.4: Pragma counts only where there is no Cache-Control.
		if lines, ok = h["Pragma"]; ok {
			d.noCache = hasNoCache(lines)
		}
		return d
	}
	s := directiveScanner{lines: lines}
	for s.next() {
		d.set(&s.directive)
	}
	return d
}

// set takes one directive over. Of several, the most restrictive one counts.
func (d *RequestDirectives) set(x *directive) {
	seconds, ok := parseDelta(x.arg)
	ok = ok && !x.malformed
	switch strings.ToLower(x.name) {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "only-if-cached":
		d.onlyIfCached = true
	case "max-age":
		if !ok {
			seconds = 0
		}
		if !d.hasMaxAge || seconds < d.maxAge {
			d.hasMaxAge, d.maxAge = true, seconds
		}
	case "min-fresh":
		if ok && (!d.hasMinFresh || seconds > d.minFresh) {
			d.hasMinFresh, d.minFresh = true, seconds
		}
	case "max-stale":
		// RFC 9111, Section 5.2.1.2: without a number, any staleness will do.
		if !x.hasArg && !x.malformed {
			seconds, ok = maxDelta, true
		}
		if ok && (!d.hasMaxStale || seconds < d.maxStale) {
			d.hasMaxStale, d.maxStale = true, seconds
		}
	case "stale-if-error":
		if ok && (!d.hasStaleIfError || seconds < d.staleIfError) {
			d.hasStaleIfError, d.staleIfError = true, seconds
		}
	}
}

// hasNoCache reports whether the lines of a Pragma field have no-cache.
func hasNoCache(lines []string) bool {
	s := directiveScanner{lines: lines}
	for s.next() {
		if strings.EqualFold(s.name, "no-cache") {
			return true
		}
	}
	return false
}
