package fluster_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// fresh are the fields of a response that may be stored.
var fresh = []string{"Cache-Control", "max-age=600", "Content-Type", "text/plain"}

// cached is a site with this cache before the origin. options are lines of the
// block of fluster_cache.
func cached(o *caddytest.Origin, options ...string) string {
	return "fluster_cache {\n" + strings.Join(options, "\n") + "\n}\n" + o.Behind()
}

// nodes starts n servers, and returns them and the global option that names
// them a, b, c and so on. more are further options.
func nodes(tb testing.TB, n int, more ...string) ([]*redistest.Server, string) {
	tb.Helper()
	var servers []*redistest.Server
	line := "nodes"
	for i := range n {
		s := redistest.Start(tb)
		servers = append(servers, s)
		line += fmt.Sprintf(" %s?name=%c", s.URL(), 'a'+i)
	}
	return servers, "fluster {\n" + line + "\n" + strings.Join(more, "\n") + "\n}"
}

// wantBody fails the test where r is not whole and well.
func wantBody(t *testing.T, r caddytest.Response, status int, body string) {
	t.Helper()
	if r.Err != nil || r.Status != status || string(r.Body) != body {
		t.Fatalf("got %s, want %d %q", r, status, body)
	}
}

// wantMiss asks for path and wants an answer that was forwarded.
func wantMiss(t *testing.T, c *caddytest.Caddy, path string, header ...string) caddytest.Response {
	t.Helper()
	r := c.Get(path, header...)
	if r.Err != nil || !strings.Contains(r.CacheStatus(), "fluster; fwd=") {
		t.Fatalf("GET %s %q: got %s, want a miss", path, header, r)
	}
	return r
}

// wantHit asks for path until it is a hit: what was fetched is stored when its
// response has ended, which the client may know a moment earlier.
func wantHit(t *testing.T, c *caddytest.Caddy, where, path string, header ...string) (r caddytest.Response) {
	t.Helper()
	caddytest.Eventually(t, fmt.Sprintf("GET %s %q is a hit (%s)", path, header, where), func() bool {
		r = c.Get(path, header...)
		return r.Err == nil && r.Hit(where)
	})
	return r
}

// wantNeverStored asks twice, one after the other, and wants the origin asked
// twice.
func wantNeverStored(t *testing.T, c *caddytest.Caddy, o *caddytest.Origin, path string, header ...string) {
	t.Helper()
	before := o.Count()
	for range 3 {
		r := wantMiss(t, c, path, header...)
		if strings.Contains(r.CacheStatus(), "stored") {
			t.Errorf("GET %s %q: got %s, want it not stored", path, header, r)
		}
	}
	if got := o.Count() - before; got != 3 {
		t.Errorf("GET %s %q three times: the origin was asked %d times, want 3", path, header, got)
	}
}

// TestMissThenHit: the origin is asked once; the hit is what it sent, with Age
// and Cache-Status.
func TestMissThenHit(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "hello", append(fresh, "X-Two", "1", "X-Two", "2", "Connection", "X-Hop", "X-Hop", "1", "Etag", `"e"`)...))
	c := caddytest.Load(t, "", cached(o))
	miss := wantMiss(t, c, "/a?b=1")
	wantBody(t, miss, 200, "hello")
	if got, want := miss.CacheStatus(), "fluster; fwd=uri-miss; fwd-status=200; stored"; got != want {
		t.Errorf("Cache-Status of the miss: got %q, want %q", got, want)
	}
	hit := wantHit(t, c, "near", "/a?b=1")
	wantBody(t, hit, 200, "hello")
	if got, want := hit.CacheStatus(), regexp.MustCompile(`^fluster; hit; ttl=(600|59\d); detail=near$`); !want.MatchString(got) {
		t.Errorf("Cache-Status of the hit: got %q, want %s", got, want)
	}
	if got := hit.Header.Get("Age"); got != "0" && got != "1" {
		t.Errorf("Age of the hit: got %q, want 0", got)
	}
	for _, name := range []string{"Content-Type", "X-Two", "Etag", "Cache-Control", "Date", "Server", "Via", "Content-Length"} {
		if got, want := fmt.Sprint(hit.Header[name]), fmt.Sprint(miss.Header[name]); got != want {
			t.Errorf("%s of the hit: got %s, want that of the miss, %s", name, got, want)
		}
	}
	if hit.Header["X-Hop"] != nil {
		t.Error("a hop-by-hop field was stored")
	}
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
	wantMiss(t, c, "/a?b=2")
	wantMiss(t, c, "/a?b=1", "Host", "other.test")
}

// TestAge: C1. The age that a response has already counts.
func TestAge(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "old", append(fresh, "Age", "590")...))
	c := caddytest.Load(t, "", cached(o))
	if r := wantMiss(t, c, "/"); r.Header.Get("Age") != "590" {
		t.Errorf("Age of the miss: got %q, want the origin's 590", r.Header.Get("Age"))
	}
	r := wantHit(t, c, "near", "/")
	if got := r.Header["Age"]; len(got) != 1 || len(got[0]) != 3 || got[0] < "590" || got[0] > "599" {
		t.Errorf("Age of the hit: got %q, want one of 590 or a little more", got)
	}
	if s := r.CacheStatus(); !strings.Contains(s, "ttl=10;") && !strings.Contains(s, "ttl=9;") && !strings.Contains(s, "ttl=8;") {
		t.Errorf("Cache-Status: got %q, want a ttl of 10 within the first millisecond, or a little less", s)
	}
	o.Handle(caddytest.Answer(200, "too old", append(fresh, "Age", "601")...))
	for range 2 {
		if r := c.Get("/stale"); r.Hit("") {
			t.Errorf("a response that came stale: got %s, want no hit", r)
		}
	}
}

// TestHitOnNode: without a near cache, and in another process, the node answers.
func TestHitOnNode(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "hello", append(fresh, "Vary", "Accept", "Surrogate-Key", "x")...))
	servers, global := nodes(t, 2, "near off", "timeout 5s")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(2)
	wantMiss(t, c, "/", "Accept", "text/html")
	waitStored(t, servers, 2) // the response, and the list of variants
	r := wantHit(t, c, "node", "/", "Accept", "text/html")
	wantBody(t, r, 200, "hello")
	if r.Header.Get("Age") == "" {
		t.Error("a hit on a node has no Age")
	}
	wantMiss(t, c, "/", "Accept", "text/plain")

	second := caddytest.Start(t, strings.Replace(global, "near off", "near 1MiB", 1), cached(o))
	second.WaitUp(2)
	before := o.Count()
	wantHit(t, second, "node", "/", "Accept", "text/html")
	wantHit(t, second, "near", "/", "Accept", "text/html")
	if got := o.Count() - before; got != 0 {
		t.Errorf("the second Caddy asked the origin %d times, want never", got)
	}
}

// waitStored waits until the nodes hold at least n values of stored responses.
func waitStored(t *testing.T, servers []*redistest.Server, n int) {
	t.Helper()
	caddytest.Eventually(t, fmt.Sprintf("%d values lie on the nodes", n), func() bool {
		return len(storedKeys(t, servers)) >= n
	})
}

// storedKeys returns the keys of stored responses on all nodes that answer.
func storedKeys(t *testing.T, servers []*redistest.Server) (keys []string) {
	t.Helper()
	for _, s := range servers {
		client := s.Client(t)
		on, err := client.Keys(t.Context(), "*:e:*").Result()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, on...)
		client.Close()
	}
	return keys
}

// TestStoredKeysExpire: C5. All that is written for the cache has a time to
// live, but for the head of the journal and the journal.
func TestStoredKeysExpire(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, strings.Repeat("x", 300<<10), append(fresh, "Vary", "Accept")...))
	servers, global := nodes(t, 1, "timeout 5s")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantMiss(t, c, "/")
	c.Do("POST", "/other", "x")
	waitStored(t, servers, 2)
	client := servers[0].Client(t)
	keys := client.Keys(t.Context(), "*").Val()
	for _, key := range keys {
		ttl := client.TTL(t.Context(), key).Val()
		if permanent := strings.HasSuffix(key, "}:h") || strings.HasSuffix(key, "}:j"); (ttl < 0) != permanent {
			t.Errorf("%s has a time to live of %s", key, ttl)
		}
	}
	if len(keys) < 6 { // head, journal, list, manifest, two chunks, a record
		t.Errorf("the node holds %q, want the chunks too", keys)
	}
}

// TestWhatIsStored: C1. Which responses may be given to others.
func TestWhatIsStored(t *testing.T) {
	past := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	future := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	tests := []struct {
		name    string
		options []string
		status  int
		request []string
		header  []string
		stored  bool
	}{
		{"max-age", nil, 200, nil, fresh, true},
		{"nothing said", nil, 200, nil, nil, false},
		{"max-age=0", nil, 200, nil, []string{"Cache-Control", "max-age=0"}, false},
		{"s-maxage over max-age", nil, 200, nil, []string{"Cache-Control", "max-age=0, s-maxage=60"}, true},
		{"no-store", nil, 200, nil, []string{"Cache-Control", "max-age=60, no-store"}, false},
		{"private", nil, 200, nil, []string{"Cache-Control", "max-age=60, private"}, false},
		{"no-cache", nil, 200, nil, []string{"Cache-Control", "max-age=60, no-cache"}, false},
		{"Expires", nil, 200, nil, []string{"Expires", future}, true},
		{"Expires past", nil, 200, nil, []string{"Expires", past}, false},
		{"Expires of another form", nil, 200, nil, []string{"Expires", "0"}, false},
		{"max-age over Expires", nil, 200, nil, []string{"Expires", past, "Cache-Control", "max-age=60"}, true},
		{"targeted", nil, 200, nil, []string{"Cache-Control", "no-store", "Fluster-Cache-Control", "max-age=60"}, true},
		{"targeted, by the second name", nil, 200, nil, []string{"Cache-Control", "max-age=60", "CDN-Cache-Control", "no-store"}, false},
		{"Authorization", nil, 200, []string{"Authorization", "Basic x"}, fresh, false},
		{"Authorization, public", nil, 200, []string{"Authorization", "Basic x"}, []string{"Cache-Control", "public, max-age=60"}, true},
		{"Authorization, s-maxage", nil, 200, []string{"Authorization", "Basic x"}, []string{"Cache-Control", "s-maxage=60"}, true},
		{"Set-Cookie", nil, 200, nil, append(fresh, "Set-Cookie", "id=1"), false},
		{"Set-Cookie, stored", []string{"set_cookie store"}, 200, nil, append(fresh, "Set-Cookie", "id=1"), true},
		{"Vary: *", nil, 200, nil, append(fresh, "Vary", "*"), false},
		{"events", nil, 200, nil, []string{"Cache-Control", "max-age=60", "Content-Type", "text/event-stream"}, false},
		{"events in another case", nil, 200, nil, []string{"Cache-Control", "max-age=60", "Content-Type", "Text/Event-Stream; charset=UTF-8"}, false},
		{"404", nil, 404, nil, fresh, true},
		{"404 of which nothing is said", nil, 404, nil, nil, false},
		{"301", nil, 301, nil, append(fresh, "Location", "/x"), true},
		{"302", nil, 302, nil, append(fresh, "Location", "/x"), true},
		{"410", nil, 410, nil, fresh, true},
		{"503", nil, 503, nil, fresh, true},
		{"ttl", []string{"ttl 5m"}, 200, nil, nil, true},
		{"ttl is for 200", []string{"ttl 5m"}, 404, nil, nil, false},
		{"ttl by status", []string{"ttl 404 410 30s"}, 404, nil, nil, true},
		{"ttl by status, the second", []string{"ttl 404 410 30s"}, 410, nil, nil, true},
		{"ttl by status is not for 200", []string{"ttl 404 410 30s"}, 200, nil, nil, false},
		{"ttl does not lift no-store", []string{"ttl 5m", "min_ttl 1m"}, 200, nil, []string{"Cache-Control", "no-store"}, false},
		{"ttl is below what is said", []string{"ttl 5m"}, 200, nil, []string{"Cache-Control", "max-age=0"}, false},
		{"bypass matcher", []string{"bypass /admin*"}, 200, nil, fresh, true},
		{"request no-cache is ignored", nil, 200, []string{"Cache-Control", "no-store"}, fresh, true},
		{"request no-store is honored", []string{"client_directives honor"}, 200, []string{"Cache-Control", "no-store"}, fresh, false},
		{"store matcher", []string{"@ok status 2xx", "store @ok"}, 200, nil, fresh, true},
		{"store matcher, other response", []string{"@ok status 2xx", "store @ok"}, 404, nil, fresh, false},
		{"at max_body", []string{"max_body 4B"}, 200, nil, fresh, true},
		{"above max_body", []string{"max_body 3B"}, 200, nil, fresh, false},
	}
	o := caddytest.NewOrigin(t, nil)
	c := caddytest.Load(t, "", cached(o))
	var loaded []string
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !slices.Equal(loaded, tt.options) {
				c.Reload("", cached(o, tt.options...))
				loaded = tt.options
			}
			path := fmt.Sprintf("/%d", i)
			o.Handle(caddytest.Answer(tt.status, "body", tt.header...))
			if !tt.stored {
				wantNeverStored(t, c, o, path, tt.request...)
				return
			}
			before := o.Count()
			wantBody(t, wantMiss(t, c, path, tt.request...), tt.status, "body")
			wantBody(t, wantHit(t, c, "near", path, tt.request...), tt.status, "body")
			if got := o.Count() - before; got != 1 {
				t.Errorf("the origin was asked %d times, want once", got)
			}
		})
	}
}
