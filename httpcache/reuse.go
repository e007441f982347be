package httpcache

import "time"

// Use is what may be done with a stored response.
type Use uint8

// The uses of a stored response.
const (
	UseValidate        Use = iota // validate it with the origin before it is used
	UseFresh                      // serve it
	UseStale                      // serve it, although it is stale
	UseStaleRevalidate            // serve it, although it is stale, and validate it in the background
)

// Reuse is ReuseFor's answer. Its zero value is the strictest one.
type Reuse struct {
	Use Use

	// Request reports whether it is the request that asks for validation (fwd=request in Cache-Status), not the
	// stored response (fwd=stale).
	Request bool

	// IfError reports whether the stored response may be served when its validation fails: a 5xx, no connection, or
	// one that broke off before the head of a response.
	IfError bool
}

// maxSkew is by how many milliseconds a response may have come later than now: the clocks of several caches differ
// somewhat. One that came later still is from before this clock was set back, or by another one that is wrong. Nobody
// knows its age then, and it is validated.
const maxSkew = 10_000

// ReuseFor says what may be done at the instant now with a stored response of the terms t for a request with the
// directives d. RFC 9111, Section 4.
func (p *Policy) ReuseFor(d RequestDirectives, t *Terms, now time.Time) Reuse {
	if p.IgnoreRequest {
		d = RequestDirectives{}
	}
	ms := now.UnixMilli()
	if t.Received-ms > maxSkew {
		doubted := *t
		doubted.FreshUntil = min(t.FreshUntil, ms)
		return Reuse{IfError: d.mayServeOnError(&doubted, ms)}
	}
	fresh := ms < t.FreshUntil
	if d == (RequestDirectives{}) && fresh && t.Flags&NoCache == 0 {
		return Reuse{Use: UseFresh}
	}
	r := Reuse{IfError: d.mayServeOnError(t, ms)}
	switch {
	case t.Flags.Has(NoCache):
		r.Request = d.noCache && fresh
	case d.noCache:
		r.Request = true
	case fresh:
		r.Request = !d.accepts(t, ms)
		if !r.Request {
			r.Use = UseFresh
		}
	case d.hasMaxAge && !d.hasMaxStale || d.hasMinFresh:
		// RFC 9111, Sections 5.2.1.1 and 5.2.1.3: the client does not want anything stale.
	case ms < t.FreshUntil+t.StaleWhileRevalidate && d.accepts(t, ms):
		r.Use = UseStaleRevalidate
	case d.hasMaxStale && !t.Flags.Has(MustRevalidate) && ms-t.FreshUntil <= d.maxStale*1000 && d.accepts(t, ms):
		r.Use = UseStale
	}
	if r.Use == UseFresh {
		r.IfError = false // there is nothing to validate
	}
	return r
}

// accepts reports whether the age and, for a fresh response, the remaining freshness are what the client asked for.
func (d *RequestDirectives) accepts(t *Terms, ms int64) bool {
	fresh := ms < t.FreshUntil
	// RFC 8246, Section 2: while it is fresh, only no-cache makes an immutable response be validated.
	if d.hasMaxAge && !(fresh && t.Flags.Has(Immutable)) {
		// An age of less than a millisecond is not 0.
		if d.maxAge == 0 || ms-t.Born > d.maxAge*1000 {
			return false
		}
	}
	return !d.hasMinFresh || t.FreshUntil-ms >= d.minFresh*1000
}

// mayServeOnError reports whether the response may be served when the origin fails.
//
// RFC 9111, Section 4.2.4: what is stale may be served when the cache is disconnected, unless no-cache, must-revalidate,
// proxy-revalidate or s-maxage forbids it. RFC 5861, Section 4: stale-if-error bounds how stale, and permits it.
func (d *RequestDirectives) mayServeOnError(t *Terms, ms int64) bool {
	if d.noCache || t.Flags.Has(NoCache) {
		return false
	}
	stale := ms - t.FreshUntil
	if stale < 0 || stale < t.StaleWhileRevalidate || stale < t.StaleIfError {
		return true
	}
	if t.Flags.Has(MustRevalidate) {
		return false
	}
	if d.hasStaleIfError {
		return stale < d.staleIfError*1000
	}
	return !t.Flags.Has(BoundedError)
}
