package fluster_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// echo answers with what the request asked for, in the body.
func echo(header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, fmt.Sprintf("%s %s accept=%q cookie=%q", r.Host, r.RequestURI, r.Header["Accept"], r.Header["Cookie"]), header...)(w, r)
	}
}

// TestVary: C1. A response is given only to requests whose nominated fields are
// those of the request that it answered; each variant stays.
func TestVary(t *testing.T) {
	o := caddytest.NewOrigin(t, echo(append(fresh, "Vary", "Accept, X-Geo")...))
	c := caddytest.Load(t, "", cached(o))
	variants := [][]string{
		nil,
		{"Accept", "text/html"},
		{"Accept", "text/plain"},
		{"Accept", "text/html", "X-Geo", "de"},
	}
	var bodies []string
	for _, v := range variants {
		r := wantMiss(t, c, "/", v...)
		bodies = append(bodies, string(r.Body))
		wantHit(t, c, "near", "/", v...)
	}
	for i, v := range variants {
		wantBody(t, wantHit(t, c, "near", "/", v...), 200, bodies[i])
	}
	if r := wantMiss(t, c, "/", "Accept", "image/png"); !strings.Contains(r.CacheStatus(), "fwd=vary-miss") {
		t.Errorf("another variant: got %s, want a vary-miss", r)
	}
	if o.Count() != len(variants)+1 {
		t.Errorf("the origin was asked %d times, want %d", o.Count(), len(variants)+1)
	}
}

// TestAuthorization: C1. What was stored for anybody is not given to a request
// with Authorization whose answer could be another, nor the reverse.
func TestAuthorization(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, "for "+r.Header.Get("Authorization"), fresh...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	wantBody(t, wantMiss(t, c, "/", "Authorization", "Basic a"), 200, "for Basic a")
	wantBody(t, wantMiss(t, c, "/", "Authorization", "Basic b"), 200, "for Basic b")
	wantBody(t, wantMiss(t, c, "/"), 200, "for ")
}

// TestSetCookie: C1. In profile safe nobody gets another's cookie.
func TestSetCookie(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Set-Cookie", "id=1")...))
	c := caddytest.Load(t, "", cached(o))
	if r := c.Get("/bypass"); r.Header.Get("Set-Cookie") != "id=1" || !strings.HasSuffix(r.CacheStatus(), "detail=set-cookie") {
		t.Errorf("bypass: got %s with Set-Cookie %q, want it and detail=set-cookie", r, r.Header["Set-Cookie"])
	}
	wantNeverStored(t, c, o, "/bypass")
	c.Reload("", cached(o, "set_cookie strip"))
	wantMiss(t, c, "/strip")
	if r := wantHit(t, c, "near", "/strip"); r.Header["Set-Cookie"] != nil {
		t.Errorf("strip: a hit has Set-Cookie %q", r.Header["Set-Cookie"])
	}
	c.Reload("", cached(o, "profile rfc"))
	wantMiss(t, c, "/rfc")
	if r := wantHit(t, c, "near", "/rfc"); r.Header.Get("Set-Cookie") != "id=1" {
		t.Errorf("profile rfc: a hit has Set-Cookie %q, want id=1", r.Header["Set-Cookie"])
	}
}

// TestHead: HEAD is answered from a stored GET, and stores nothing.
func TestHead(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "hello", fresh...))
	c := caddytest.Load(t, "", cached(o))
	if r := c.Do("HEAD", "/", ""); r.Err != nil || r.Hit("") || r.Status != 200 {
		t.Fatalf("HEAD before GET: got %s, want a miss", r)
	}
	wantMiss(t, c, "/")
	wantHit(t, c, "near", "/")
	r := c.Do("HEAD", "/", "")
	if r.Err != nil || !r.Hit("near") || len(r.Body) > 0 || r.Header.Get("Content-Length") != "5" {
		t.Errorf("HEAD after GET: got %s with Content-Length %q, want a hit of 5", r, r.Header["Content-Length"])
	}
	if o.Count() != 2 {
		t.Errorf("the origin was asked %d times, want twice", o.Count())
	}
}

// TestPartIsNotTheWhole: C1. Neither the answer to a request for a part nor a
// part that nobody asked for is given to a request for the whole.
func TestPartIsNotTheWhole(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(206, "0123", append(fresh, "Content-Range", "bytes 0-3/10", "Etag", `"e"`)...))
	c := caddytest.Load(t, "", cached(o))
	wantBody(t, c.Get("/", "Range", "bytes=0-3"), 206, "0123")
	o.Handle(caddytest.Answer(200, "0123456789", append(fresh, "Etag", `"e"`)...))
	wantBody(t, wantMiss(t, c, "/"), 200, "0123456789")
	wantBody(t, wantHit(t, c, "near", "/"), 200, "0123456789")
	r := c.Get("/", "Range", "bytes=2-5")
	wantBody(t, r, 206, "2345")
	if !r.Hit("near") || r.Header.Get("Content-Range") != "bytes 2-5/10" {
		t.Errorf("a part of what is stored: got %s with Content-Range %q, want a hit", r, r.Header["Content-Range"])
	}

	o.Handle(caddytest.Answer(206, "0123", append(fresh, "Content-Range", "bytes 0-3/10", "Etag", `"e"`)...))
	before := o.Count()
	for range 3 {
		if r := c.Get("/unasked"); r.Hit("") || r.Status == 200 {
			t.Errorf("a part that nobody asked for: got %s", r)
		}
	}
	if got := o.Count() - before; got < 3 {
		t.Errorf("the origin was asked %d times, want each time", got)
	}
}

// TestBypass: a request that the matcher selects is neither looked up nor stored.
func TestBypass(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Surrogate-Key", "x")...))
	site := "@preview header X-Preview *\n" + cached(o, "bypass @preview", "bypass /admin*")
	c := caddytest.Load(t, "", site)
	wantNeverStored(t, c, o, "/admin/x")
	wantMiss(t, c, "/")
	wantHit(t, c, "near", "/")
	r := c.Get("/", "X-Preview", "1")
	if got, want := r.CacheStatus(), "fluster; fwd=bypass; fwd-status=200"; got != want {
		t.Errorf("bypass: got %q, want %q", got, want)
	}
	if r.Header["Surrogate-Key"] != nil {
		t.Error("bypass: the tags were sent to the client")
	}
}

// TestTagsAreNotSent: tags are for invalidation; clients never see them.
func TestTagsAreNotSent(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Surrogate-Key", "a b", "Cache-Tag", "c", "X-Tags", "d")...))
	c := caddytest.Load(t, "", cached(o))
	look := func(what string, r caddytest.Response, names ...string) {
		t.Helper()
		for _, name := range names {
			if got := r.Header[name]; got != nil {
				t.Errorf("%s has %s %q", what, name, got)
			}
		}
	}
	look("a miss", wantMiss(t, c, "/"), "Surrogate-Key", "Cache-Tag")
	hit := wantHit(t, c, "near", "/")
	look("a hit", hit, "Surrogate-Key", "Cache-Tag")
	if hit.Header.Get("X-Tags") != "d" {
		t.Error("a field that carries no tags was taken for one")
	}
	look("a POST", c.Do("POST", "/", "x"), "Surrogate-Key", "Cache-Tag")
	look("what was asked to switch protocols", c.Get("/", "Connection", "Upgrade", "Upgrade", "websocket"), "Surrogate-Key", "Cache-Tag", "Cache-Status")
	o.Handle(caddytest.Answer(200, "page", "Cache-Control", "no-store", "Surrogate-Key", "a"))
	look("what is not stored", c.Get("/no-store"), "Surrogate-Key")
	c.Reload("", cached(o, "tags X-Tags"))
	o.Handle(caddytest.Answer(200, "page", append(fresh, "X-Tags", "d", "Surrogate-Key", "a")...))
	look("a miss with another field", wantMiss(t, c, "/other"), "X-Tags")
	if r := wantHit(t, c, "near", "/other"); r.Header["X-Tags"] != nil || r.Header.Get("Surrogate-Key") != "a" {
		t.Errorf("a hit with another field: got %v", r.Header)
	}
}

// TestKeyOptions: what makes two requests the same; what does not count is not
// sent to the origin either.
func TestKeyOptions(t *testing.T) {
	tests := []struct {
		name   string
		option string
		first  []string // path, and header
		same   []string // is a hit after first
		other  []string // is not
		sent   string   // what the origin was asked for by first
	}{
		{"nothing", "", []string{"/a?x=1"}, []string{"/a?x=1"}, []string{"/a?x=2"}, "/a?x=1"},
		{"query_allow", "query_allow page q", []string{"/a?page=1&x=1&q=2"}, []string{"/a?y=7&page=1&q=2"}, []string{"/a?page=2&q=2"}, "/a?page=1&q=2"},
		{"query_deny", "query_deny utm_* fbclid", []string{"/a?utm_x=1&b=1"}, []string{"/a?b=1&fbclid=3"}, []string{"/a?b=1&utm=3"}, "/a?b=1"},
		{"query_sort", "query_sort", []string{"/a?b=1&a=2"}, []string{"/a?a=2&b=1"}, []string{"/a?a=2&b=2"}, "/a?a=2&b=1"},
		{"header", "header X-Geo", []string{"/a", "X-Geo", "de"}, []string{"/a", "X-Geo", "de", "X-Other", "1"}, []string{"/a", "X-Geo", "fr"}, "/a"},
		{"cookie", "cookie theme", []string{"/a", "Cookie", "theme=dark; id=1"}, []string{"/a", "Cookie", "id=2; theme=dark"}, []string{"/a", "Cookie", "theme=light"}, "/a"},
		{"ignore_host", "ignore_host", []string{"/a", "Host", "a.test"}, []string{"/a", "Host", "b.test"}, []string{"/b", "Host", "a.test"}, "/a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := caddytest.NewOrigin(t, echo(fresh...))
			c := caddytest.Load(t, "", cached(o, "key {\n"+tt.option+"\n}"))
			first := wantMiss(t, c, tt.first[0], tt.first[1:]...)
			if got := o.Last().RequestURI; got != tt.sent {
				t.Errorf("the origin was asked for %s, want %s", got, tt.sent)
			}
			wantHit(t, c, "near", tt.first[0], tt.first[1:]...)
			before := o.Count()
			same := c.Get(tt.same[0], tt.same[1:]...)
			wantBody(t, same, 200, string(first.Body))
			if !same.Hit("near") || o.Count() != before {
				t.Errorf("%q after %q: got %s, want a hit", tt.same, tt.first, same)
			}
			wantMiss(t, c, tt.other[0], tt.other[1:]...)
		})
	}
}

var ttlOf = regexp.MustCompile(`ttl=(600|59\d)`)

// TestCacheStatusOption: how much clients are told.
func TestCacheStatusOption(t *testing.T) {
	for _, tt := range []struct{ option, miss, hit string }{
		{"full", "origin; hit, fluster; fwd=uri-miss; fwd-status=200; stored", "origin; hit, fluster; hit; ttl=599; detail=near"},
		{"hit", "origin; hit, fluster; fwd=uri-miss", "origin; hit, fluster; hit"},
		{"off", "origin; hit", "origin; hit"},
	} {
		t.Run(tt.option, func(t *testing.T) {
			o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "Cache-Status", "origin; hit")...))
			c := caddytest.Load(t, "", cached(o, "cache_status "+tt.option))
			if got := c.Get("/").CacheStatus(); got != tt.miss {
				t.Errorf("miss: got %q, want %q", got, tt.miss)
			}
			caddytest.Eventually(t, "the second answer is a hit", func() bool {
				r := c.Get("/")
				return ttlOf.ReplaceAllString(r.CacheStatus(), "ttl=599") == tt.hit
			})
			if o.Count() != 1 {
				t.Errorf("the origin was asked %d times, want once", o.Count())
			}
		})
	}
}

// TestPlaceholders: the placeholders tell the operator.
func TestPlaceholders(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, "", `log_append fluster_hit {http.fluster.hit}
		log_append fluster_key {http.fluster.key}
		log_append fluster_status {http.fluster.cache_status}
		log
		`+cached(o, "cache_status off"))
	wantMiss := c.Get("/a")
	wantBody(t, wantMiss, 200, "page")
	c.WaitLogged(`"fluster_hit":false`, `"fluster_key":"http://example.test/a"`, `fluster; fwd=uri-miss; fwd-status=200; stored`)
	caddytest.Eventually(t, "a hit is logged", func() bool {
		c.Get("/a")
		return len(c.Logged(`"fluster_hit":true`, "fluster; hit; ttl=")) > 0
	})
}

// TestPlaceholderOfTheNode: it names the node that was asked, and none where the
// near cache answered.
func TestPlaceholderOfTheNode(t *testing.T) {
	_, global := nodes(t, 1, "timeout 10s")
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, global, "header >X-Node \"<{http.fluster.node}>\"\n"+cached(o))
	c.WaitUp(1)
	for want, r := range map[string]caddytest.Response{"<a>": wantMiss(t, c, "/a"), "<>": wantHit(t, c, "near", "/a")} {
		if got := r.Header.Get("X-Node"); got != want {
			t.Errorf("%s: the node is %q, want %q", r.CacheStatus(), got, want)
		}
	}
}

// TestPlaceholdersInTheBackground: what validates behind a response that was served
// stale is told of itself, and not of that response, which goes out at that time.
func TestPlaceholdersInTheBackground(t *testing.T) {
	asked := make(chan string, 1000)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("X-Told")
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
		io.WriteString(w, "page")
	})
	c := caddytest.Load(t, "", cached(o)+` {
		header_up X-Told "{http.fluster.hit} {http.fluster.key} {http.fluster.cache_status}"
	}`)
	c.Get("/a")
	const want = "false http://example.test/a fluster"
	for range 20 {
		if got := <-asked; got != want {
			t.Fatalf("placeholders behind the cache: got %q, want %q", got, want)
		}
		for len(asked) == 0 {
			wantBody(t, c.Get("/a"), 200, "page")
		}
	}
}

// TestFirstOfTwoCaches: where a request passes two caches, the first one counts: it
// does not wait for itself, and has the tags.
func TestFirstOfTwoCaches(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Surrogate-Key", "a"))
	c := caddytest.Load(t, "", "fluster_cache /images/* {\nttl 1590s\n}\n"+cached(o, "ttl 390s"))
	for path, ttl := range map[string]string{"/images/a": "ttl=15", "/a": "ttl=3"} {
		if r := wantMiss(t, c, path); r.CacheStatus() != "fluster; fwd=uri-miss; fwd-status=200; stored" {
			t.Errorf("GET %s: got %s, want the word of one cache", path, r)
		}
		if r := wantHit(t, c, "near", path); !strings.Contains(r.CacheStatus(), ttl) {
			t.Errorf("GET %s: got %s, want %s", path, r, ttl)
		}
		c.Invalidate(`{"tag":["a"]}`)
		wantMiss(t, c, path)
	}
}
