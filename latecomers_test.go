package fluster_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestLatecomerOfWhatIsStale: C1. Who comes when a response has become stale that is
// still on its way to another is not given it, but forwarded.
func TestLatecomerOfWhatIsStale(t *testing.T) {
	for _, control := range []string{"max-age=1", "no-cache"} {
		t.Run(control, func(t *testing.T) {
			g := newGate()
			var asked atomic.Int32
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					caddytest.Answer(200, "new", "Cache-Control", control, "Etag", `"new"`)(w, r)
					return
				}
				inParts(g, "ol", thenWrite("d"), "Cache-Control", control, "Etag", `"old"`)(w, r)
			})
			c := caddytest.Load(t, "", cached(o))
			leader := c.Open(testContext(t), "/")
			wantPart(t, leader, "ol")
			if control == "max-age=1" {
				time.Sleep(1100 * time.Millisecond)
			}
			wantBody(t, within(t, 10*time.Second, "who came late", background(c, "/")), 200, "new")
			g.open()
			wantRest(t, leader, "d")
		})
	}
}

// TestHerdAfterInvalidation: those who come after an invalidation are not given what
// is on its way since before it, and share one forward of their own.
func TestHerdAfterInvalidation(t *testing.T) {
	g := newGate()
	var asked atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if n == 1 {
			inParts(g, "old", thenWrite(""), fresh...)(w, r)
			return
		}
		time.Sleep(time.Second)
		caddytest.Answer(200, "new", fresh...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	leader := c.Open(testContext(t), "/")
	wantPart(t, leader, "old")
	if r := c.Invalidate(`{"all":true}`); r.Status != 200 {
		t.Fatalf("invalidating: got %s", r)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if r := c.Get("/"); r.Err != nil || string(r.Body) != "new" {
				t.Errorf("after the invalidation: got %s", r)
			}
		})
	}
	wg.Wait()
	g.open()
	wantRest(t, leader, "")
	if o.Count() != 2 {
		t.Errorf("the origin was asked %d times, want twice", o.Count())
	}
}

// TestHerdOfVariants: concurrent requests for a cold URL whose responses vary are one
// forward for each variant, all of which are stored.
func TestHerdOfVariants(t *testing.T) {
	for _, collapse := range []string{"process", "cluster"} {
		t.Run(collapse, func(t *testing.T) {
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				g := newGate()
				time.AfterFunc(500*time.Millisecond, g.open)
				time.Sleep(200 * time.Millisecond)
				inParts(g, "in ", thenWrite(r.Header.Get("X-Tongue")), append(fresh, "Vary", "X-Tongue")...)(w, r)
			})
			_, global := nodes(t, 1, "timeout 5s")
			c := caddytest.Load(t, global, cached(o, "collapse "+collapse))
			c.WaitUp(1)
			tongues := []string{"de", "en", "fr"}
			var wg sync.WaitGroup
			for i := range 90 {
				tongue := tongues[i%len(tongues)]
				wg.Go(func() {
					if r := c.Get("/", "X-Tongue", tongue); r.Err != nil || string(r.Body) != "in "+tongue {
						t.Errorf("%s: got %s", tongue, r)
					}
				})
			}
			wg.Wait()
			for _, tongue := range tongues {
				wantHit(t, c, "near", "/", "X-Tongue", tongue)
			}
			if o.Count() != len(tongues) {
				t.Errorf("the origin was asked %d times, want %d", o.Count(), len(tongues))
			}
		})
	}
}

// TestVariantsThatEndAtOnce: of variants that are stored at the same time, each is
// on the list of its URL afterwards.
func TestVariantsThatEndAtOnce(t *testing.T) {
	tongues := []string{"de", "en", "fr", "it"}
	var here sync.WaitGroup
	var together atomic.Bool
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if together.Load() {
			here.Done()
			here.Wait()
		}
		caddytest.Answer(200, r.Header.Get("X-Tongue"), append(fresh, "Vary", "X-Tongue")...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o, "collapse off"))
	for i := range 20 {
		path := fmt.Sprint("/", i)
		here.Add(len(tongues))
		together.Store(true)
		var wg sync.WaitGroup
		for _, tongue := range tongues {
			wg.Go(func() { c.Get(path, "X-Tongue", tongue) })
		}
		wg.Wait()
		together.Store(false)
		for _, tongue := range tongues {
			r := wantHit(t, c, "near", path, "X-Tongue", tongue)
			wantBody(t, r, 200, tongue)
		}
	}
	if got, want := o.Count(), 20*len(tongues); got != want {
		t.Errorf("the origin was asked %d times, want %d", got, want)
	}
}
