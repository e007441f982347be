package fluster_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestFollowerOfASmallBeginning: C1. Who comes when only a little of a long body
// has come, less than is written before others may share it, gets the whole, and
// from the same forward.
func TestFollowerOfASmallBeginning(t *testing.T) {
	const length = 300 << 10
	body := string(bodyOf(length))
	_, global := nodes(t, 1, "near off", "timeout 5s")
	for name, tt := range map[string]struct {
		global string
		header []string
	}{
		"node":                     {global, fresh},
		"node, Content-Length":     {global, append(fresh, "Content-Length", strconv.Itoa(length))},
		"embedded, Content-Length": {"fluster {\nnear 1MiB\n}", append(fresh, "Content-Length", strconv.Itoa(length))},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, inParts(g, body[:100], thenWrite(body[100:]), tt.header...))
			c := caddytest.Load(t, tt.global, cached(o, large...)+flushing)
			if strings.HasPrefix(name, "node") {
				c.WaitUp(1)
			}
			ctx := testContext(t)
			path := "/" + strconv.Itoa(len(name)) // the node is the same
			leader := c.Open(ctx, path)
			wantPart(t, leader, body[:100])
			follower := c.Open(ctx, path)
			g.open()
			for _, r := range []*http.Response{leader, follower} {
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				want := body
				if r == leader {
					want = body[100:]
				}
				sameBody(t, r.Header.Get("Cache-Status"), b, []byte(want), err)
			}
			if o.Count() != 1 {
				t.Errorf("the origin was asked %d times, want once", o.Count())
			}
		})
	}
}

// TestFollowerOfNotModified: C1. A client whose own copy is still good has its
// answer before the body has come that is fetched to be stored. Who comes then
// gets the whole of that.
func TestFollowerOfNotModified(t *testing.T) {
	body := string(bodyOf(600 << 10))
	for _, etag := range []string{`"a"`, `W/"a"`} {
		g := newGate()
		_, o, c := largeSite(t, inParts(g, body[:300<<10], thenWrite(body[300<<10:]), append(fresh, "Etag", etag)...))
		ctx := testContext(t)
		leader := c.Open(ctx, "/", "If-None-Match", etag)
		if leader.StatusCode != 304 {
			t.Fatalf("If-None-Match: got %s, want 304", leader.Status)
		}
		time.Sleep(100 * time.Millisecond) // so that the beginning has passed by
		answers := make(chan error, 1)
		got := make([]byte, 0, len(body))
		go func() {
			own := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // not behind the other on its connection
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+c.Addr+"/", nil)
			req.Host = caddytest.Host
			resp, err := own.Do(req)
			if err == nil {
				defer resp.Body.Close()
				got, err = io.ReadAll(resp.Body)
			}
			answers <- err
		}()
		time.Sleep(100 * time.Millisecond)
		g.open()
		err := <-answers
		sameBody(t, etag, got, []byte(body), err)
		if etag == `"a"` && o.Count() != 1 {
			t.Errorf("the origin was asked %d times, want once", o.Count())
		}
	}
}

// TestFollowersOfWhatIsInvalidated: who is behind when a response ends that was
// invalidated meanwhile has the rest from the node all the same. It is not stored.
func TestFollowersOfWhatIsInvalidated(t *testing.T) {
	body := string(bodyOf(24 << 20))
	g := newGate()
	node, o, c := largeSite(t, inParts(g, body[:23<<20], thenWrite(body[23<<20:]), append(fresh, "Etag", `"a"`)...))
	ctx := testContext(t)
	leader := c.Open(ctx, "/")
	slow := c.Open(ctx, "/")
	wantPart(t, leader, body[:23<<20])
	if r := c.Invalidate(`{"url":["http://` + caddytest.Host + `/"]}`); r.Status != 200 {
		t.Fatalf("invalidating: got %s", r)
	}
	g.open()
	wantRest(t, leader, body[23<<20:])
	b, err := io.ReadAll(slow.Body)
	slow.Body.Close()
	sameBody(t, "the slow one", b, []byte(body), err)
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
	caddytest.Eventually(t, "the chunks are deleted", func() bool { return len(chunkKeys(t, node, "*")) == 0 })
}

// TestFailureThatBreaksOff: what is stored stands in for a failure whose own body
// is broken off.
func TestFailureThatBreaksOff(t *testing.T) {
	body := string(bodyOf(400 << 10))
	node, o, c := largeSite(t, caddytest.Answer(200, body, "Cache-Control", "max-age=0, stale-if-error=600"))
	wantMiss(t, c, "/")
	waitStored(t, []*redistest.Server{node}, 1)
	o.Handle(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(503)
		io.WriteString(w, "sorry")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for range 2 {
		if r := c.Get("/"); r.Err != nil || !r.Hit("") || string(r.Body) != body {
			t.Errorf("behind a failure that breaks off: got %s, want what is stored", r)
		}
	}
}

// TestLaterValidationsTakeNothing: what is validated behind a response that was
// served stale takes nothing of what bodies under way may take.
func TestLaterValidationsTakeNothing(t *testing.T) {
	body := bodyOf(1 << 20)
	_, o, c := largeSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
		w.Header().Set("Etag", `"a"`)
		http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(body))
	})
	wantMiss(t, c, "/")
	wantHit(t, c, "", "/")
	for o.Count() < 100 { // each might take a megabyte of 64
		if r := c.Get("/"); r.Err != nil || !bytes.Equal(r.Body, body) {
			t.Fatalf("when the origin was asked %d times: got %s", o.Count(), r)
		}
	}
	r := wantHit(t, c, "", "/")
	sameBody(t, "in the end", r.Body, body, r.Err)
}

// TestHeadTellsOfAnother: a long body that a HEAD puts in doubt is validated.
func TestHeadTellsOfAnother(t *testing.T) {
	body := bodyOf(400 << 10)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=1")
		w.Header().Set("Etag", `"1"`)
		if r.Method == http.MethodHead {
			w.Header().Set("Etag", `"2"`)
		}
		http.ServeContent(w, r, "x.bin", time.Time{}, bytes.NewReader(body))
	})
	_, global := nodes(t, 1, "near 1MiB", "timeout 5s") // which takes no such body
	c := caddytest.Load(t, global, cached(o, large...))
	c.WaitUp(1)
	wantMiss(t, c, "/")
	wantHit(t, c, "", "/")
	time.Sleep(1100 * time.Millisecond)
	if r := c.Do("HEAD", "/", ""); r.Hit("") || r.Header.Get("Etag") != `"2"` {
		t.Fatalf("HEAD: got %s, want it from the origin", r)
	}
	r := c.Get("/")
	sameBody(t, r.CacheStatus(), r.Body, body, r.Err)
}

// TestLateFollowerIsNotHeldUp: who came late and reads from the node what has
// passed by is held up neither by a first client that takes nothing any more, nor
// when that one goes: the chunk that it waits for becomes complete.
func TestLateFollowerIsNotHeldUp(t *testing.T) {
	body := bodyOf(40 << 20)
	for _, then := range []string{"stands still", "goes"} {
		t.Run(then, func(t *testing.T) {
			g := newGate()
			node, o, c := largeSite(t, inParts(g, string(body[:8<<20+100<<10]), thenWrite(string(body[8<<20+100<<10:])), append(fresh, "Etag", `"a"`)...))
			ctx := testContext(t)
			leading, hangUp := context.WithCancel(ctx)
			defer hangUp()
			leader := c.Open(leading, "/")
			defer leader.Body.Close()
			wantPart(t, leader, string(body[:8<<20+100<<10]))
			if then == "stands still" {
				g.open()
				for n := -1; ; time.Sleep(300 * time.Millisecond) {
					if m := len(chunkKeys(t, node, "*")); m == n {
						break // what the system holds for the leader is full
					} else {
						n = m
					}
				}
			}
			late := c.Open(ctx, "/")
			defer late.Body.Close()
			if got := late.Header.Get("Cache-Status"); !strings.HasSuffix(got, "collapsed") {
				t.Errorf("the late one: got Cache-Status %q, want it collapsed", got)
			}
			first := make([]byte, 8<<20)
			if _, err := io.ReadFull(late.Body, first); err != nil {
				t.Fatal(err)
			}
			if then == "goes" {
				hangUp()
				time.Sleep(200 * time.Millisecond) // until Caddy has noticed
				g.open()
			}
			rest, err := io.ReadAll(late.Body)
			sameBody(t, "the late one", append(first, rest...), body, err)
			if o.Count() != 1 {
				t.Errorf("the origin was asked %d times, want once", o.Count())
			}
		})
	}
}

// TestLeaderTakesNothing: a client over HTTP/2 that does not let a byte come holds
// up nobody who wants the same, however short that is.
func TestLeaderTakesNothing(t *testing.T) {
	g := newGate()
	o := caddytest.NewOrigin(t, inParts(g, "be", thenWrite("gin"), fresh...))
	c := caddytest.Load(t, "servers {\nprotocols h1 h2c\n}", cached(o))
	ctx := testContext(t)
	takesNothing(t, ctx, c)
	follower := c.Open(ctx, "/")
	g.open()
	wantRest(t, follower, "begin")
	wantBody(t, wantHit(t, c, "near", "/"), 200, "begin")
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
}

// takesNothing asks over HTTP/2, and lets no byte of the answer come.
func takesNothing(t *testing.T, ctx context.Context, c *caddytest.Caddy) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 1}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = caddytest.Host
	resp, err := transport.RoundTrip(req)
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("got %v, %v", resp, err)
	}
	t.Cleanup(func() {
		resp.Body.Close()
		transport.CloseIdleConnections()
	})
}

// TestLockOfWhatIsNotStored: a response that is not stored after all, as it was
// invalidated meanwhile, has no other Caddy wait until its client has taken it.
func TestLockOfWhatIsNotStored(t *testing.T) {
	g := newGate()
	o := caddytest.NewOrigin(t, inParts(g, "be", thenWrite("gin"), fresh...))
	servers, global := nodes(t, 1, "timeout 5s")
	var caddies [2]*caddytest.Caddy
	for i := range caddies {
		caddies[i] = caddytest.Start(t, global+"\nservers {\nprotocols h1 h2c\n}", cached(o, "collapse cluster"))
		caddies[i].WaitUp(1)
	}
	waitListening(t, servers, 2)
	takesNothing(t, testContext(t), caddies[0])
	waitLocked(t, servers[0])
	waiter := background(caddies[1], "/")
	time.Sleep(100 * time.Millisecond)
	if r := caddies[0].Invalidate(`{"all":true}`); r.Status != 200 {
		t.Fatalf("invalidating: got %s", r)
	}
	g.open()
	wantBody(t, within(t, 10*time.Second, "who waits in another Caddy", waiter), 200, "begin")
}
