package fluster_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestQueriesThatMeanTheSameNoMore: C1. Who waits for the forward of another query,
// as the two meant the same until then, is not given its response when that says
// that they do not.
func TestQueriesThatMeanTheSameNoMore(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "No-Vary-Search", `params=("a" "b")`)...))
	c := caddytest.Load(t, "", cached(o, "no_vary_search"))
	wantHit(t, c, "near", "/p?a=1")
	if r := c.Get("/p?a=2"); !r.Hit("near") {
		t.Fatalf("another query: got %s, want a hit", r)
	}
	for _, header := range [][]string{fresh, append(fresh, "No-Vary-Search", `params=("b")`)} {
		if r := c.Invalidate(`{"all":true}`); r.Status != 200 {
			t.Fatalf("invalidating: got %s", r)
		}
		g := newGate()
		o.Handle(func(w http.ResponseWriter, r *http.Request) {
			g.wait(r)
			caddytest.Answer(200, r.URL.RawQuery, header...)(w, r)
		})
		before := o.Count()
		answers := map[string]<-chan caddytest.Response{"a=1": background(c, "/p?a=1")}
		caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() > before })
		for _, query := range []string{"a=2", "a=3", "a=4"} {
			answers[query] = background(c, "/p?"+query)
		}
		time.Sleep(200 * time.Millisecond) // for them to wait
		g.open()
		for query, answer := range answers {
			wantBody(t, within(t, 20*time.Second, query, answer), 200, query)
		}
		o.Handle(caddytest.Answer(200, "page", append(fresh, "No-Vary-Search", `params=("a" "b")`)...))
		if r := c.Invalidate(`{"all":true}`); r.Status != 200 {
			t.Fatalf("invalidating: got %s", r)
		}
		wantHit(t, c, "near", "/p?a=1")
	}
}

// TestQueriesOfOtherMeaning: C1. What one response says of the queries of its path
// is not held against what another one was stored for.
func TestQueriesOfOtherMeaning(t *testing.T) {
	for _, near := range []string{"near 1MiB", "near off"} {
		t.Run(near, func(t *testing.T) {
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				params := `params=("a")`
				if r.URL.Query().Has("c") {
					params = `params=("a" "b")`
				}
				caddytest.Answer(200, r.URL.RawQuery, append(fresh, "No-Vary-Search", params)...)(w, r)
			})
			_, global := nodes(t, 1, near, "timeout 5s")
			c := caddytest.Load(t, global, cached(o, "no_vary_search"))
			c.WaitUp(1)
			wantBody(t, wantHit(t, c, "", "/p?a=1"), 200, "a=1")
			wantHit(t, c, "", "/p?a=2")
			wantBody(t, wantHit(t, c, "", "/p?a=1&c=1"), 200, "a=1&c=1")
			wantBody(t, c.Get("/p?b=1"), 200, "b=1")
		})
	}
}
