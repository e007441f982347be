package httpcache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// IsSafe reports whether the method is known to change nothing (RFC 9110, Section 9.2.1, and the registry it makes).
func IsSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "PROPFIND", "REPORT", "SEARCH", "QUERY":
		return true
	}
	return false
}

// Invalidates reports whether a response with status to a request with method makes what is stored for its URI
// invalid: the method is unsafe or unknown, and the response no error. RFC 9111, Section 4.4.
func Invalidates(method string, status int) bool {
	return !IsSafe(method) && 200 <= status && status <= 399
}

// InvalidatedURIs returns the URIs that a response with the header h, to an unsafe request for target, invalidates:
// target itself, and Location and Content-Location where they are of the same origin. RFC 9111, Section 4.4.
//
// A URI is written as a client asks for it: scheme, host in lower case without a default port, raw path, raw query.
func InvalidatedURIs(target *url.URL, h http.Header) []string {
	uris := []string{uri(target)}
	for _, name := range []string{"Location", "Content-Location"} {
		lines := h[name]
		if len(lines) == 0 {
			continue
		}
		ref, err := url.Parse(strings.Trim(lines[0], " \t"))
		if err != nil {
			continue
		}
		located := target.ResolveReference(ref)
		if located.Scheme != target.Scheme || host(located) != host(target) {
			continue
		}
		if s := uri(located); !slices.Contains(uris, s) {
			uris = append(uris, s)
		}
	}
	return uris
}

// uri returns the URL without user and fragment, in the form that InvalidatedURIs says.
func uri(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteString("://")
	b.WriteString(host(u))
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		b.WriteByte('/')
	}
	b.WriteString(path)
	if u.RawQuery != "" || u.ForceQuery {
		b.WriteByte('?')
		b.WriteString(u.RawQuery)
	}
	return b.String()
}

// host returns the host and port of the URL in lower case, without the default port of its scheme.
func host(u *url.URL) string {
	h := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		h = strings.TrimSuffix(h, ":80")
	case "https":
		h = strings.TrimSuffix(h, ":443")
	}
	return strings.TrimSuffix(h, ":")
}
