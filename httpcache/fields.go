package httpcache

import (
	"net/http"
	"slices"
	"strings"
)

// IsHopByHop reports whether the field of the canonical name is for one connection or one proxy only.
// RFC 9110, Section 7.6.1; RFC 9111, Section 3.1.
func IsHopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization":
		return true
	}
	// net/http carries trailers that were not announced under such names.
	return strings.HasPrefix(name, http.TrailerPrefix)
}

// EndToEnd returns a copy of h without the fields that are for one connection only, those that Connection names, and the
// announcement of trailers. The copy shares nothing with h.
func EndToEnd(h http.Header) http.Header {
	named := ConnectionOptions(h)
	kept, n := 0, 0
	for name, lines := range h {
		if !IsHopByHop(name) && !slices.Contains(named, name) {
			kept++
			n += len(lines)
		}
	}
	out := make(http.Header, kept)
	all := make([]string, 0, n) // one array for all lines
	for name, lines := range h {
		if !IsHopByHop(name) && !slices.Contains(named, name) {
			start := len(all)
			all = append(all, lines...)
			out[name] = all[start:len(all):len(all)]
		}
	}
	return out
}

// ConnectionOptions returns the canonical names of the fields that Connection names.
func ConnectionOptions(h http.Header) []string {
	var names []string
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); isToken(name) {
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	return names
}

// Freshen returns the stored header as a 304 (Not Modified), or the response to a HEAD, with the header fresh updates
// it: each of fresh's fields replaces the stored one, all lines of it. Neither argument is changed. RFC 9111, Section 3.2.
//
// Not updated are the fields of one connection, and those that describe the stored bytes: Content-Length,
// Content-Encoding and Content-Range. Age and Date are those of the message that came last: where fresh has none, the
// result has none, and the caller adds the date on which it came (RFC 9110, Section 6.6.1).
func Freshen(stored, fresh http.Header) http.Header {
	out := EndToEnd(stored)
	delete(out, "Age")
	delete(out, "Date")
	for name, lines := range EndToEnd(fresh) {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Range":
			continue
		}
		out[name] = lines
	}
	return out
}

// containsFold reports whether names has the name, in any case.
func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, name) })
}
