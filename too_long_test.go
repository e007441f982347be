package fluster_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestPartOfWhatIsOlder: C4. A part that is kept in this process is not given any more
// after a newer response that is too long to take its place.
func TestPartOfWhatIsOlder(t *testing.T) {
	old, new := bytes.Repeat([]byte("old."), 300<<8), bytes.Repeat([]byte("new."), 300<<8)
	page := func(body []byte, etag string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Etag", etag)
			http.ServeContent(w, r, "a.bin", time.Time{}, bytes.NewReader(body))
		}
	}
	for name, second := range map[string][]string{"the whole": nil, "another part": {"Range", "bytes=0-200000"}} {
		t.Run(name, func(t *testing.T) {
			o := caddytest.NewOrigin(t, page(old, `"one"`))
			c := caddytest.Load(t, "fluster {\nnear 1MiB\n}", cached(o))
			wantMiss(t, c, "/", "Range", "bytes=300000-")
			wantHit(t, c, "near", "/", "Range", "bytes=300000-")
			o.Handle(page(new, `"two"`))
			if r := wantMiss(t, c, "/", second...); !bytes.HasPrefix(r.Body, []byte("new.")) {
				t.Fatalf("got %s, want the newer one", r)
			}
			if r := c.Get("/", "Range", "bytes=300000-"); !bytes.Equal(r.Body, new[300000:]) {
				t.Errorf("the part: got %.8q [%s], want the newer one", r.Body, r.CacheStatus())
			}
		})
	}
}

// TestLongAfterShort: what has become too long for the near cache is found on its node,
// in place of the shorter one that was kept here.
func TestLongAfterShort(t *testing.T) {
	long := bytes.Repeat([]byte("new."), 300<<8)
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "old", "Cache-Control", "max-age=1", "Etag", `"one"`))
	_, global := nodes(t, 1, "near 1MiB", "timeout 5s")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantMiss(t, c, "/")
	o.Handle(caddytest.Answer(200, string(long), append([]string{"Etag", `"two"`}, fresh...)...))
	caddytest.Eventually(t, "the longer one is a hit", func() bool {
		r := c.Get("/")
		return r.Hit("node") && bytes.Equal(r.Body, long)
	})
}
