package fluster_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// sizes of bodies: none, what lies in one value on a node, what lies in one
// chunk or several, and what is too long to be stored (max_body is 1MiB).
var sizes = []int{0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 200<<10}

// manyBodies are the bodies that bodyOf has made, by their length.
var manyBodies sync.Map // int → []byte

// bodyOf returns a body of this length, of which no other is the beginning. It
// is read only.
func bodyOf(size int) []byte {
	if b, ok := manyBodies.Load(size); ok {
		return b.([]byte)
	}
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16), 1})
	r.Read(b)
	manyBodies.Store(size, b)
	return b
}

// bodies answers /<size>/<anything> with the body of that size, with or without
// Content-Length.
func bodies(w http.ResponseWriter, r *http.Request) {
	word, _, _ := strings.Cut(r.URL.Path[1:], "/")
	size, err := strconv.Atoi(word)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "max-age=600")
	h.Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Has("length") {
		h.Set("Content-Length", word)
	}
	b := bodyOf(size)
	for len(b) > 0 {
		n := min(len(b), 10_000) // as it comes from a network, not all at once
		w.Write(b[:n])
		b = b[n:]
	}
}

// TestBodies: C1. Byte for byte what the origin sent, whole, miss and hit, with
// 64 clients at once.
func TestBodies(t *testing.T) {
	servers, global := nodes(t, 3, "timeout 10s") // no request is to miss because the machine is loaded
	for _, where := range []string{"near", "node"} {
		t.Run(where, func(t *testing.T) {
			o := caddytest.NewOrigin(t, bodies)
			g, prefix := global, "/"+where
			if where == "node" {
				g = strings.Replace(global, "}", "near off\n}", 1)
			}
			c := caddytest.Load(t, g, cached(o, "max_body 1MiB"))
			c.WaitUp(3)
			var paths []string
			for _, size := range sizes {
				paths = append(paths, fmt.Sprintf("/%d%s", size, prefix), fmt.Sprintf("/%d%s?length", size, prefix))
			}
			askAll(t, c, paths, 64) // misses, and whoever follows them
			for i, path := range paths {
				if size := sizes[i/2]; size <= 1<<20 {
					wantStoredBody(t, c, where, path, size)
				}
			}
			before := o.Count()
			askAll(t, c, paths, 64) // hits, but for what is too long
			// 64 for what is too long; a long body may be fetched again while as many
			// clients as there is room for read theirs slowly.
			if got, most := o.Count()-before, 64+len(paths)*64/4; got > most {
				t.Errorf("the origin was asked %d times for what is stored, want at most %d times", got, most)
			}
		})
	}
	if n := len(storedKeys(t, servers)); n < 2*9 {
		t.Errorf("the nodes hold %d responses, want %d at least", n, 2*9)
	}
}

// askAll asks for all paths from as many clients at once, each in its own
// order. Of the two paths of a long body each client asks for one.
func askAll(t *testing.T, c *caddytest.Caddy, paths []string, clients int) {
	t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Int32
	for client := range clients {
		wg.Go(func() {
			for _, i := range rand.Perm(len(paths)) {
				if sizes[i/2] > 100_000 && i%2 != client%2 {
					continue
				}
				r := c.Get(paths[i])
				if want := bodyOf(sizes[i/2]); r.Err != nil || r.Status != 200 || !bytes.Equal(r.Body, want) {
					if failed.Add(1) > 3 {
						return // the others would say the same
					}
					t.Errorf("GET %s: got %d, %d bytes, %v [%s], want 200 and the %d bytes that the origin sent",
						paths[i], r.Status, len(r.Body), r.Err, r.CacheStatus(), len(want))
					return
				}
			}
		})
	}
	wg.Wait()
}

func wantStoredBody(t *testing.T, c *caddytest.Caddy, where, path string, size int) {
	t.Helper()
	r := wantHit(t, c, where, path)
	if !bytes.Equal(r.Body, bodyOf(size)) || r.Header.Get("Content-Length") != strconv.Itoa(size) {
		t.Errorf("GET %s: a hit of %d bytes with Content-Length %s, want the %d bytes that the origin sent", path, len(r.Body), r.Header["Content-Length"], size)
	}
}

// TestTooLongIsNotStored: what is above max_body passes, and is not stored,
// whether its length was said before or not.
func TestTooLongIsNotStored(t *testing.T) {
	o := caddytest.NewOrigin(t, bodies)
	c := caddytest.Load(t, "", cached(o, "max_body 64KiB", "collapse off"))
	for _, path := range []string{"/65537/", "/65537/?length"} {
		for range 3 {
			if r := c.Get(path); r.Hit("") || !bytes.Equal(r.Body, bodyOf(65537)) {
				t.Errorf("GET %s: got %s, want a miss with the whole body", path, r)
			}
		}
	}
	if o.Count() != 6 {
		t.Errorf("the origin was asked %d times, want 6", o.Count())
	}
}
