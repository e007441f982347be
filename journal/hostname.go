package journal

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// normalHost returns a host, or where it is ASCII the beginning of one, as clients
// send it: in lower case, and a name that is not ASCII by its ASCII one.
func normalHost(host string) (string, error) {
	if isASCII(host) {
		return strings.ToLower(host), nil
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	name, err := idna.Lookup.ToASCII(name)
	if err != nil || !utf8.ValidString(host) {
		return host, fmt.Errorf("host %q is not a host", clip(host))
	}
	return name + port, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// otherName returns what else a target selects that names the default port of http
// or https and may be of any scheme: of that one the same, with the port left out.
// ok is false for any other target.
func (t Target) otherName() (other Target, ok bool) {
	kind, scheme, site, path := t.Kind, "", t.Value, "/"
	switch kind {
	case URL, Prefix:
		scheme, site, _ = splitScheme(t.Value)
		if i := strings.IndexByte(site, '/'); i >= 0 {
			site, path = site[:i], site[i:]
		}
	case Host:
		kind = Prefix // of all its URLs
	default:
		return t, false
	}
	for _, s := range [...]string{"http", "https"} {
		if host := TrimDefaultPort(s, site); host != site && (scheme == "" || scheme == s) {
			other, err := NewTarget(kind, s+"://"+host+path, t.Soft)
			return other, err == nil
		}
	}
	return t, false
}
