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
)

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

// TestHerdForChunks: of those who wait for what turns out to lie on a node in chunks,
// however many, each gets it without asking the origin for itself.
func TestHerdForChunks(t *testing.T) {
	const herd = 20
	body := bodyOf(900 << 10)
	for name, cacheControl := range map[string]string{"confirmed": "max-age=0", "stored by another Caddy": "max-age=600"} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if name != "confirmed" || r.Header.Get("If-None-Match") != "" {
					g.wait(r)
				}
				w.Header().Set("Cache-Control", cacheControl)
				w.Header().Set("Etag", `"a"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			})
			servers, global := nodes(t, 1, "near off", "timeout 5s")
			site := cached(o, "collapse cluster")
			c := caddytest.Load(t, global, site)
			c.WaitUp(1)
			asked := 1
			if name == "confirmed" {
				wantMiss(t, c, "/")
				waitStored(t, servers, 1)
				asked++
			} else {
				other := caddytest.Start(t, global, site)
				other.WaitUp(1)
				answer := background(other, "/")
				defer func() { sameBody(t, "the other Caddy", (<-answer).Body, body, nil) }()
				caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
			}
			fluster.TakeRoom(t, 4<<20) // for four of them
			var answers []<-chan caddytest.Response
			for range herd {
				answers = append(answers, background(c, "/"))
			}
			caddytest.Eventually(t, "all wait", func() bool { return fluster.Waiting() == herd-1 })
			g.open()
			for _, answer := range answers {
				r := <-answer
				sameBody(t, r.CacheStatus(), r.Body, body, r.Err)
			}
			if o.Count() != asked {
				t.Errorf("the origin was asked %d times, want %d", o.Count(), asked)
			}
		})
	}
}
