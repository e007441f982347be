package fluster_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestCollectedLate: who reads a long body slowly from a node does not put it into the
// near cache in place of what was stored meanwhile.
func TestCollectedLate(t *testing.T) {
	old, new := bytes.Repeat([]byte("old."), 2<<20/4*3), bytes.Repeat([]byte("new."), 2<<20/4*3)
	o := caddytest.NewOrigin(t, file(old))
	_, global := nodes(t, 1, "near off", "timeout 5s")
	site := cached(o, "max_body 1GiB", "client_directives honor")
	c, other := caddytest.Load(t, strings.Replace(global, "near off", "", 1), site), caddytest.Start(t, global, site)
	c.WaitUp(1)
	other.WaitUp(1)
	wantHit(t, other, "node", "/")
	var slow *http.Response
	for range 5 { // a machine that stands still lets the lease lapse
		if slow = c.Open(testContext(t), "/"); strings.Contains(slow.Header.Get("Cache-Status"), "detail=node") {
			break
		}
		slow.Body.Close()
	}
	o.Handle(func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, string(new), append(fresh, "Etag", `"two"`)...)(w, r)
	})
	if r := c.Get("/", "Cache-Control", "no-cache"); !bytes.Equal(r.Body, new) {
		t.Fatalf("who asks for what is new: got %d bytes, %v [%s]", len(r.Body), r.Err, r.CacheStatus())
	}
	caddytest.Eventually(t, "the new one is a hit", func() bool { return c.Get("/").Hit("near") })
	io.Copy(io.Discard, slow.Body) //nolint:errcheck // where it got stuck is not the question here
	slow.Body.Close()
	for range 20 {
		if r := c.Get("/"); !bytes.Equal(r.Body, new) {
			t.Fatalf("the next one: got %d bytes %.8q [%s], want the new ones", len(r.Body), r.Body, r.CacheStatus())
		}
	}
}
