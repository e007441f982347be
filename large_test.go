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

// TestChunkGone: C1, C7. A chunk that is gone or changed when the client has the
// beginning of the body: the origin sends the rest, if it has the same bytes;
// else the response is broken off. The next one is a miss.
func TestChunkGone(t *testing.T) {
	body := bodyOf(4 << 20)
	another := append(bytes.Clone(body), 'x')
	noRanges := func(etag string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", etag)
			caddytest.Answer(200, string(body), fresh...)(w, nil)
		}
	}
	tests := []struct {
		name          string
		before, after http.HandlerFunc
		spoil         func(t *testing.T, s *redistest.Server, key string)
		result        string
	}{
		{"gone", file(body), file(body), deleteKey, "origin"},
		{"changed", file(body), file(body), spoilKey, "origin"},
		{"no ranges at the origin", noRanges(`"a"`, body), noRanges(`"a"`, body), deleteKey, "origin"},
		{"changed at the origin", noRanges(`"a"`, body), noRanges(`"b"`, another), deleteKey, "broken-off"},
		{"a weak validator", noRanges(`W/"a"`, body), noRanges(`W/"a"`, body), deleteKey, "broken-off"},
		{"the origin fails", file(body), caddytest.Answer(503, "down"), deleteKey, "broken-off"},
		{"the origin breaks off", file(body), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"one"`)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", 8*(256<<10), len(body)-1, len(body)))
			w.Header().Set("Content-Length", strconv.Itoa(len(body)-8*(256<<10)))
			w.WriteHeader(206)
			w.Write(body[8*(256<<10) : 9*(256<<10)])
			panic(http.ErrAbortHandler)
		}, deleteKey, "broken-off"},
	}
	node, o, c := largeSite(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := "/" + strings.ReplaceAll(tt.name, " ", "-")
			o.Handle(tt.before)
			wantMiss(t, c, path)
			wantHit(t, c, "node", path)
			o.Handle(tt.after)
			for _, key := range chunkKeys(t, node, "*:8") {
				tt.spoil(t, node, key)
			}
			before := c.Metric(`caddy_fluster_continued_total{result="` + tt.result + `"}`)
			r := c.Get(path)
			if tt.result == "origin" {
				sameBody(t, path, r.Body, body, r.Err)
			} else if r.Err == nil || !bytes.HasPrefix(body, r.Body) {
				t.Errorf("got %s, want it broken off", r)
			}
			if got := c.Metric(`caddy_fluster_continued_total{result="`+tt.result+`"}`) - before; got != 1 {
				t.Errorf("continued_total of %s went up by %v, want 1", tt.result, got)
			}
			caddytest.Eventually(t, "the manifest is deleted", func() bool { return len(storedKeys(t, []*redistest.Server{node})) == 0 })
			node.Client(t).Del(t.Context(), chunkKeys(t, node, "*")...)
		})
	}
}

func deleteKey(t *testing.T, s *redistest.Server, key string) { s.Client(t).Del(t.Context(), key) }

func spoilKey(t *testing.T, s *redistest.Server, key string) {
	s.Client(t).SetRange(t.Context(), key, 1000, "something else")
}

// TestNodeDiesDuringHit: C2. A node that goes away while a client reads from it
// is not the client's trouble: the origin sends the rest.
func TestNodeDiesDuringHit(t *testing.T) {
	body := bodyOf(32 << 20)
	node, o, c := largeSite(t, file(body))
	wantMiss(t, c, "/")
	wantHit(t, c, "node", "/")
	resp := c.Open(testContext(t), "/")
	defer resp.Body.Close()
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	node.Kill()
	rest, err := io.ReadAll(resp.Body)
	sameBody(t, "the whole", append(first, rest...), body, err)
	if got := o.Last().Header.Get("If-Range"); got != `"one"` {
		t.Errorf("the origin was asked for the rest with If-Range %q, want the validator", got)
	}
}

// TestOriginDiesDuringFill: C1. A long response that breaks off is broken off for
// its client, and nothing of it stays on the node.
func TestOriginDiesDuringFill(t *testing.T) {
	g := newGate()
	body := string(bodyOf(2 << 20))
	node, o, c := largeSite(t, inParts(g, body, breakOff, fresh...))
	resp := c.Open(testContext(t), "/")
	defer resp.Body.Close()
	caddytest.Eventually(t, "chunks lie on the node", func() bool { return len(chunkKeys(t, node, "*")) >= 4 })
	g.open()
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("got %d bytes and a proper end, want it broken off", len(got))
	}
	caddytest.Eventually(t, "the chunks are deleted", func() bool { return len(chunkKeys(t, node, "*")) == 0 })
	o.Handle(caddytest.Answer(200, "well", fresh...))
	wantBody(t, wantMiss(t, c, "/"), 200, "well")
}

// TestNodeStallsDuringFill: C2. The client does not wait for a node that stands
// still, and what could not be stored is counted.
func TestNodeStallsDuringFill(t *testing.T) {
	body := bodyOf(64 << 20)
	o := caddytest.NewOrigin(t, file(body))
	servers, global := nodes(t, 1, "near off", "timeout 500ms")
	c := caddytest.Load(t, global, cached(o, large...))
	c.WaitUp(1)
	resp := c.Open(testContext(t), "/")
	defer resp.Body.Close()
	first := make([]byte, 256<<10)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	servers[0].Pause()
	defer servers[0].Resume()
	rest, err := io.ReadAll(resp.Body)
	sameBody(t, "the whole", append(first, rest...), body, err)
	caddytest.Eventually(t, "it is counted", func() bool {
		return c.Metric(`caddy_fluster_stores_total{result="failed"}`)+c.Metric(`caddy_fluster_stores_total{result="dropped"}`) > 0
	})
}

// TestSlowFollower: a client that reads slowly holds up neither the forward nor
// those who share it; it gets the rest from the node, or from the origin should
// the node fail.
func TestSlowFollower(t *testing.T) {
	body := bodyOf(48 << 20)
	for _, trouble := range []string{"none", "node dies"} {
		t.Run(trouble, func(t *testing.T) {
			g := newGate()
			node, o, c := largeSite(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "" {
					g.wait(r)
				}
				file(body)(w, r)
			})
			type answer struct {
				b   []byte
				err error
			}
			fast := make(chan answer, 1)
			slow := make(chan *http.Response, 1)
			ctx := testContext(t)
			go func() { slow <- c.Open(ctx, "/") }()
			go func() { r := c.Get("/"); fast <- answer{r.Body, r.Err} }()
			caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
			time.Sleep(50 * time.Millisecond) // so that both wait for the head
			g.open()
			resp := <-slow
			defer resp.Body.Close()
			select {
			case a := <-fast:
				sameBody(t, "the fast one", a.b, body, a.err)
			case <-ctx.Done():
				t.Fatal("the slow one holds the fast one up")
			}
			asked := 1
			if trouble != "none" {
				node.Kill()
				asked = 2
			}
			b, err := io.ReadAll(resp.Body)
			sameBody(t, "the slow one", b, body, err)
			if o.Count() != asked {
				t.Errorf("the origin was asked %d times, want %d", o.Count(), asked)
			}
		})
	}
}

// TestLateFollower: who comes when the beginning has passed by reads it from the
// node, and shares the forward that is under way.
func TestLateFollower(t *testing.T) {
	body := string(bodyOf(12 << 20))
	g := newGate()
	node, o, c := largeSite(t, inParts(g, body[:8<<20], thenWrite(body[8<<20:]), append(fresh, "Etag", `"a"`)...))
	ctx := testContext(t)
	read := func(resp *http.Response) []byte {
		first := make([]byte, 8<<20)
		if _, err := io.ReadFull(resp.Body, first); err != nil {
			t.Fatal(err)
		}
		return first
	}
	leader := c.Open(ctx, "/")
	first := read(leader)
	caddytest.Eventually(t, "chunks lie on the node", func() bool { return len(chunkKeys(t, node, "*")) >= 31 })
	late := c.Open(ctx, "/")
	if got := late.Header.Get("Cache-Status"); !strings.HasSuffix(got, "collapsed") {
		t.Errorf("the late one: got Cache-Status %q, want it collapsed", got)
	}
	sameBody(t, "the late one's beginning", read(late), first, nil)
	g.open()
	for _, r := range []*http.Response{leader, late} {
		rest, err := io.ReadAll(r.Body)
		r.Body.Close()
		sameBody(t, "the rest", rest, []byte(body[8<<20:]), err)
	}
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
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

// TestLargeMissesAreBounded: C5. What passes through on its way to clients and
// node is not held in memory, however many and however slow they are.
func TestLargeMissesAreBounded(t *testing.T) {
	const clients, length = 16, 32 << 20
	for _, kind := range []string{"length", "no length"} {
		t.Run(kind, func(t *testing.T) {
			body := bodyOf(length)
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=600")
				if kind == "length" {
					w.Header().Set("Content-Length", strconv.Itoa(length))
				}
				for rest := body; len(rest) > 0; rest = rest[64<<10:] {
					w.Write(rest[:64<<10])
				}
			})
			_, global := nodes(t, 1)
			c := caddytest.Start(t, global+"\nmetrics", cached(o, large...))
			c.WaitUp(1)
			const metric = "go_memstats_heap_inuse_bytes"
			before := c.Metric(metric)
			ctx := testContext(t)
			var open []*http.Response
			for i := range clients {
				resp := c.Open(ctx, fmt.Sprint("/", i))
				defer resp.Body.Close()
				io.CopyN(io.Discard, resp.Body, 8<<20) // then it stands still
				open = append(open, resp)
			}
			most := c.Metric(metric)
			for _, resp := range open {
				if n, err := io.Copy(io.Discard, resp.Body); n != length-8<<20 || err != nil {
					t.Errorf("got %d bytes more, %v, want %d", n, err, length-8<<20)
				}
				most = max(most, c.Metric(metric))
			}
			if grown := most - before; grown > 48<<20 {
				t.Errorf("memory has grown by %.0f MiB for %d responses of %d MiB", grown/(1<<20), clients, length>>20)
			} else {
				t.Logf("memory has grown by %.0f MiB", grown/(1<<20))
			}
			caddytest.Eventually(t, "they are stored", func() bool { return c.Metric(`caddy_fluster_stores_total{result="stored"}`) > 0 })
		})
	}
}
