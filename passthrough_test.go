package fluster_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestInformational: C6. 103 passes before the response.
func TestInformational(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.Header().Set("Surrogate-Key", "a")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		caddytest.Answer(200, "page", fresh...)(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, " ", h.Get("Link"), h.Get("Surrogate-Key")))
		return nil
	}}
	resp := c.Open(httptrace.WithClientTrace(testContext(t), trace), "/")
	wantRest(t, resp, "page")
	if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
		t.Errorf("got the hints %q, want one 103 with a link", hints)
	}
	if r := wantHit(t, c, "near", "/"); r.Header.Get("Link") != "" {
		t.Errorf("what a 103 said was stored: %q", r.Header["Link"])
	}
	c.Invalidate(`{"tag":["a"]}`)
	wantMiss(t, c, "/") // the final response has its tags none the less
	hints = nil
	wantRest(t, c.Open(httptrace.WithClientTrace(testContext(t), trace), "/", "If-Match", "*"), "page")
	if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
		t.Errorf("of a request that passes: got the hints %q, want one 103 with a link", hints)
	}
}

// TestTrailers: C6. Trailers pass, and are no header fields of a hit.
func TestTrailers(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		caddytest.Answer(200, "page", fresh...)(w, r)
		w.Header().Set("X-Sum", "17")
	})
	c := caddytest.Load(t, "", cached(o))
	r := wantMiss(t, c, "/")
	wantBody(t, r, 200, "page")
	if got := r.Trailer.Get("X-Sum"); got != "17" {
		t.Errorf("the trailer X-Sum of a miss: got %q, want 17", got)
	}
	for range 2 {
		r := c.Get("/")
		wantBody(t, r, 200, "page")
		if r.Header.Get("X-Sum") != "" {
			t.Errorf("a trailer has become a header field: %v", r.Header)
		}
	}
}

// TestServerSentEvents: C6. Each event reaches the client when it is sent,
// with cache and without what may be stored.
func TestServerSentEvents(t *testing.T) {
	// Each stream has its own events: who hangs up is noticed only later.
	streams := map[string]chan string{"no-store": make(chan string), "max-age=60": make(chan string)}
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		cc := r.URL.Query().Get("cc")
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", cc)
		rc := http.NewResponseController(w)
		rc.Flush()
		for {
			select {
			case e := <-streams[cc]:
				fmt.Fprintf(w, "data: %s\n\n", e)
				rc.Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	c := caddytest.Load(t, "", cached(o))
	for cc, events := range streams {
		ctx, hangUp := context.WithCancel(testContext(t))
		resp := c.Open(ctx, "/?cc="+cc)
		for _, e := range []string{"one", "two"} {
			select {
			case events <- e:
			case <-ctx.Done():
				t.Fatal("the origin does not take an event")
			}
			wantPart(t, resp, "data: "+e+"\n\n")
		}
		hangUp()
		resp.Body.Close()
	}
}

// TestUpgrade: C6. WebSocket and its like pass as if the cache were not there.
func TestUpgrade(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome ")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		rw.WriteString("you said " + line)
		rw.Flush()
	})
	c := caddytest.Load(t, "", cached(o, "ttl 5m"))
	for range 2 {
		conn, err := (&net.Dialer{}).DialContext(testContext(t), "tcp", c.Addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", caddytest.Host)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("got %v, %v, want 101", resp, err)
		}
		fmt.Fprint(conn, "hello\n")
		b, _ := io.ReadAll(br)
		if got, want := string(b), "welcome you said hello\n"; got != want {
			t.Errorf("behind 101: got %q, want %q", got, want)
		}
		conn.Close()
	}
}
