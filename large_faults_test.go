package fluster_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

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

// TestReloadTakesNodeOut: W1. A node that a reload takes out while clients read from
// it, from what is stored and from what another one's forward has left there, is
// read from to the end: the origin may have the same bytes no more.
func TestReloadTakesNodeOut(t *testing.T) {
	body := bodyOf(48 << 20)
	for _, what := range []string{"hit", "follower"} {
		t.Run(what, func(t *testing.T) {
			noValidator := caddytest.Answer(200, string(body), fresh...)
			g := newGate()
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if what == "follower" {
					g.wait(r)
					file(body)(w, r)
					return
				}
				noValidator(w, r)
			})
			servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
			global := func(i int) string {
				return "fluster {\nnear off\ntimeout 5s\nnodes " + servers[i].URL() + "\n}"
			}
			c := caddytest.Load(t, global(0), cached(o, large...))
			c.WaitUp(1)
			ctx := testContext(t)
			var resp *http.Response
			if what == "hit" {
				wantMiss(t, c, "/")
				wantHit(t, c, "node", "/")
				resp = c.Open(ctx, "/")
			} else {
				slow := make(chan *http.Response, 1)
				fast := make(chan error, 1)
				go func() { slow <- c.Open(ctx, "/") }()
				go func() { fast <- c.Get("/").Err }()
				caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
				time.Sleep(50 * time.Millisecond) // so that both wait for the head
				g.open()
				resp = <-slow
				if err := <-fast; err != nil {
					t.Fatal(err)
				}
			}
			defer resp.Body.Close()
			first := make([]byte, 1<<20)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			c.Reload(global(1), cached(o, large...))
			asked := o.Count()
			rest, err := io.ReadAll(resp.Body)
			sameBody(t, "the whole", append(first, rest...), body, err)
			if o.Count() != asked {
				t.Errorf("the origin was asked for the rest")
			}
			caddytest.Eventually(t, "the node is let go of", func() bool { return connectionsTo(t, servers[0].Client(t)) == "" })
		})
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

// TestConfirmedTorn: C7. What lies torn in chunks is deleted, also where the origin has
// just confirmed it, and nobody who waited for that needs the body.
func TestConfirmedTorn(t *testing.T) {
	g := newGate()
	node, o, c := largeSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			g.wait(r)
		}
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("Etag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bodyOf(900<<10)))
	})
	wantMiss(t, c, "/")
	waitStored(t, []*redistest.Server{node}, 1)
	for _, key := range chunkKeys(t, node, "*:3") {
		spoilKey(t, node, key)
	}
	const clients = 3
	answers := make(chan caddytest.Response, clients)
	for range clients {
		go func() { answers <- c.Get("/", "If-None-Match", `"one"`) }()
	}
	caddytest.Eventually(t, "all wait", func() bool { return o.Count() == 2 && fluster.Waiting() == clients-1 })
	g.open()
	for range clients {
		if r := <-answers; r.Status != http.StatusNotModified {
			t.Errorf("got %s, want a 304", r)
		}
	}
	caddytest.Eventually(t, "the manifest is deleted", func() bool { return len(storedKeys(t, []*redistest.Server{node})) == 0 })
	if r := c.Get("/"); !strings.Contains(r.CacheStatus(), "uri-miss") {
		t.Errorf("got %s, want a miss", r)
	}
}
