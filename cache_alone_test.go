package fluster_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// lookups returns how often a node was looked on.
func lookups(t *testing.T, server *redistest.Server) string {
	t.Helper()
	m := regexp.MustCompile(`cmdstat_mget:calls=(\d+),`).FindStringSubmatch(server.Client(t).Info(t.Context(), "commandstats").Val())
	if m == nil {
		return "0"
	}
	return m[1]
}

// TestPrivateIsNotLookedUp: a URL whose responses are for nobody else costs no
// round trip to a node, until one may be stored.
func TestPrivateIsNotLookedUp(t *testing.T) {
	for detail, header := range map[string][]string{
		"no-store":     {"Cache-Control", "no-store"},
		"private":      {"Cache-Control", "private, max-age=60"},
		"set-cookie":   {"Cache-Control", "max-age=60", "Set-Cookie", "a=b"},
		"no-freshness": nil,
	} {
		t.Run(detail, func(t *testing.T) {
			o := caddytest.NewOrigin(t, caddytest.Answer(200, "mine", header...))
			servers, global := nodes(t, 1, "near off")
			c := caddytest.Load(t, global, cached(o))
			c.WaitUp(1)
			servers[0].Client(t).ConfigResetStat(t.Context()) // trying the node is no lookup
			for range 5 {
				if r := c.Get("/"); !strings.Contains(r.CacheStatus(), "detail="+detail) {
					t.Fatalf("Cache-Status: got %q, want the detail %s", r.CacheStatus(), detail)
				}
			}
			if got := lookups(t, servers[0]); got != "1" {
				t.Errorf("the node was looked on %s times by 5 requests, want once", got)
			}
			o.Handle(caddytest.Answer(200, "for all", fresh...))
			wantMiss(t, c, "/")
			since := time.Now()
			wantBody(t, wantHit(t, c, "node", "/"), 200, "for all")
			if took := time.Since(since); took > 8*time.Second {
				t.Errorf("what was stored was found after %v, want before the mark has had its 10 s", took)
			}
		})
	}
}

// TestMarkedAnew: when a mark has had its time, one request looks again, and then
// none for as long.
func TestMarkedAnew(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "mine", "Cache-Control", "no-store"))
	servers, global := nodes(t, 1, "near off")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	servers[0].Client(t).ConfigResetStat(t.Context())
	for round, want := range []string{"1", "2", "3"} {
		for range 4 {
			wantMiss(t, c, "/")
		}
		if got := lookups(t, servers[0]); got != want {
			t.Errorf("round %d: the node was looked on %s times in all, want %s", round, got, want)
		}
		if !fluster.EndMark("http://" + caddytest.Host + "/") {
			t.Fatal("the key is not marked")
		}
	}
}

// TestOlderThanPrivate: C4. What another Caddy has stored while responses here were
// for nobody else, and nobody looked, is not fresh when it is older than those.
func TestOlderThanPrivate(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "version 0", "Cache-Control", "no-store"))
	_, global := nodes(t, 1, "near off")
	c, other := caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	c.WaitUp(1)
	other.WaitUp(1)
	wantMiss(t, c, "/")
	o.Handle(caddytest.Answer(200, "version 1", fresh...))
	wantMiss(t, other, "/")
	wantHit(t, other, "node", "/")
	o.Handle(caddytest.Answer(200, "version 2", "Cache-Control", "no-store"))
	wantBody(t, wantMiss(t, c, "/"), 200, "version 2")
	if !fluster.EndMark("http://" + caddytest.Host + "/") {
		t.Fatal("the key is not marked")
	}
	wantBody(t, c.Get("/"), 200, "version 2")
	o.Handle(caddytest.Answer(200, "version 3", fresh...))
	wantMiss(t, c, "/")
	wantBody(t, wantHit(t, c, "node", "/"), 200, "version 3")
}

// TestFailuresAreLookedUp: what says nothing of the responses to come leaves the
// node to be looked on.
func TestFailuresAreLookedUp(t *testing.T) {
	for name, tt := range map[string]struct {
		handle  http.HandlerFunc
		request []string
	}{
		"failure":       {caddytest.Answer(500, "oops", "Cache-Control", "no-store"), nil},
		"authorization": {caddytest.Answer(200, "mine", "Cache-Control", "private"), []string{"Authorization", "Basic x"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := caddytest.NewOrigin(t, tt.handle)
			servers, global := nodes(t, 1, "near off")
			c := caddytest.Load(t, global, cached(o))
			c.WaitUp(1)
			servers[0].Client(t).ConfigResetStat(t.Context()) // trying the node is no lookup
			for range 3 {
				c.Get("/", tt.request...)
			}
			if got := lookups(t, servers[0]); got != "3" {
				t.Errorf("the node was looked on %s times by 3 requests, want 3 times", got)
			}
		})
	}
}

// TestWhatHasBecomePrivate: what was for all once, and lies in the near cache yet,
// makes nobody wait when it is for each client alone.
func TestWhatHasBecomePrivate(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "for all", "Cache-Control", "max-age=0", "Etag", `"a"`))
	c := caddytest.Load(t, "", cached(o))
	wantMiss(t, c, "/")
	o.Handle(caddytest.Answer(200, "mine", "Cache-Control", "private"))
	for range 2 {
		wantBody(t, c.Get("/"), 200, "mine")
	}
	g := newGate()
	o.Handle(func(w http.ResponseWriter, r *http.Request) {
		g.wait(r)
		caddytest.Answer(200, "mine", "Cache-Control", "private")(w, r)
	})
	before := o.Count()
	answers := []<-chan caddytest.Response{background(c, "/"), background(c, "/"), background(c, "/")}
	caddytest.Eventually(t, "all are forwarded at once", func() bool { return o.Count() == before+3 })
	g.open()
	for _, answer := range answers {
		wantBody(t, <-answer, 200, "mine")
	}
}

// TestSlowNodeIsLookedUpAgain: that the origin failed several who waited, while
// the node was too slow to say what it has, keeps nobody from looking there again.
func TestSlowNodeIsLookedUpAgain(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, global := nodes(t, 1, "near off")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantMiss(t, c, "/")
	wantHit(t, c, "node", "/")
	g := newGate()
	asked := o.Count()
	o.Handle(func(w http.ResponseWriter, r *http.Request) {
		g.wait(r)
		w.WriteHeader(503)
	})
	servers[0].Pause()
	answers := []<-chan caddytest.Response{background(c, "/"), background(c, "/")}
	caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() > asked })
	time.Sleep(300 * time.Millisecond) // until both wait
	g.open()
	for _, answer := range answers {
		if r := <-answer; r.Status != 503 {
			t.Errorf("while the node stands still: got %s, want 503", r)
		}
	}
	servers[0].Resume()
	since := time.Now()
	c.WaitUp(1)
	caddytest.Eventually(t, "what the node has is used", func() bool {
		r := c.Get("/")
		return r.Status == 200 && r.Hit("")
	})
	if took := time.Since(since); took > 8*time.Second {
		t.Errorf("what the node has was used after %v, want at once", took)
	}
}

// TestLockMarkedForCredentials: where the lock tells that a response was not shared, and
// it was so for the credentials of its request, the first response that is stored is for
// all who come then.
func TestLockMarkedForCredentials(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Cache-Control", "max-age=600"))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	c := caddytest.Load(t, global, cached(o, "collapse cluster"))
	c.WaitUp(1)
	wantMiss(t, c, "/", "Authorization", "a")
	caddytest.Eventually(t, "the lock is marked", func() bool {
		keys, err := servers[0].Client(t).Keys(t.Context(), "*:l:*").Result()
		if err != nil || len(keys) != 1 {
			return false
		}
		v, _ := servers[0].Client(t).Get(t.Context(), keys[0]).Result()
		return v == "alone"
	})
	wantMiss(t, c, "/")
	waitStored(t, servers, 1)
	for range 3 {
		wantHit(t, c, "node", "/")
	}
	if o.Count() != 2 {
		t.Errorf("the origin was asked %d times, want twice", o.Count())
	}
}
