package httpcache

import (
	"net/url"
	"slices"
	"testing"
)

// RFC 9111, Section 4.4.
func TestInvalidates(t *testing.T) {
	for _, row := range []struct {
		method string
		status int
		want   bool
	}{
		{"POST", 200, true}, {"PUT", 204, true}, {"DELETE", 202, true}, {"PATCH", 200, true}, {"FOO", 200, true},
		{"POST", 299, true}, {"POST", 302, true}, {"POST", 399, true},
		{"POST", 100, false}, {"POST", 400, false}, {"POST", 404, false}, {"POST", 500, false}, {"FOO", 503, false},
		{"GET", 200, false}, {"HEAD", 200, false}, {"OPTIONS", 200, false}, {"TRACE", 200, false},
		{"get", 200, true}, // methods have a case
	} {
		if got := Invalidates(row.method, row.status); got != row.want {
			t.Errorf("%s %d: got %t, want %t", row.method, row.status, got, row.want)
		}
	}
}

// RFC 9111, Section 4.4: other origins are nobody's to invalidate.
func TestInvalidatedURIs(t *testing.T) {
	for _, row := range []struct {
		name, target string
		lines        []string
		want         []string // after the target
	}{
		{"only the target", "https://example.com/a?b=1", nil, nil},
		{"Location", "https://example.com/a", []string{"Location: /b"}, []string{"https://example.com/b"}},
		{"Content-Location", "https://example.com/a", []string{"Content-Location: /b?c"}, []string{"https://example.com/b?c"}},
		{"both", "https://example.com/a", []string{"Location: /b", "Content-Location: /c"}, []string{"https://example.com/b", "https://example.com/c"}},
		{"both the same", "https://example.com/a", []string{"Location: /b", "Content-Location: /b"}, []string{"https://example.com/b"}},
		{"itself", "https://example.com/a", []string{"Location: /a"}, nil},
		{"relative", "https://example.com/a/b", []string{"Location: ../c"}, []string{"https://example.com/c"}},
		{"absolute", "https://example.com/a", []string{"Location: https://example.com/b#f"}, []string{"https://example.com/b"}},
		{"default port", "https://example.com/a", []string{"Location: https://EXAMPLE.com:443/b"}, []string{"https://example.com/b"}},
		{"without a scheme", "https://example.com/a", []string{"Location: //example.com/b"}, []string{"https://example.com/b"}},
		{"no path", "https://example.com/a", []string{"Location: https://example.com"}, []string{"https://example.com/"}},
		{"raw path", "https://example.com/a", []string{"Location: /%7Eb%2Fc"}, []string{"https://example.com/%7Eb%2Fc"}},
		{"another host", "https://example.com/a", []string{"Location: https://example.org/b"}, nil},
		{"another port", "https://example.com/a", []string{"Location: https://example.com:8443/b"}, nil},
		{"another scheme", "https://example.com/a", []string{"Location: http://example.com/b"}, nil},
		{"a user", "https://example.com/a", []string{"Location: https://u:p@example.com/b"}, []string{"https://example.com/b"}},
		{"no URI", "https://example.com/a", []string{"Location: http://[::1"}, nil},
	} {
		target, err := url.Parse(row.target)
		if err != nil {
			t.Fatal(err)
		}
		got := InvalidatedURIs(target, header(row.lines...))
		if want := append([]string{row.target}, row.want...); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", row.name, got, want)
		}
	}
}
