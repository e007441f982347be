package fluster_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestValidationsLaterAreBounded: C5. However many URLs are stale, and however long the
// origin takes, no more than so many are validated in the background at a time. All are
// served meanwhile, and validated when there is room.
func TestValidationsLaterAreBounded(t *testing.T) {
	const urls = fluster.MaxLater + 44
	var under, most, done atomic.Int64
	slow := make(chan struct{})
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			n := under.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			<-slow
			under.Add(-1)
			done.Add(1)
			w.Header().Set("Cache-Control", "max-age=600")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		caddytest.Answer(200, r.URL.Path, "Etag", `"1"`, "Cache-Control", "max-age=0, stale-while-revalidate=600")(w, r)
	})
	release := sync.OnceFunc(func() { close(slow) })
	t.Cleanup(release) // before the origin's, which waits for what it has under way
	c := caddytest.Load(t, "", cached(o))
	for i := range urls {
		c.Get(fmt.Sprint("/", i))
	}
	ask := func() {
		for i := range urls {
			path := fmt.Sprint("/", i)
			if r := c.Get(path); !r.Hit("") || string(r.Body) != path {
				t.Fatalf("%s: got %v, want it at once, stale as it is", path, r)
			}
		}
	}
	ask()
	caddytest.Eventually(t, "as many validations as there may be are under way", func() bool { return under.Load() >= fluster.MaxLater })
	ask()
	if got := most.Load(); got != fluster.MaxLater {
		t.Errorf("%d validations are under way, want %d", got, fluster.MaxLater)
	}
	release()
	caddytest.Eventually(t, "all are validated", func() bool { ask(); return done.Load() >= urls })
}
