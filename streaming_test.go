package fluster_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// gate lets an origin wait in the middle of a response for the test.
type gate struct{ opened chan struct{} }

func newGate() gate { return gate{make(chan struct{})} }

func (g gate) open() { close(g.opened) }

// wait returns when the gate is open, or the request has ended.
func (g gate) wait(r *http.Request) {
	select {
	case <-g.opened:
	case <-r.Context().Done():
	}
}

// inParts answers with first, waits at the gate, and then does the rest.
func inParts(g gate, first string, rest func(w http.ResponseWriter), header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		io.WriteString(w, first)
		http.NewResponseController(w).Flush()
		g.wait(r)
		rest(w)
	}
}

func thenWrite(s string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { io.WriteString(w, s) }
}

// breakOff ends a response before its end.
func breakOff(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// wantPart reads what is to come first of a body.
func wantPart(t *testing.T, resp *http.Response, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != want {
		t.Fatalf("the first part: got %q, %v, want %q", b, err, want)
	}
}

// wantRest reads what is left of a body, and closes it.
func wantRest(t *testing.T, resp *http.Response, want string) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != want {
		t.Errorf("the rest: got %q, %v, want %q", b, err, want)
	}
}

// flushing, behind reverse_proxy, lets it send on at once what it gets of a body
// whose length is known, too; without it that is sent on by the buffer.
const flushing = " {\nflush_interval -1\n}"

// testContext ends before the test gives up, so that a stream that does not
// come fails the test that waits for it.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestMissStreams: C6. What the origin sends reaches the client when it is
// sent, and all who follow; the whole is stored.
func TestMissStreams(t *testing.T) {
	for name, header := range map[string][]string{
		"chunked":        fresh,
		"Content-Length": append(fresh, "Content-Length", "9"),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, inParts(g, "part", thenWrite("whole"), header...))
			c := caddytest.Load(t, "", cached(o)+flushing)
			ctx := testContext(t)
			leader := c.Open(ctx, "/")
			wantPart(t, leader, "part")
			var followers []*http.Response
			for range 3 {
				f := c.Open(ctx, "/")
				if got := f.Header.Get("Cache-Status"); !strings.HasSuffix(got, "collapsed") {
					t.Fatalf("a second request: got Cache-Status %q, want it collapsed", got)
				}
				wantPart(t, f, "part")
				followers = append(followers, f)
			}
			g.open()
			wantRest(t, leader, "whole")
			for _, f := range followers {
				wantRest(t, f, "whole")
			}
			wantBody(t, wantHit(t, c, "near", "/"), 200, "partwhole")
			if o.Count() != 1 {
				t.Errorf("the origin was asked %d times, want once", o.Count())
			}
		})
	}
}

// TestBrokenOff: C1. A response that breaks off is broken for the client and
// for who follows, and is not stored.
func TestBrokenOff(t *testing.T) {
	for name, header := range map[string][]string{
		"chunked":        fresh,
		"Content-Length": append(fresh, "Content-Length", "9"),
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, inParts(g, "part", breakOff, header...))
			c := caddytest.Load(t, "", cached(o)+flushing)
			ctx := testContext(t)
			responses := []*http.Response{c.Open(ctx, "/"), c.Open(ctx, "/")}
			for _, r := range responses {
				wantPart(t, r, "part")
			}
			if o.Count() != 1 {
				t.Fatalf("the origin was asked %d times, want once", o.Count())
			}
			g.open()
			for _, r := range responses {
				if b, err := io.ReadAll(r.Body); err == nil || ctx.Err() != nil {
					t.Errorf("[%s] after %q: got %v, want it broken off when the origin breaks it off", r.Header.Get("Cache-Status"), b, err)
				}
				r.Body.Close()
			}
			o.Handle(caddytest.Answer(200, "well", fresh...))
			wantBody(t, wantMiss(t, c, "/"), 200, "well")
		})
	}
}

// TestLeaderHangsUp: C1. That the client goes whose request was sent on is
// nothing to those who share its response, and the whole is stored.
func TestLeaderHangsUp(t *testing.T) {
	g, ended := newGate(), make(chan struct{})
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			inParts(g, "part", thenWrite("whole"), fresh...)(w, r)
			return
		}
		inParts(newGate(), "part", func(http.ResponseWriter) { ended <- struct{}{} }, fresh...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	leading, hangUp := context.WithCancel(testContext(t))
	leader := c.Open(leading, "/")
	wantPart(t, leader, "part")
	follower := c.Open(testContext(t), "/")
	wantPart(t, follower, "part")
	hangUp()
	leader.Body.Close()
	// Caddy does not say when it has noticed. When it has noticed others that
	// hung up later, whom nobody follows, it has noticed this one.
	for i := range 3 {
		ctx, hangUp := context.WithCancel(testContext(t))
		wantPart(t, c.Open(ctx, fmt.Sprint("/other/", i)), "part")
		hangUp()
		select {
		case <-ended:
		case <-testContext(t).Done():
			t.Fatal("the origin still sends to nobody")
		}
	}
	g.open()
	wantRest(t, follower, "whole")
	wantBody(t, wantHit(t, c, "near", "/"), 200, "partwhole")
	if o.Count() != 4 {
		t.Errorf("the origin was asked %d times, want 4: once for what two clients wanted", o.Count())
	}
}

// TestLastClientHangsUp: when nobody wants a response any more, the origin need
// not go on with it.
func TestLastClientHangsUp(t *testing.T) {
	ended := make(chan struct{})
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		inParts(newGate(), "part", func(http.ResponseWriter) { close(ended) }, fresh...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	ctx, hangUp := context.WithCancel(testContext(t))
	leader := c.Open(ctx, "/")
	wantPart(t, leader, "part")
	follower := c.Open(ctx, "/")
	wantPart(t, follower, "part")
	hangUp()
	leader.Body.Close()
	follower.Body.Close()
	select {
	case <-ended:
	case <-testContext(t).Done():
		t.Error("the origin still sends to nobody")
	}
}

// TestFollowersOfWhatIsNotStored: who waits for a response that cannot be
// shared gets one of its own.
func TestFollowersOfWhatIsNotStored(t *testing.T) {
	g := newGate()
	n := make(chan int, 10)
	for i := range 10 {
		n <- i
	}
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := <-n
		if i == 0 {
			g.wait(r)
		}
		caddytest.Answer(200, fmt.Sprint("for you alone: ", i), "Cache-Control", "private")(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	bodies := make(chan string, 4)
	for range 4 {
		go func() { bodies <- string(c.Get("/").Body) }()
	}
	caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() >= 1 })
	g.open()
	seen := map[string]bool{}
	for range 4 {
		b := <-bodies
		if seen[b] || !strings.HasPrefix(b, "for you alone") {
			t.Errorf("%q was sent twice, or is not what the origin sent", b)
		}
		seen[b] = true
	}
}

// TestNotModifiedOfWhatIsNotStored: a client that has a good copy of what is not stored
// gets its 304 at once, and nobody waits for the body; from the second time on the origin
// is asked whether the copy is good.
func TestNotModifiedOfWhatIsNotStored(t *testing.T) {
	for name, header := range map[string][]string{
		"no-store": {"Cache-Control", "no-store"},
		"too long": {"Cache-Control", "max-age=60", "Content-Length", fmt.Sprint(int64(1) << 40)},
		"no node":  {"Cache-Control", "max-age=60", "Content-Length", fmt.Sprint(int64(1) << 39)},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 1)
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", `"a"`)
				if r.Header.Get("If-None-Match") == `"a"` {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				for i := 0; i < len(header); i += 2 {
					w.Header().Set(header[i], header[i+1])
				}
				for piece := make([]byte, 64<<10); ; { // without end
					if _, err := w.Write(piece); err != nil {
						ended <- struct{}{}
						return
					}
				}
			})
			c := caddytest.Load(t, "", cached(o, fmt.Sprint("max_body ", int64(1)<<39)))
			ask := func() {
				t.Helper()
				answer := make(chan caddytest.Response, 1)
				go func() { answer <- c.Get("/", "If-None-Match", `"a"`) }()
				if r := within(t, 30*time.Second, "who has a copy", answer); r.Err != nil || r.Status != 304 {
					t.Fatalf("got %s, want 304", r)
				}
			}
			ask()
			select {
			case <-ended:
			case <-testContext(t).Done():
				t.Fatal("the origin still sends to nobody")
			}
			if name == "no node" {
				return // others could share it: each who leads asks for all of it
			}
			ask()
			if o.Count() != 2 || o.Last().Header.Get("If-None-Match") == "" {
				t.Errorf("the origin was asked %d times, the last time by %q, want a condition then", o.Count(), o.Last().Header)
			}
		})
	}
}

// TestLongBodiesBegin: what comes first of a long body is sent on at once, however
// little it is.
func TestLongBodiesBegin(t *testing.T) {
	first, rest := strings.Repeat("a", 1000), strings.Repeat("b", 99_000)
	for name, cacheControl := range map[string]string{"stored": "max-age=60", "not stored": "no-store"} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			o := caddytest.NewOrigin(t, inParts(g, first, thenWrite(rest), "Content-Length", "100000", "Cache-Control", cacheControl))
			c := caddytest.Load(t, "", cached(o))
			resp := c.Open(testContext(t), "/")
			wantPart(t, resp, first)
			g.open()
			wantRest(t, resp, rest)
		})
	}
}
