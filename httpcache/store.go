package httpcache

import (
	"net/http"
	"net/url"
	"strings"
)

// Verdict is MayStore's answer.
type Verdict struct {
	Store bool

	// Detail is why it is not stored, one token for the detail of Cache-Status: "method", "status", "no-store",
	// "must-understand", "private", "vary", "authorization", "set-cookie", "range" or "no-freshness". Else it is empty.
	Detail string

	Terms     Terms
	Nominated []string // the request fields that Vary names: lower case, sorted, each once
	Drop      []string // canonical names of the response's fields that are not stored
}

// MayStore decides whether the response to req, with status and header h, may be stored and what may be done with it.
// The header is as it came, hop-by-hop fields and all. RFC 9111, Section 3.
//
// A response that may be stored but could never be used is not: one that is stale when it comes, and neither has a
// validator nor may be served stale.
func (p *Policy) MayStore(req Request, status int, h http.Header, t Times) Verdict {
	d := p.responseDirectives(h)
	if why := p.forbidden(&req, status, h, &d); why != "" {
		return Verdict{Detail: why}
	}
	v := Verdict{Drop: d.fields}
	var ok bool
	if v.Nominated, ok = nominated(h); !ok {
		return Verdict{Detail: "vary"}
	}
	// RFC 9111, Section 3.5. What Vary nominates is no permission.
	if _, ok := req.Header["Authorization"]; ok && !d.allowsAuthorized() {
		return Verdict{Detail: "authorization"}
	}
	if hasCookie(h, v.Drop) {
		switch p.SetCookie {
		case BypassCookie:
			return Verdict{Detail: "set-cookie"}
		case StripCookie:
			v.Drop = append(v.Drop, "Set-Cookie", "Set-Cookie2")
		}
	}
	lifetime, source := p.freshnessLifetime(&d, status, h, t.Received)
	if !cacheable(&req, status, &d, source) {
		return Verdict{Detail: "no-freshness"}
	}
	v.Terms = p.terms(&d, h, t, lifetime, source)
	if status == http.StatusPartialContent {
		v.Terms.Flags |= Partial
	}
	if !p.isUseful(&v.Terms, source) {
		return Verdict{Detail: "no-freshness"}
	}
	v.Store = true
	return v
}

// forbidden returns why the response may not be stored whatever its freshness, or "".
func (p *Policy) forbidden(req *Request, status int, h http.Header, d *responseDirectives) (why string) {
	switch req.Method {
	case http.MethodGet:
	case http.MethodPost:
		// RFC 9110, Section 9.3.3: it is then what a GET of the same URI would get.
		if status != http.StatusOK || !locatesItself(req, h) {
			return "method"
		}
	default:
		return "method"
	}
	if status < 200 || status > 999 || !isStorable(status) {
		return "status"
	}
	if !p.IgnoreRequest && ParseRequestDirectives(req.Header).noStore {
		return "no-store"
	}
	// RFC 9111, Section 5.2.2.3: a status that we understand makes the no-store that goes with it of no effect.
	if d.mustUnderstand && !isUnderstood(status) {
		return "must-understand"
	}
	if d.noStore && !d.mustUnderstand {
		return "no-store"
	}
	if d.private {
		return "private"
	}
	if !isWhole(req, status, h) {
		return "range"
	}
	return ""
}

// isStorable reports whether a response with the final status is ever an answer to another request.
func isStorable(status int) bool {
	switch status {
	case http.StatusNotModified:
		return false // it updates what is stored
	case http.StatusPreconditionFailed:
		return false // it answers the conditions of one request
	case http.StatusPreconditionRequired, http.StatusTooManyRequests,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired:
		return false // RFC 6585, Sections 3 to 6: "MUST NOT be stored by a cache"
	}
	return true
}

// isUnderstood reports whether the status is one whose requirements for caching this package knows: those of RFC 9110.
func isUnderstood(status int) bool {
	switch {
	case 200 <= status && status <= 206, 300 <= status && status <= 303, status == 305, 307 <= status && status <= 308:
		return true
	case 400 <= status && status <= 411, 413 <= status && status <= 417, 421 <= status && status <= 422, status == 426:
		return true
	}
	return 500 <= status && status <= 505
}

// isWhole reports whether the response is not a part of one, or one part that says which. RFC 9111, Section 3.3.
func isWhole(req *Request, status int, h http.Header) bool {
	switch status {
	case http.StatusPartialContent:
		_, ok := ContentRangeOf(h)
		return ok
	case http.StatusRequestedRangeNotSatisfiable:
		// The key does not have the range; a request without would get this.
		return len(req.Header["Range"]) == 0
	}
	return true
}

// allowsAuthorized reports whether the response to a request with Authorization may be stored. RFC 9111, Section 3.5.
func (d *responseDirectives) allowsAuthorized() bool {
	return d.public || d.mustRevalidate || d.sMaxAge != absent && !d.badSMaxAge
}

// hasCookie reports whether the response sets a cookie that is stored, dropped fields being none.
func hasCookie(h http.Header, dropped []string) bool {
	for _, name := range []string{"Set-Cookie", "Set-Cookie2"} {
		if len(h[name]) > 0 && !containsFold(dropped, name) {
			return true
		}
	}
	return false
}

// cacheable reports whether anything allows the response to be stored: an explicit lifetime, public, a status that is
// heuristically cacheable, or the configuration. RFC 9111, Section 3.
func cacheable(req *Request, status int, d *responseDirectives, source lifetimeSource) bool {
	if req.Method == http.MethodPost {
		return source == explicitLifetime // RFC 9110, Section 9.3.3
	}
	return source != noLifetime || d.public || isHeuristicallyCacheable(status)
}

// locatesItself reports whether the Content-Location of the response is the URI of its request.
func locatesItself(req *Request, h http.Header) bool {
	lines := h["Content-Location"]
	if len(lines) != 1 || req.URL == nil {
		return false
	}
	ref, err := url.Parse(strings.Trim(lines[0], " \t"))
	return err == nil && uri(req.URL.ResolveReference(ref)) == uri(req.URL)
}

// terms sets down what may be done with the response.
func (p *Policy) terms(d *responseDirectives, h http.Header, t Times, lifetime int64, source lifetimeSource) Terms {
	received := t.Received.UnixMilli()
	born := received - correctedInitialAge(h, t)
	terms := Terms{Received: received, Born: born, FreshUntil: born + lifetime}
	flag := func(set bool, f Flags) {
		if set {
			terms.Flags |= f
		}
	}
	// RFC 9111, Section 5.2.2.10: s-maxage implies proxy-revalidate.
	flag(d.mustRevalidate || d.proxyRevalidate || d.sMaxAge != absent, MustRevalidate)
	flag(d.noCache, NoCache)
	flag(hasValidator(h, t.Received, d.fields), HasValidator)
	flag(d.immutable, Immutable)
	flag(source == heuristicLifetime, HeuristicLifetime)
	flag(source == configuredLifetime, ConfiguredLifetime)
	p.setWindows(&terms, d)
	return terms
}

// Unstored returns the terms of a response with the header h that is used once: its age, and no freshness.
func Unstored(h http.Header, t Times) Terms {
	received := t.Received.UnixMilli()
	born := received - correctedInitialAge(h, t)
	return Terms{Received: received, Born: born, FreshUntil: born}
}

// setWindows sets for how long the response may be used stale.
//
// RFC 9111, Section 4.2.4: not at all where must-revalidate, proxy-revalidate or no-cache forbids it. s-maxage forbids it
// too, but by implication: a window that the same response names is the more specific word (RFC 5861), one that is only
// configured is not.
func (p *Policy) setWindows(t *Terms, d *responseDirectives) {
	if d.mustRevalidate || d.proxyRevalidate || d.noCache {
		return
	}
	window := func(named int64, configured int64) int64 {
		switch {
		case named != absent:
			return named * 1000
		case d.sMaxAge != absent:
			return 0
		}
		return max(0, configured)
	}
	t.StaleWhileRevalidate = window(d.swr, p.StaleWhileRevalidate.Milliseconds())
	t.StaleIfError = window(d.sie, p.StaleIfError.Milliseconds())
	if d.sie != absent || t.StaleIfError > 0 {
		t.Flags |= BoundedError
	}
}

// isUseful reports whether there will ever be a request that the response serves.
func (p *Policy) isUseful(t *Terms, source lifetimeSource) bool {
	switch {
	case t.Flags.Has(HasValidator):
		return true
	case t.Flags.Has(NoCache):
		return false
	}
	usable := t.FreshUntil + max(t.StaleWhileRevalidate, t.StaleIfError)
	if t.Received < usable {
		return true
	}
	// A client that is obeyed can ask for it with max-stale.
	return source == explicitLifetime && !p.IgnoreRequest && !t.Flags.Has(MustRevalidate)
}
