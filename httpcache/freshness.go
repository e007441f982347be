package httpcache

import (
	"net/http"
	"time"
)

const (
	// heuristicFraction is the part of the time since its last modification for which a response is taken to be fresh.
	// RFC 9111, Section 4.2.2.
	heuristicFraction = 10
	// maxHeuristic bounds that part: a page that was not touched for ten years may still be touched today.
	maxHeuristic = 24 * time.Hour
)

// lifetimeSource is where a freshness lifetime comes from.
type lifetimeSource uint8

const (
	noLifetime lifetimeSource = iota
	explicitLifetime
	configuredLifetime
	heuristicLifetime
)

// freshnessLifetime returns the freshness lifetime of a response in milliseconds, 0 where it has none.
//
// RFC 9111, Section 4.2.1: s-maxage, then max-age, then Expires; then what is configured, then heuristics.
func (p *Policy) freshnessLifetime(d *responseDirectives, status int, h http.Header, received time.Time) (int64, lifetimeSource) {
	if ms, ok := explicitFreshness(d, h, received); ok {
		return p.bound(ms), explicitLifetime
	}
	if ttl, ok := p.TTL[status]; ok {
		return ttl.Milliseconds(), configuredLifetime
	}
	if ms, ok := p.heuristicFreshness(d, status, h, received); ok {
		return p.bound(ms), heuristicLifetime
	}
	return 0, noLifetime
}

// bound keeps the origin's freshness between the policy's bounds.
func (p *Policy) bound(ms int64) int64 {
	if p.MinTTL > 0 {
		ms = max(ms, p.MinTTL.Milliseconds())
	}
	if p.MaxTTL > 0 {
		ms = min(ms, p.MaxTTL.Milliseconds())
	}
	return ms
}

// explicitFreshness returns the lifetime that the response names, in milliseconds.
func explicitFreshness(d *responseDirectives, h http.Header, received time.Time) (ms int64, ok bool) {
	if d.sMaxAge != absent {
		return d.sMaxAge * 1000, true
	}
	if d.maxAge != absent {
		return d.maxAge * 1000, true
	}
	// RFC 9213, Section 2.2: a targeted field makes Expires of no effect.
	if _, ok := h["Expires"]; !ok || d.targeted {
		return 0, false
	}
	// RFC 9111, Section 5.3: an invalid date, especially "0", is in the past; so are several.
	expires, ok := dateField(h, "Expires", received)
	if !ok {
		return 0, true
	}
	return min(max(0, expires.Unix()-dateOr(h, received).Unix()), maxDelta) * 1000, true
}

// dateOr returns the response's Date, or received where it has no valid one (RFC 9110, Section 6.6.1).
func dateOr(h http.Header, received time.Time) time.Time {
	if date, ok := dateField(h, "Date", received); ok {
		return date
	}
	return received
}

// heuristicFreshness guesses a lifetime, in milliseconds, from how long ago the response was last modified.
func (p *Policy) heuristicFreshness(d *responseDirectives, status int, h http.Header, received time.Time) (ms int64, ok bool) {
	switch {
	case p.Heuristic == HeuristicOff, p.Heuristic == HeuristicSuccess && status >= 400:
		return 0, false
	case !isHeuristicallyCacheable(status) && !d.public:
		return 0, false
	}
	modified, ok := dateField(h, "Last-Modified", received)
	if !ok {
		return 0, false
	}
	since := dateOr(h, received).Unix() - modified.Unix()
	if since <= 0 {
		return 0, false
	}
	return min(since*1000/heuristicFraction, maxHeuristic.Milliseconds()), true
}

// isHeuristicallyCacheable reports whether the status is cacheable without a word. RFC 9110, Section 15.1.
func isHeuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}
