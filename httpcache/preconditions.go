package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// EvaluatePreconditions reports whether a request with the header reqHeader is to be answered with 304 (Not Modified)
// from the stored response with status and the header stored, instead of with the response itself.
// RFC 9111, Section 4.3.2; RFC 9110, Section 13.2.2.
//
// If-Match and If-Unmodified-Since are for the origin alone; they never hold for a stored response.
func EvaluatePreconditions(method string, reqHeader http.Header, status int, stored http.Header, now time.Time) (notModified bool) {
	if method != http.MethodGet && method != http.MethodHead {
		return false
	}
	// RFC 9110, Section 13.2.1: conditions count only where the answer without them were a success.
	if status < 200 || status > 299 {
		return false
	}
	if lines := reqHeader["If-None-Match"]; len(lines) > 0 {
		return listsETag(lines, etagOf(stored))
	}
	if len(reqHeader["If-Modified-Since"]) == 0 {
		return false
	}
	since, ok := dateField(reqHeader, "If-Modified-Since", now)
	if !ok {
		return false
	}
	modified, ok := dateField(stored, "Last-Modified", now)
	if !ok {
		if modified, ok = dateField(stored, "Date", now); !ok {
			return false
		}
	}
	return !modified.After(since)
}

// NotModifiedHeader returns the fields of the stored response that its 304 (Not Modified) has, sharing their lines.
// Age and Cache-Status are the caller's.
func NotModifiedHeader(stored http.Header) http.Header {
	h := make(http.Header, 8)
	hasETag := etagOf(stored).is()
	for name, lines := range stored {
		if InNotModified(name, hasETag) {
			h[name] = lines
		}
	}
	return h
}

// InNotModified reports whether a field of a stored response, by its canonical name, is in its 304 (Not Modified): what
// RFC 9110, Section 15.4.5 names, the targeted fields for the caches to come (RFC 9213), and, where there is no entity
// tag, Last-Modified.
func InNotModified(name string, hasETag bool) bool {
	switch name {
	case "Etag", "Date", "Expires", "Cache-Control", "Vary", "Content-Location":
		return true
	case "Last-Modified":
		return !hasETag
	}
	return strings.HasSuffix(name, "-Cache-Control")
}
