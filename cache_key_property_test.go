package fluster

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// TestEqualKeysMeanEqualRequests: C1. Two requests of one key are the same in all
// that counts: site, path, what is sent of the query, and the fields and cookies
// of the key.
func TestEqualKeysMeanEqualRequests(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	one := func(of ...string) string { return of[r.IntN(len(of))] }
	for range 200 {
		k := &Key{QuerySort: r.IntN(2) == 0, IgnoreHost: r.IntN(4) == 0}
		switch r.IntN(3) {
		case 0:
			k.QueryAllow = []string{"a", "b*"}
		case 1:
			k.QueryDeny = []string{"u*"}
		}
		if r.IntN(2) == 0 {
			k.Header, k.Cookie = []string{"X-A", "X-B"}, []string{"c", "d"}
		}
		seen := map[string]string{}
		for range 300 {
			var query []string
			for range r.IntN(3) {
				query = append(query, one("a=1", "a=2", "b=1", "bb=%0a", "u=1", "a", "a=1%26b=1", "%61=1"))
			}
			uri := one("/", "/p", "/p%0Aheader%20x-a%201", "//p", "/P") + one("", "?") + strings.Join(query, "&")
			req := httptest.NewRequest("GET", one("http", "https")+"://"+one("h", "H", "h:80", "h:443", "g")+uri, nil)
			for _, name := range []string{"X-A", "X-B"} {
				for range r.IntN(3) {
					req.Header.Add(name, one("", "1", "header x-b 1", "1 2"))
				}
			}
			for range r.IntN(2) {
				req.Header.Add("Cookie", one("c=1", "d=1", "c=1; d=1", `c="1"`, "c=; e=c", "c"))
			}
			n, sent := k.name(req)
			canonical := canonicalOf(k, n, sent.URL.RequestURI(), req.Header)
			if other, ok := seen[n.key]; ok && other != canonical {
				t.Fatalf("key %q of %+v is that of two requests:\n%s\n%s", n.key, k, other, canonical)
			}
			seen[n.key] = canonical
		}
	}
}

// canonicalOf is all that counts of a request, unmistakably.
func canonicalOf(k *Key, n names, sent string, h map[string][]string) string {
	scheme, rest, _ := strings.Cut(n.asked, "://")
	host, _, _ := strings.Cut(rest, "/")
	host = journal.TrimDefaultPort(scheme, strings.ToLower(host))
	if k.IgnoreHost {
		host = "*"
	}
	out := fmt.Sprintf("%q %q %q", scheme, host, sent)
	for _, name := range k.Header {
		out += fmt.Sprintf(" %q", h[name])
	}
	for _, name := range k.Cookie {
		out += fmt.Sprintf(" %q", rawCookies(h, name))
	}
	return out
}
