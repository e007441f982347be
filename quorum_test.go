package fluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// confirming answers with a validator, and confirms what has it.
func confirming(confirmed *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` {
			confirmed.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		caddytest.Answer(200, "body of "+r.URL.Path, append(fresh, "ETag", `"1"`)...)(w, r)
	}
}

// TestQuorum: with quorum strict nothing is served from a cache without asking
// the origin, and nothing is acknowledged, while two nodes of three are away;
// without it, the one that is left is enough.
func TestQuorum(t *testing.T) {
	for _, quorum := range []string{"strict", "available"} {
		for _, near := range []string{"near 1MiB", "near off"} {
			t.Run(quorum+" "+near, func(t *testing.T) {
				var confirmed atomic.Int64
				o := caddytest.NewOrigin(t, confirming(&confirmed))
				servers, global := nodes(t, 3, "quorum "+quorum, near, "max_blind forever", "penalty 50ms 200ms")
				c := caddytest.Load(t, global, cached(o))
				c.WaitUp(3)
				strict, paths := quorum == "strict", []string{}
				for i := range 12 { // on each node some
					paths = append(paths, fmt.Sprint("/", i))
					wantHit(t, c, "", paths[i])
				}
				servers[0].Kill()
				wantServed(t, c, o, "with two nodes of three", paths, true)
				if r := c.Invalidate(`{"tag":["none"]}`); r.Status != 200 {
					t.Errorf("invalidating with two nodes of three: got %s, want 200", r)
				}
				servers[1].Kill()
				c.WaitUp(1)
				if strict { // what was proven before lasts for a second
					caddytest.Eventually(t, "the lease is over", func() bool { return !c.Get(paths[0]).Hit("") })
				}
				wantServed(t, c, o, "with one node of three", paths, !strict)
				if strict && near == "near 1MiB" && confirmed.Load() == 0 {
					t.Error("what the near cache has was fetched anew, want it validated")
				}
				status := 200
				if strict {
					status = 503
				}
				r := c.Invalidate(`{"tag":["none"]}`)
				if r.Status != status || !strings.Contains(string(r.Body), `"applied":["c"],"owed":["a","b"]`) {
					t.Errorf("invalidating with one node of three: got %s, want %d", r, status)
				}
				servers[0].Restart()
				c.WaitUp(2)
				wantServed(t, c, o, "with two nodes again", paths, true)
			})
		}
	}
}

// wantServed wants each path served from the cache, without the origin, within
// a moment; or none of them, at no time.
func wantServed(t *testing.T, c *caddytest.Caddy, o *caddytest.Origin, when string, paths []string, want bool) {
	t.Helper()
	for _, path := range paths {
		if want {
			wantHit(t, c, "", path)
			continue
		}
		for range 3 {
			before := o.Count()
			r := c.Get(path)
			if wantBody(t, r, 200, "body of "+path); r.Hit("") || o.Count() == before {
				t.Errorf("%s: GET %s: got %s, want the origin asked", when, path, r)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
