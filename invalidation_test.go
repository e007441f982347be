package fluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

const channel = "fluster:invalidate"

// numbered answers each request with another body, and with what its query asks
// for as tags.
func numbered(o **caddytest.Origin, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if tags := r.URL.Query().Get("tags"); tags != "" {
			w.Header().Set("Surrogate-Key", tags)
		}
		caddytest.Answer(200, fmt.Sprint("number ", (*o).Count()), append(fresh, header...)...)(w, r)
	}
}

// TestPublishedMessages: a message published on any one node is heard by every
// Caddy, which forgets what it selects, and nothing else.
func TestPublishedMessages(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 3)
	caddies := []*caddytest.Caddy{caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))}
	for _, c := range caddies {
		c.WaitUp(3)
	}
	waitListening(t, servers, len(caddies))
	tests := []struct {
		name, message, dies, stays string
	}{
		{"url", "url http://example.test/docs/a?tags=x", "/docs/a?tags=x", "/docs/b?tags=x"},
		{"url without scheme", "url //example.test/docs/a", "/docs/a", "/docs/aa"},
		{"urls", "url http://example.test/none http://example.test/docs/a", "/docs/a", "/docs/b"},
		{"prefix", "prefix http://example.test/docs/", "/docs/a", "/other"},
		{"tag", "tag none product-42", "/a?tags=home+product-42", "/a?tags=product-4"},
		{"host", "host example.test", "/a", ""},
		{"all", "all", "/a", ""},
		{"JSON url", `{"url":["http://example.test/a"]}`, "/a", "/b"},
		{"JSON tag", `{"tag":["x"],"prefix":[],"host":[],"all":false}`, "/a?tags=x", "/b?tags=y"},
		{"JSON all", `{"all":true}`, "/a", ""},
		{"soft", "soft tag x", "/a?tags=x", "/b?tags=y"},
		{"JSON soft", `{"soft":true,"tag":["x"]}`, "/a?tags=x", "/b?tags=y"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// By Caddy: what is fetched just after a message, before its record is
			// in the journals, is good where it was fetched and nowhere else.
			old := map[*caddytest.Caddy]map[string]string{}
			for _, c := range caddies {
				old[c] = map[string]string{}
			}
			for _, path := range []string{tt.dies, tt.stays} {
				if path == "" {
					continue
				}
				for _, c := range caddies {
					old[c][path] = string(wantHit(t, c, "near", path).Body)
				}
			}
			publish(t, servers[i%3].Client(t), tt.message)
			for _, c := range caddies {
				caddytest.Eventually(t, tt.dies+" is another", func() bool {
					r := c.Get(tt.dies)
					return r.Status == 200 && string(r.Body) != old[c][tt.dies]
				})
			}
			for _, c := range caddies {
				if tt.stays == "" {
					break
				}
				if got := c.Get(tt.stays); !got.Hit("") || string(got.Body) != old[c][tt.stays] {
					t.Errorf("%s after %q: got %s, want the hit %q", tt.stays, tt.message, got, old[c][tt.stays])
				}
			}
		})
	}
}

// TestHeardFromTheStart: what is published when Caddy has started is heard.
func TestHeardFromTheStart(t *testing.T) {
	servers, global := nodes(t, 3)
	c := caddytest.Load(t, global, "")
	c.WaitUp(3)
	for _, s := range servers {
		publish(t, s.Client(t), "all")
	}
}

// TestNotUnderstood: a message that cannot be understood is a warning with its
// beginning; nothing is forgotten, and the listener goes on.
func TestNotUnderstood(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 1)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	waitListening(t, servers, 1)
	wantMiss(t, c, "/")
	want := string(wantHit(t, c, "near", "/").Body)
	client := servers[0].Client(t)
	long := strings.Repeat("x", 199) + "YZ" // of 201 bytes
	refused := c.Metric(`caddy_fluster_messages_total{result="refused"}`)
	garbage := []string{"", "forget everything", "tag", "all of it", "url nonsense", `{"tags":["x"]}`, `{"all":true} x`, `{"all":`, "\x00\xff", long, "tag " + strings.Repeat("x", 70_000)}
	for _, m := range garbage {
		publish(t, client, m)
	}
	caddytest.Eventually(t, "all messages were refused", func() bool {
		return c.Metric(`caddy_fluster_messages_total{result="refused"}`)-refused == float64(len(garbage))
	})
	lines := c.Logged("invalidation message not understood")
	if len(lines) != len(garbage) {
		t.Errorf("%d warnings of %d messages", len(lines), len(garbage))
	}
	found := false
	for _, line := range lines {
		var entry struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level != "warn" {
			t.Errorf("got %.300s, want a warning (%v)", line, err)
		}
		if len(entry.Message) > 200 {
			t.Errorf("a warning has %d bytes of the message, want 200 at most", len(entry.Message))
		}
		found = found || entry.Message == long[:200]
	}
	if !found {
		t.Errorf("no warning has the first 200 bytes of %q", long)
	}
	if r := c.Get("/"); !r.Hit("") || string(r.Body) != want {
		t.Errorf("after what was not understood: got %s, want the hit %q", r, want)
	}
	publish(t, client, "all")
	caddytest.Eventually(t, "the listener goes on", func() bool { return string(c.Get("/").Body) != want })
}

// TestInvalidateByAdmin: C3. When POST /fluster/invalidate has answered, this
// process serves nothing that was fetched before; what is not understood is a 400.
func TestInvalidateByAdmin(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2)
	c, other := caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	c.WaitUp(2)
	other.WaitUp(2)
	path := "/a?tags=x"
	old := string(wantHit(t, c, "near", path).Body)
	wantHit(t, other, "", path)
	r := c.Invalidate(`{"tag":["x"],"wait":true}`)
	var ack struct {
		ID            string
		Applied, Owed []string
	}
	if err := json.Unmarshal(r.Body, &ack); err != nil || r.Status != 200 || ack.ID == "" || fmt.Sprint(ack.Applied) != "[a b]" || len(ack.Owed) != 0 {
		t.Errorf("got %s, want 200 with an id, applied a and b, owed none", r)
	}
	for i, c := range []*caddytest.Caddy{c, other} {
		if r := c.Get(path); string(r.Body) == old {
			t.Errorf("Caddy %d after the invalidation: got %s, want it fetched anew", i, r)
		}
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"tags":["x"]}`, `{"tag":["x"]} {}`, `{"url":["nonsense"]}`, `{"tag":["x"],"pool":"nobody"}`, `{"tag":[""]}`} {
		if r := c.Invalidate(bad); r.Status != 400 {
			t.Errorf("POST %s: got %s, want 400", bad, r)
		}
	}
	servers[0].Kill()
	servers[1].Kill()
	if r := c.Invalidate(`{"all":true}`); r.Status != 503 || !strings.Contains(string(r.Body), `"owed":["a","b"]`) {
		t.Errorf("with no node: got %s, want 503 and both nodes owed", r)
	}
	if r := c.Get(path); r.Hit("") {
		t.Errorf("after an invalidation that reached no node: got %s, want no hit in this process", r)
	}
}

// TestInvalidatePenalized: C3. A node that sits out may be well by now, and another
// Caddy may be using it, and no other: it is told at once, also where this process
// has never read its journal.
func TestInvalidatePenalized(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2, "penalty 60s 60s")
	servers[0].Kill()
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	servers[0].Restart()
	other := caddytest.Start(t, "fluster {\nnodes "+servers[0].URL()+"\n}", cached(o))
	other.WaitUp(1)
	for round := range 3 {
		old := string(wantHit(t, other, "", "/?tags=x").Body)
		if r := c.Invalidate(`{"tag":["x"],"wait":true}`); r.Status != 200 || !strings.Contains(string(r.Body), `"owed":["a"]`) {
			t.Fatalf("round %d: invalidating: got %s, want 200 and the first node owed", round, r)
		}
		if r := other.Get("/?tags=x"); r.Err != nil || string(r.Body) == old {
			t.Errorf("round %d, elsewhere a second after the invalidation: got %s, want it fetched anew", round, r)
		}
	}
}

// TestFillBegunBefore: C3. What was asked of the origin before an invalidation
// is not served after it, though it comes later.
func TestFillBegunBefore(t *testing.T) {
	for _, near := range []string{"near 1MiB", "near off"} {
		t.Run(near, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				g.wait(r)
				caddytest.Answer(200, "old", fresh...)(w, r)
			})
			_, global := nodes(t, 1, near)
			c := caddytest.Load(t, global, cached(o))
			c.WaitUp(1)
			done := make(chan caddytest.Response)
			go func() { done <- c.Get("/") }()
			caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
			if r := c.Invalidate(`{"url":["http://example.test/"]}`); r.Status != 200 {
				t.Fatalf("invalidating: got %s", r)
			}
			o.Handle(caddytest.Answer(200, "new", fresh...))
			late := make(chan caddytest.Response)
			go func() { late <- c.Get("/") }() // may wait for the flight, and must not take what it brings
			g.open()
			wantBody(t, <-done, 200, "old")
			wantBody(t, <-late, 200, "new")
			for range 20 {
				wantBody(t, c.Get("/"), 200, "new")
			}
			wantHit(t, c, "", "/")
		})
	}
}

// TestUnsafeMethod: RFC 9111, Section 4.4. A POST that went well invalidates
// its URL, and those that it names of the same site; one that failed does not.
func TestUnsafeMethod(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	c := caddytest.Load(t, "", cached(o))
	hit := func(path string) string { return string(wantHit(t, c, "near", path).Body) }
	a, b, other := hit("/a"), hit("/b"), hit("/other")
	o.Handle(caddytest.Answer(500, "", "Content-Length", "0"))
	c.Do("POST", "/a", "x")
	if got := string(c.Get("/a").Body); got != a {
		t.Errorf("after a POST that failed: got %q, want %q", got, a)
	}
	o.Handle(caddytest.Answer(201, "made", "Location", "/b", "Content-Location", "http://elsewhere.test/other"))
	if r := c.Do("POST", "/a", "x"); r.CacheStatus() != "fluster; fwd=method; fwd-status=201" {
		t.Errorf("POST: got %s, want fwd=method", r)
	}
	o.Handle(numbered(&o))
	if r := c.Get("/a"); r.Hit("") || string(r.Body) == a {
		t.Errorf("after POST /a: got %s, want it fetched anew", r)
	}
	if r := c.Get("/b"); r.Hit("") || string(r.Body) == b {
		t.Errorf("after a POST with Location: /b: got %s, want it fetched anew", r)
	}
	if r := c.Get("/other"); !r.Hit("near") || string(r.Body) != other {
		t.Errorf("after a POST to another URL: got %s, want the hit %q", r, other)
	}
}
