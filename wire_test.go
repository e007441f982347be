package fluster_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// rawOrigin answers each connection's only request with what write writes.
func rawOrigin(t *testing.T, write func(c *net.TCPConn)) (addr string, count *atomic.Int32) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				count.Add(1)
				write(conn.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String(), count
}

// TestEndsOnTheWire: C1. However an origin ends its answer, who gets it gets the
// whole or sees that it is broken off; and only what is whole is stored.
func TestEndsOnTheWire(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 200<<10/16)
	const head = "Cache-Control: max-age=600\r\nContent-Type: text/plain\r\n"
	chunked := func(parts ...string) string {
		var b strings.Builder
		b.WriteString("HTTP/1.1 200 OK\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n")
		for _, p := range parts {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(p), p)
		}
		return b.String()
	}
	tests := map[string]struct {
		answer string
		reset  bool
		whole  bool
	}{
		"whole":                       {answer: fmt.Sprintf("HTTP/1.1 200 OK\r\n"+head+"Content-Length: %d\r\n\r\n%s", len(body), body), whole: true},
		"shorter than it says":        {answer: fmt.Sprintf("HTTP/1.1 200 OK\r\n"+head+"Content-Length: %d\r\n\r\n%s", len(body)+1, body)},
		"longer than it says":         {answer: fmt.Sprintf("HTTP/1.1 200 OK\r\n"+head+"Content-Length: %d\r\n\r\n%s", len(body), body+"HTTP/1.1 200 OK\r\n\r\n"), whole: true},
		"chunked":                     {answer: chunked(body[:1000], body[1000:]) + "0\r\n\r\n", whole: true},
		"chunked, without the last":   {answer: chunked(body[:1000], body[1000:])},
		"chunked, in a chunk":         {answer: strings.TrimSuffix(chunked(body), body[100<<10:]+"\r\n")},
		"chunked, without a length":   {answer: chunked(body) + "zz\r\n"},
		"HTTP/1.0":                    {answer: "HTTP/1.0 200 OK\r\n" + head + "\r\n" + body, whole: true},
		"HTTP/1.0, reset":             {answer: "HTTP/1.0 200 OK\r\n" + head + "\r\n" + body[:150<<10], reset: true},
		"HTTP/1.0, shorter than said": {answer: fmt.Sprintf("HTTP/1.0 200 OK\r\n"+head+"Content-Length: %d\r\n\r\n%s", len(body)+1, body)},
	}
	_, global := nodes(t, 1, "near 1MiB", "timeout 5s")
	for site, lines := range map[string]string{"": "fluster_cache", "encode inside": "fluster_cache {\nencode gzip\n}", "encode outside": "encode gzip\nfluster_cache"} {
		for name, tt := range tests {
			t.Run(site+" "+name, func(t *testing.T) {
				addr, asked := rawOrigin(t, func(c *net.TCPConn) {
					io.WriteString(c, tt.answer) //nolint:errcheck // the clients tell
					if tt.reset {
						c.SetLinger(0) //nolint:errcheck // likewise
					}
				})
				c := caddytest.Load(t, global, lines+"\nreverse_proxy "+addr)
				c.WaitUp(1)
				path := "/" + strings.ReplaceAll(site+name, " ", "")
				answers := make(chan caddytest.Response, 8)
				for range cap(answers) {
					go func() { answers <- c.Get(path) }()
				}
				for range cap(answers) {
					r := <-answers
					if tt.whole && (r.Err != nil || string(r.Body) != body) || !tt.whole && r.Err == nil && r.Status == 200 {
						t.Errorf("got %d bytes, %s, want whole: %v", len(r.Body), r, tt.whole)
					}
				}
				if tt.whole {
					r := wantHit(t, c, "", path)
					sameBody(t, "a hit", r.Body, []byte(body), r.Err)
					return
				}
				before := asked.Load()
				if r := c.Get(path); r.Hit("") || asked.Load() == before {
					t.Errorf("afterwards: got %s, want it from the origin", r)
				}
			})
		}
	}
}
