package fluster_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// large is what a site with long bodies sets.
var large = []string{"max_body 1GiB"}

// file answers every URL with body as a file server does: with a strong
// validator, ranges and conditions.
func file(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Etag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}

// chunkKeys returns the keys of chunks on a server.
func chunkKeys(t *testing.T, s *redistest.Server, pattern string) []string {
	t.Helper()
	keys, err := s.Client(t).Keys(context.Background(), "*:c:"+pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// largeSite loads Caddy with one node and no near cache before an origin.
func largeSite(t *testing.T, h http.HandlerFunc, options ...string) (*redistest.Server, *caddytest.Origin, *caddytest.Caddy) {
	t.Helper()
	o := caddytest.NewOrigin(t, h)
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	c := caddytest.Load(t, global, cached(o, append(large, options...)...))
	c.WaitUp(1)
	return servers[0], o, c
}

// sameBody fails the test where two bodies differ, and does not print them.
func sameBody(t *testing.T, what string, got, want []byte, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes, %v, want the %d that the origin has", what, len(got), err, len(want))
	}
}

// TestLargeBodies: C1. Bodies of random lengths around the bounds of chunks, and
// random ranges of them, are byte for byte what the origin has.
func TestLargeBodies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	_, o, c := largeSite(t, bodies)
	for i := range 14 {
		size := (1+rnd.IntN(12))*(32<<10)<<rnd.IntN(4) + rnd.IntN(5) - 2
		path := fmt.Sprintf("/%d/%d", size, i)
		if i%2 == 0 {
			path += "?length"
		}
		body := bodyOf(size)
		r := wantMiss(t, c, path)
		sameBody(t, path, r.Body, body, r.Err)
		r = wantHit(t, c, "node", path)
		sameBody(t, path+", a hit", r.Body, body, r.Err)
		asked := o.Count()
		for range 12 {
			checkRanges(t, c, rnd, path, body)
		}
		if r := c.Do("HEAD", path, ""); len(r.Body) > 0 || r.Header.Get("Content-Length") != strconv.Itoa(size) || !r.Hit("node") {
			t.Errorf("HEAD %s: got %s and Content-Length %s", path, r, r.Header["Content-Length"])
		}
		if o.Count() != asked {
			t.Errorf("%s: the origin was asked %d times for ranges of what is stored", path, o.Count()-asked)
		}
	}
}

// checkRanges asks for one to four random ranges of body.
func checkRanges(t *testing.T, c *caddytest.Caddy, rnd *rand.Rand, path string, body []byte) {
	t.Helper()
	type span struct{ from, to int }
	var spans []span
	var words []string
	at := 0
	for range 1 + rnd.IntN(4) {
		if at >= len(body) {
			break
		}
		from := at + rnd.IntN(len(body)-at)
		to := from + rnd.IntN(min(len(body)-from, 400<<10))
		spans = append(spans, span{from, to})
		words = append(words, fmt.Sprintf("%d-%d", from, to))
		at = to + 2
	}
	header := "bytes=" + strings.Join(words, ",")
	r := c.Get(path, "Range", header)
	if r.Status != http.StatusPartialContent || !r.Hit("node") {
		t.Errorf("GET %s %s: got %s, want 206 from the node", path, header, r)
		return
	}
	if len(spans) == 1 {
		sameBody(t, header, r.Body, body[spans[0].from:spans[0].to+1], r.Err)
		return
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(bytes.NewReader(r.Body), params["boundary"])
	for _, s := range spans {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatalf("%s: %v", header, err)
		}
		got, err := io.ReadAll(p)
		sameBody(t, header, got, body[s.from:s.to+1], err)
	}
}

// TestRangesReadWhatTheyNeed: a range of a long body needs its own chunks, a
// HEAD and a 304 none.
func TestRangesReadWhatTheyNeed(t *testing.T) {
	body := bodyOf(4 << 20)
	node, o, c := largeSite(t, file(body))
	wantMiss(t, c, "/")
	waitStored(t, []*redistest.Server{node}, 1)
	wantHit(t, c, "node", "/")
	client := node.Client(t)
	for _, key := range chunkKeys(t, node, "*") {
		if !strings.HasSuffix(key, ":7") {
			client.Del(t.Context(), key)
		}
	}
	from := 7*(256<<10) + 10
	r := c.Get("/", "Range", fmt.Sprintf("bytes=%d-%d", from, from+1000))
	if sameBody(t, "a range", r.Body, body[from:from+1001], r.Err); !r.Hit("node") {
		t.Errorf("a range in a chunk that is there: got %s, want a hit", r)
	}
	if r := c.Do("HEAD", "/", ""); !r.Hit("node") {
		t.Errorf("HEAD: got %s, want a hit", r)
	}
	if r := c.Get("/", "If-None-Match", `"one"`); r.Status != 304 || !r.Hit("node") {
		t.Errorf("If-None-Match: got %s, want a 304 from the node", r)
	}
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
	if r := c.Get("/"); r.Hit("") {
		t.Errorf("a body whose beginning is gone: got %s, want a miss", r)
	}
}

// TestLargeIsConfirmed: a long response that the origin confirms is served from
// its chunks, which live on with it.
func TestLargeIsConfirmed(t *testing.T) {
	body := bodyOf(3 << 20)
	validated := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // stored, and validated each time
		w.Header().Set("Etag", `"one"`)
		http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(body))
	}
	node, o, c := largeSite(t, validated)
	wantMiss(t, c, "/")
	waitStored(t, []*redistest.Server{node}, 1)
	keys := chunkKeys(t, node, "*")
	client := node.Client(t)
	for _, key := range keys {
		client.PExpire(t.Context(), key, 30*time.Second)
	}
	const confirmed = "fluster; fwd=stale; fwd-status=304; stored"
	for range 2 {
		r := c.Get("/")
		if sameBody(t, "what was confirmed", r.Body, body, r.Err); r.CacheStatus() != confirmed {
			t.Errorf("got %s, want a 304 behind it", r)
		}
	}
	caddytest.Eventually(t, "the chunks live on", func() bool {
		for _, key := range keys {
			if client.TTL(t.Context(), key).Val() < time.Minute {
				return false
			}
		}
		return true
	})
	// What the origin confirms, but the node has lost, is fetched.
	client.Del(t.Context(), keys...)
	asked := o.Count()
	r := c.Get("/")
	if sameBody(t, "what is gone", r.Body, body, r.Err); o.Count() != asked+2 {
		t.Errorf("the origin was asked %d times for what is gone, want twice: to confirm it, and for all of it", o.Count()-asked)
	}
}

// TestLargeInNear: a long body that the near cache takes is read from the node
// once.
func TestLargeInNear(t *testing.T) {
	body := bodyOf(2 << 20)
	o := caddytest.NewOrigin(t, file(body))
	servers, global := nodes(t, 1, "timeout 5s")
	c := caddytest.Load(t, global, cached(o, large...))
	c.WaitUp(1)
	r := wantMiss(t, c, "/")
	sameBody(t, "a miss", r.Body, body, r.Err)
	r = wantHit(t, c, "near", "/")
	sameBody(t, "near", r.Body, body, r.Err)
	waitStored(t, servers, 1)
	c.Reload(strings.Replace(global, "fluster {", "fluster {\nnear off\n", 1), cached(o, large...))
	c.WaitUp(1)
	wantHit(t, c, "node", "/")
	c.Reload(global, cached(o, large...))
	c.WaitUp(1)
	r = wantHit(t, c, "near", "/")
	sameBody(t, "near, from the node", r.Body, body, r.Err)
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
}

// TestLargeForOneClient: C1. What the origin confirms for one client alone is not kept in
// the near cache when its body was read from the node, neither for others nor to be
// served when the origin fails.
func TestLargeForOneClient(t *testing.T) {
	var answer atomic.Pointer[http.HandlerFunc]
	says := func(status int, fields ...string) {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"one"`)
			for i := 0; i < len(fields); i += 2 {
				w.Header().Set(fields[i], fields[i+1])
			}
			w.WriteHeader(status)
			if status == http.StatusOK {
				w.Write(bodyOf(300 << 10)) //nolint:errcheck // the client will see
			}
		})
		answer.Store(&h)
	}
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })
	servers, global := nodes(t, 1, "timeout 5s")
	c := caddytest.Load(t, strings.Replace(global, "fluster {", "fluster {\nnear off\n", 1), cached(o, large...))
	c.WaitUp(1)
	says(http.StatusOK, "Cache-Control", "max-age=0")
	wantMiss(t, c, "/")
	waitStored(t, servers, 1)
	c.Reload(global, cached(o, large...))
	c.WaitUp(1)
	says(http.StatusNotModified, "Cache-Control", "private", "User", "alice")
	if r := c.Get("/"); r.Header.Get("User") != "alice" || r.CacheStatus() != "fluster; fwd=stale; fwd-status=304; detail=private" {
		t.Errorf("who asks: got user %q, %s, want what the origin says", r.Header.Get("User"), r.CacheStatus())
	}
	says(http.StatusServiceUnavailable)
	if r := c.Get("/"); r.Header.Get("User") != "" {
		t.Errorf("when the origin fails: got the first one's field, %s", r.CacheStatus())
	}
	says(http.StatusNotModified, "Cache-Control", "max-age=600")
	if r := c.Get("/"); r.Header.Get("User") != "" || r.CacheStatus() != "fluster; fwd=stale; fwd-status=304; stored" {
		t.Errorf("another one: got user %q, %s, want what was stored before", r.Header.Get("User"), r.CacheStatus())
	}
}
