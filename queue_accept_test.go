package fluster_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

func TestQueueDeliversWhatItAccepted(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	r := c.Do("PATCH", "/a%2Fb//c?d=%20&e", "body\x00\xff", "X-A", "1", "X-A", "2", "X-B", "caf\xe9", "Content-Type", "text/x", "Connection", "X-Hop", "X-Hop", "1",
		"Content-Encoding", "gzip", "Prefer", "respond-async")
	a := wantAccepted(t, r)
	if a.State != "ready" || r.Header.Get("Preference-Applied") != "respond-async" || r.Header.Get("Location") != "" {
		t.Errorf("got %+v %v", a, r.Header)
	}
	got := box.wait(t, 1)[0]
	if got.method != "PATCH" || got.uri != "/a%2Fb//c?d=%20&e" || got.host != caddytest.Host || got.body != "body\x00\xff" {
		t.Errorf("delivered %q", got)
	}
	want := map[string][]string{"X-A": {"1", "2"}, "X-B": {"caf\xe9"}, "Content-Type": {"text/x"}, "Content-Encoding": {"gzip"}, "X-Hop": nil, "Prefer": nil,
		"Fluster-Message-Id": {a.ID}, "X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}}
	for name, values := range want {
		if diff := cmp.Diff(values, got.header[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestQueueTakesItsMethodsAlone(t *testing.T) {
	s := redistest.Start(t)
	for options, taken := range map[string]string{"": "POST PUT PATCH DELETE", "methods POST GET REPORT": "POST GET REPORT"} {
		c := caddytest.Load(t, queueOn(s), queueSite(options))
		for _, m := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "REPORT"} {
			want := 200
			if slices.Contains(strings.Fields(taken), m) {
				want = 202
			}
			if r := c.Do(m, "/", ""); r.Status != want {
				t.Errorf("%s with %q: got %v", m, options, r)
			}
		}
		if r := c.Do("GET", "/", "", "Connection", "Upgrade", "Upgrade", "websocket"); r.Status != 200 {
			t.Errorf("an upgrade with %q: got %v", options, r)
		}
		c.Stop()
	}
}

// TestQueueTakesOffersOfHTTP2: some clients offer to go on in HTTP/2 with any first
// request. That is none to leave HTTP, and the request is queued.
func TestQueueTakesOffersOfHTTP2(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite())
	for name, tt := range map[string]struct {
		fields string
		want   string
	}{
		"h2c":              {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n", "202"},
		"without an offer": {"Upgrade: websocket\r\n", "202"},
		"another protocol": {"Connection: upgrade\r\nUpgrade: tcp\r\n", "200"},
	} {
		conn := dial(t, c)
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"+tt.fields+"\r\nhi")
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 "+tt.want+" ") {
			t.Errorf("%s: got %q %v, want %s", name, line, err, tt.want)
		}
	}
}

func TestQueueWhenPrefer(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite("when prefer"))
	for prefer, want := range map[string]int{"": 200, "return=minimal": 200, "respond-async": 202, "wait=3, respond-async": 202, "wait=3": 200} {
		r := c.Do("POST", "/", "x", "Prefer", prefer)
		if r.Status != want {
			t.Errorf("Prefer: %s: got %v, want %d", prefer, r, want)
		}
		if p := r.Header.Get("Preference-Applied"); want == 202 && p != "respond-async" {
			t.Errorf("Prefer: %s: got Preference-Applied: %s", prefer, p)
		}
	}
}

func TestQueueBodies(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), "max_body 1000000", "inline_body 1000"))
	n := 0
	for _, size := range []int{0, 1, 999, 1000, 1001, 262144, 300000, 1000000} {
		for _, isChunked := range []bool{false, true} {
			body := strings.Repeat("0123456789abcde\x00", size/16+1)[:size]
			wantAccepted(t, post(t, c, body, isChunked))
			n++
			if got := box.wait(t, n)[n-1].body; got != body {
				t.Errorf("%d bytes (chunked: %v): got %d bytes, or others", size, isChunked, len(got))
			}
		}
	}
	for _, isChunked := range []bool{false, true} {
		// The answer may come, and the connection end, while the client still sends.
		r := post(t, c, strings.Repeat("x", 1000001), isChunked)
		for tries := 0; r.Err != nil && tries < 50; tries++ {
			r = post(t, c, strings.Repeat("x", 1000001), isChunked)
		}
		wantProblem(t, r, 413)
	}
	box.wait(t, n)
}

// TestQueueLongBodies: 20 MB of any bytes, which lie in chunks, arrive as they were,
// also when the first try fails.
func TestQueueLongBodies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	body := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(body)
	var tries, whole atomic.Int64
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body) || r.ContentLength != int64(len(body)) {
			t.Errorf("got %d bytes, of which the length was said to be %d, %v; or others", len(got), r.ContentLength, err)
		}
		if tries.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		whole.Add(1)
	})
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, queueOn(a, b), queueSite(deliverTo(o), "max_body 20MiB", "concurrency 1", "backoff 1ms 1ms", "copies 2"))
	for i, isChunked := range []bool{false, true} {
		wantAccepted(t, post(t, c, string(body), isChunked))
		caddytest.Eventually(t, "it is delivered", func() bool { return whole.Load() == int64(i+1) })
	}
	wantEmpty(t, a, b)
	if n := tries.Load(); n != 4 {
		t.Errorf("%d tries, want 4", n)
	}
}

// post posts a body, with or without its length. header is names and values in turn.
func post(t *testing.T, c *caddytest.Caddy, body string, isChunked bool, header ...string) caddytest.Response {
	t.Helper()
	var content io.Reader = strings.NewReader(body)
	if isChunked {
		content = io.MultiReader(content)
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+c.Addr+"/", content)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return caddytest.Response{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return caddytest.Response{Status: resp.StatusCode, Header: resp.Header, Body: b, Err: err}
}

// TestQueueAsksForTheBody sends Expect: 100-continue. What is too long is
// refused before it is sent.
func TestQueueAsksForTheBody(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite())
	for length, want := range map[int]string{5: "HTTP/1.1 100 Continue", 1<<20 + 1: "HTTP/1.1 413 Request Entity Too Large"} {
		conn := dial(t, c)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", length)
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); strings.TrimSpace(line) != want {
			t.Fatalf("%d bytes: got %q %v, want %q", length, line, err, want)
		}
		if length == 5 {
			r.ReadString('\n')
			io.WriteString(conn, "12345")
			if line, err := r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 202 ") {
				t.Errorf("got %q %v", line, err)
			}
		}
	}
}

func dial(t *testing.T, c *caddytest.Caddy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// TestQueueDropsHalfARequest hangs up in the middle of bodies, short and long. A node
// that is late, as on a machine under load, is left with chunks, which go in time;
// then it is tried again.
func TestQueueDropsHalfARequest(t *testing.T) {
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), queueSite("max_body 20MiB"))
	client := s.Client(t)
	left := func() []string {
		keys, err := client.Keys(t.Context(), "*:b:*").Result()
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	for try := 1; ; try++ {
		hangUp(t, c)
		wantAccepted(t, send(t, c, "POST", "/", "whole"))
		time.Sleep(200 * time.Millisecond)
		if n := ready(t, s); n != int64(try) {
			t.Errorf("%d messages are in the queue, want %d, which were whole", n, try)
		}
		keys := left()
		for end := time.Now().Add(3 * time.Second); len(keys) > 0 && time.Now().Before(end); keys = left() {
			time.Sleep(5 * time.Millisecond)
		}
		switch {
		case len(keys) == 0:
			return
		case try == 5:
			t.Fatalf("%d chunks are left again", len(keys))
		}
		client.Del(t.Context(), keys...)
	}
}

// hangUp sends halves of requests.
func hangUp(t *testing.T, c *caddytest.Caddy) {
	for framing, sent := range map[string]int{
		"Content-Length: 15000000\r\n\r\n":               12_000_000,
		"Transfer-Encoding: chunked\r\n\r\nE4E1C0\r\n":   12_000_000,
		"Content-Length: 500000\r\n\r\n":                 400000,
		"Content-Length: 5000\r\n\r\n":                   4999,
		"Transfer-Encoding: chunked\r\n\r\n7a120\r\n":    400000,
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n": 0, // all but the last chunk
	} {
		conn := dial(t, c)
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+framing+strings.Repeat("x", sent))
		conn.Close()
	}
}

func TestQueueOverHTTP2(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t))+"\nservers {\n\tprotocols h1 h2c\n}", queueSite(deliverTo(box.Origin)))
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req := httptest.NewRequestWithContext(context.Background(), "PUT", "http://"+c.Addr+"/h2?x", io.MultiReader(strings.NewReader("over two")))
	req.RequestURI, req.ContentLength = "", -1
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 202 || resp.ProtoMajor != 2 {
		t.Fatalf("got %s over %s", resp.Status, resp.Proto)
	}
	if got := box.wait(t, 1)[0]; got.body != "over two" || got.uri != "/h2?x" || got.method != "PUT" || got.host != c.Addr {
		t.Errorf("delivered %q", got)
	}
}

func TestQueueHeaders(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t))+"\nservers {\n\tmax_header_size 1MB\n}", queueSite(deliverTo(box.Origin), "headers -Cookie -X-Secret-*"))
	c.Do("POST", "/", "", "Cookie", "a=b", "X-Secret-Key", "c", "X-Secre", "d", "Accept", "e")
	got := box.wait(t, 1)[0].header
	if got.Get("Cookie") != "" || got.Get("X-Secret-Key") != "" || got.Get("X-Secre") != "d" || got.Get("Accept") != "e" {
		t.Errorf("delivered %v", got)
	}
	wantProblem(t, c.Do("POST", "/", "", "X-A", strings.Repeat("a", 61<<10)), 431)
	wantAccepted(t, send(t, c, "POST", "/", "", "X-Secret-A", strings.Repeat("a", 61<<10)))
}

// What a directive before the queue makes of an answer is of that answer alone.
func TestQueueAnswersAreTheirOwn(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), "header /marked >Cache-Control no-store private\n"+
		"header /marked >Content-Type json changed\n"+queueSite("id {http.request.header.Id}", "batch"))
	many := []string{"Content-Type", "application/json"}
	for range 2 {
		for path, want := range map[string][3]string{
			"/":       {"no-store", "application/json", "application/problem+json"},
			"/marked": {"private", "application/changed", "application/problem+changed"},
		} {
			for _, r := range []caddytest.Response{send(t, c, "POST", path, "x"), send(t, c, "POST", path, "[1,2]", many...)} {
				if cache, kind := r.Header.Get("Cache-Control"), r.Header.Get("Content-Type"); r.Status != 202 || cache != want[0] || kind != want[1] {
					t.Errorf("%s: got %d with %s and %s, want 202 with %s and %s", path, r.Status, cache, kind, want[0], want[1])
				}
			}
			if r := c.Do("POST", path, "x", "Id", "no~id"); r.Status != 400 || r.Header.Get("Cache-Control") != want[0] || r.Header.Get("Content-Type") != want[2] {
				t.Errorf("%s: got %d with %v, want 400 with %s and %s", path, r.Status, r.Header, want[0], want[2])
			}
		}
	}
}
