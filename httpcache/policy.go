package httpcache

import "time"

// Policy is what a cache has been configured to do where the RFCs leave a choice.
// The zero value does all that RFC 9111 lets a shared cache do. It is read only once in use, and then safe for
// concurrent use.
type Policy struct {
	// TTL is the freshness lifetime, by status code, of responses that name none. It takes precedence over heuristics.
	TTL map[int]time.Duration

	// MinTTL and MaxTTL bound the freshness that the origin gives, in words or by heuristics. 0 is no bound.
	// Neither lets anything be stored that the origin forbids to store.
	MinTTL, MaxTTL time.Duration

	// StaleWhileRevalidate and StaleIfError are the windows of RFC 5861 for responses that name none. 0 is none.
	StaleWhileRevalidate, StaleIfError time.Duration

	// Targeted are the names of the targeted fields (RFC 9213) that are obeyed, most specific first.
	Targeted []string

	// IgnoreRequest makes the request's Cache-Control and Pragma of no effect.
	IgnoreRequest bool

	SetCookie SetCookie
	Heuristic Heuristic

	// NoVarySearch lets No-Vary-Search widen what a stored response is used for. It is for the caller, who owns the key.
	NoVarySearch bool
}

// SetCookie says what becomes of a response with Set-Cookie.
type SetCookie uint8

// The ways with a response that sets a cookie.
const (
	StoreCookie  SetCookie = iota // store it, cookie and all: RFC 9111, Section 7.3
	BypassCookie                  // do not store it
	StripCookie                   // store it without the cookie
)

// Heuristic says which responses get a freshness lifetime by heuristics (RFC 9111, Section 4.2.2).
type Heuristic uint8

// The uses of heuristics.
const (
	HeuristicAll     Heuristic = iota // all that RFC 9111 allows
	HeuristicSuccess                  // of those, not the errors: 4xx and 5xx
	HeuristicOff                      // none
)

// Safe returns the cautious policy of a reverse proxy: clients cannot force the cache, cookies are not shared, and
// errors are only kept when the origin says for how long.
func Safe() Policy {
	return Policy{IgnoreRequest: true, SetCookie: BypassCookie, Heuristic: HeuristicSuccess}
}
