package fluster

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestKeyNames is what two requests have to have in common to be the same.
func TestKeyNames(t *testing.T) {
	tests := []struct {
		name   string
		key    *Key
		target string
		host   string
		tls    bool
		header http.Header
		want   string // the key
		sent   string // what the origin is asked for, if not the target
	}{
		{name: "plain", target: "/a?b=1", want: "http://example.com/a?b=1"},
		{name: "TLS", target: "/a", tls: true, want: "https://example.com/a"},
		{name: "host in lower case", target: "/a", host: "EXAMPLE.com", want: "http://example.com/a"},
		{name: "default port", target: "/a", host: "example.com:80", want: "http://example.com/a"},
		{name: "default port of TLS", target: "/a", host: "example.com:443", tls: true, want: "https://example.com/a"},
		{name: "another scheme's port", target: "/a", host: "example.com:443", want: "http://example.com:443/a"},
		{name: "port", target: "/a", host: "example.com:8080", want: "http://example.com:8080/a"},
		{name: "IPv6", target: "/a", host: "[::1]:80", want: "http://[::1]/a"},
		{name: "path as it was sent", target: "/A%2fb//c/%7E", want: "http://example.com/A%2fb//c/%7E"},
		{name: "query as it was sent", target: "/?b=2&a=1&b", want: "http://example.com/?b=2&a=1&b"},
		{name: "empty query", target: "/a?", want: "http://example.com/a?"},
		{name: "allow", key: &Key{QueryAllow: []string{"page", "q"}}, target: "/a?x=1&q=z&page=2&y", want: "http://example.com/a?q=z&page=2", sent: "/a?q=z&page=2"},
		{name: "allow none of them", key: &Key{QueryAllow: []string{"page"}}, target: "/a?x=1", want: "http://example.com/a", sent: "/a"},
		{name: "allow, empty query", key: &Key{QueryAllow: []string{"page"}}, target: "/a?", want: "http://example.com/a", sent: "/a"},
		{name: "deny, empty query", key: &Key{QueryDeny: []string{"utm_*"}}, target: "/a?", want: "http://example.com/a", sent: "/a"},
		{name: "sort, empty query", key: &Key{QuerySort: true}, target: "/a?", want: "http://example.com/a", sent: "/a"},
		{name: "allow an escaped name", key: &Key{QueryAllow: []string{"page"}}, target: "/a?%70age=1", want: "http://example.com/a?%70age=1"},
		{name: "deny", key: &Key{QueryDeny: []string{"utm_*", "fbclid"}}, target: "/a?utm_source=x&b=1&fbclid=2&utm=3", want: "http://example.com/a?b=1&utm=3", sent: "/a?b=1&utm=3"},
		{name: "deny an escaped name", key: &Key{QueryDeny: []string{"fbclid"}}, target: "/a?fb%63lid=2&b", want: "http://example.com/a?b", sent: "/a?b"},
		{name: "sort", key: &Key{QuerySort: true}, target: "/a?b=2&a=1&b=1", want: "http://example.com/a?a=1&b=2&b=1", sent: "/a?a=1&b=2&b=1"},
		{name: "header", key: &Key{Header: []string{"X-Geo"}}, target: "/a", header: http.Header{"X-Geo": {"de"}}, want: "http://example.com/a\nheader x-geo de"},
		{name: "header that is not there", key: &Key{Header: []string{"X-Geo"}}, target: "/a", want: "http://example.com/a\nheader x-geo"},
		{name: "empty header", key: &Key{Header: []string{"X-Geo"}}, target: "/a", header: http.Header{"X-Geo": {""}}, want: "http://example.com/a\nheader x-geo "},
		{name: "cookie", key: &Key{Cookie: []string{"theme"}}, target: "/a", header: http.Header{"Cookie": {"id=7; theme=dark"}}, want: "http://example.com/a\ncookie theme dark"},
		{name: "ignore host", key: &Key{IgnoreHost: true}, target: "/a", want: "http://*/a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, tt.target, nil)
			r.Host = "example.com"
			if tt.host != "" {
				r.Host = tt.host
			}
			if tt.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if tt.header != nil {
				r.Header = tt.header
			}
			n, out := tt.key.name(r)
			if n.key != tt.want {
				t.Errorf("key of %s: got %q, want %q", tt.target, n.key, tt.want)
			}
			sent := tt.sent
			if sent == "" {
				sent = tt.target
			}
			if got := out.URL.RequestURI(); got != sent {
				t.Errorf("%s is sent on as %q, want %q", tt.target, got, sent)
			}
			if host, _, _ := strings.Cut(tt.want[len(siteOf(tt.tls)):], "/"); host != "*" && out.Host != host {
				t.Errorf("%s is sent on to the host %q, want %q", r.Host, out.Host, host)
			}
			if got := r.URL.RequestURI(); got != tt.target {
				t.Errorf("the request itself has become %q, and was %q", got, tt.target)
			}
			if want := siteOf(tt.tls) + r.Host; tt.host == "" && n.asked != want+tt.target {
				t.Errorf("the URL that invalidations select is %q, want %q", n.asked, want+tt.target)
			}
		})
	}
}

func siteOf(tls bool) string {
	if tls {
		return "https://"
	}
	return "http://"
}

// TestKeyOfRewritten: a rewrite before the cache is part of the key, and what
// the client asked for is what an invalidation names.
func TestKeyOfRewritten(t *testing.T) {
	asked := httptest.NewRequest(http.MethodGet, "/shop?item=7", nil)
	asked.Host = "example.com"
	name := func(rewritten string) names {
		r := asked.Clone(context.WithValue(t.Context(), caddyhttp.OriginalRequestCtxKey, *asked))
		r.RequestURI = rewritten
		n, _ := (*Key)(nil).name(r)
		return n
	}
	a, b, same := name("/index.php?item=7"), name("/mobile.php?item=7"), name("/shop?item=7")
	if a.key == b.key || a.key == same.key {
		t.Errorf("rewritten to three things, %q, %q and %q are the keys", a.key, b.key, same.key)
	}
	for _, n := range []names{a, b, same} {
		if want := "http://example.com/shop?item=7"; n.url != want || n.asked != want {
			t.Errorf("url %q and asked %q, want %q", n.url, n.asked, want)
		}
	}
}

// TestKeyCannotBeForged: nobody can write a URL, a header or a cookie whose key
// is that of another request.
func TestKeyCannotBeForged(t *testing.T) {
	k := &Key{Header: []string{"A", "B"}, Cookie: []string{"c"}}
	seen := map[string]string{}
	for _, tt := range []struct {
		name, target string
		header       http.Header
	}{
		{"nothing", "/", nil},
		{"a", "/", http.Header{"A": {"1"}}},
		{"b", "/", http.Header{"B": {"1"}}},
		{"a and b", "/", http.Header{"A": {"1"}, "B": {"1"}}},
		{"a twice", "/", http.Header{"A": {"1", "1"}}},
		{"a that looks like a and b", "/", http.Header{"A": {"1 header b 1"}}},
		{"cookie", "/", http.Header{"Cookie": {"c=1"}}},
		{"cookie twice", "/", http.Header{"Cookie": {"c=1; c=2"}}},
		{"path that looks like a", "/%0Aheader%20a%201", nil},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.target, nil)
		if tt.header != nil {
			r.Header = tt.header
		}
		n, _ := k.name(r)
		if other, ok := seen[n.key]; ok {
			t.Errorf("%s and %s have one key: %q", tt.name, other, n.key)
		}
		seen[n.key] = tt.name
	}
}

// TestHostOfBefore: the handlers before the cache know the host as it was sent, which
// those behind do not.
func TestHostOfBefore(t *testing.T) {
	s := newSite(t, new(Cache))
	r := request(t, "/")
	r.Host = "Example.Test:80"
	behind := ""
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		behind = r.Host
		return nil
	})
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	if err := s.ServeHTTP(httptest.NewRecorder(), r, next); err != nil {
		t.Fatal(err)
	}
	if behind != "example.test" || r.Host != "Example.Test:80" {
		t.Errorf("got %q behind and %q before, want example.test and Example.Test:80", behind, r.Host)
	}
}
