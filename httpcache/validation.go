package httpcache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RemoveConditionals removes from a request's header what makes it conditional, or ask for a part: the client's
// validators are about the client's copy, and the answer to them would be no answer to anyone else.
func RemoveConditionals(h http.Header) {
	for _, name := range []string{
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range",
	} {
		delete(h, name)
	}
}

// AddValidators makes the request with the header dst a conditional one, by the validators of the stored response, in
// place of its own conditions. RFC 9111, Section 4.3.1.
func AddValidators(dst, stored http.Header) {
	RemoveConditionals(dst)
	if etagOf(stored).is() {
		dst["If-None-Match"] = []string{strings.Trim(stored["Etag"][0], " \t")}
	}
	// The year of an RFC 850 date does not matter here: the field is sent as it came.
	if _, ok := dateField(stored, "Last-Modified", time.Time{}); ok {
		dst["If-Modified-Since"] = []string{stored["Last-Modified"][0]}
	}
}

// SelectedBy304 reports whether a 304 (Not Modified) with the header r304, to the conditional request for the stored
// response, is about that response and may update it. RFC 9111, Section 4.3.4: it is if both have the same strong
// validator; if the 304 has only weak ones, by these.
//
// A 304 without a validator is taken to be about what the request was about: it named this stored response only.
func SelectedBy304(stored, r304 http.Header) bool {
	got, have := etagOf(r304), etagOf(stored)
	switch {
	case got.isStrong():
		return got.strongly(have)
	case got.is():
		return got.weakly(have)
	}
	if modified := r304["Last-Modified"]; len(modified) > 0 {
		return sameField(modified, stored["Last-Modified"])
	}
	return true
}

// HeadFreshens reports whether the 200 (OK) response to a HEAD, with the header head, is about the stored response of
// length bytes (−1: unknown), and may update it: all validators that it has, and Content-Length, are the stored ones.
// If not, the stored response is to be taken as stale. RFC 9111, Section 4.3.5.
func HeadFreshens(stored, head http.Header, length int64) bool {
	for _, name := range []string{"Etag", "Last-Modified"} {
		if lines := head[name]; len(lines) > 0 && !sameField(lines, stored[name]) {
			return false
		}
	}
	lines := head["Content-Length"]
	if len(lines) == 0 {
		return true
	}
	n, err := strconv.ParseInt(strings.Trim(lines[0], " \t"), 10, 64)
	if err != nil {
		return false
	}
	if length < 0 {
		return sameField(lines, stored["Content-Length"])
	}
	return n == length
}

// sameField reports whether the first lines of a field are there and equal.
func sameField(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && strings.Trim(a[0], " \t") == strings.Trim(b[0], " \t")
}
