package fluster_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// wire is a client's connection.
type wire struct {
	t *testing.T
	net.Conn
	*bufio.Reader
}

func onWire(t *testing.T, c *caddytest.Caddy) wire {
	conn, err := net.Dial("tcp", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // it is open
	return wire{t, conn, bufio.NewReaderSize(conn, 256<<10)}
}

// ask sends a request; the lines end with those of its header.
func (w wire) ask(path string, lines ...string) {
	w.t.Helper()
	if _, err := io.WriteString(w, "GET "+path+strings.Join(append([]string{" HTTP/1.1", "Host: a.test"}, lines...), "\r\n")+"\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads a response.
func (w wire) answer(want []byte) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.Reader, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	sameBody(w.t, "the response", body, want, err)
}

// inTwoParts answers with the body that a path asks for, of which the first part
// comes before the rest.
func inTwoParts(w http.ResponseWriter, r *http.Request) {
	size := 0
	fmt.Sscanf(r.URL.Path, "/%d", &size) //nolint:errcheck // the body tells
	w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
	w.Header().Set("Content-Length", fmt.Sprint(size))
	w.Write(digits(size)[:min(size, 4000)]) //nolint:errcheck // the client tells
	http.NewResponseController(w).Flush()   //nolint:errcheck // likewise
	time.Sleep(2 * time.Millisecond)
	w.Write(digits(size)[min(size, 4000):]) //nolint:errcheck // likewise
}

func digits(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:n]
}

// TestLeavesInOnePiece: a response that is longer than net/http's buffer reaches
// its client at one time, and none is held up behind it.
func TestLeavesInOnePiece(t *testing.T) {
	o := caddytest.NewOrigin(t, inTwoParts)
	c := caddytest.Load(t, "", cached(o))
	conn := onWire(t, c)
	for _, size := range []int{100, 3700, 4096, 12 << 10, 30 << 10} {
		for _, cc := range []string{"max-age=60", "no-store"} {
			t.Run(fmt.Sprint(size, " ", cc), func(t *testing.T) {
				path, start := fmt.Sprintf("/%d?cc=%s", size, cc), time.Now()
				conn.t = t
				for i := range 20 { // the first is a miss
					before := caddytest.Packets(t, conn.Conn)
					conn.ask(path)
					conn.answer(digits(size))
					if n := caddytest.Packets(t, conn.Conn) - before; n != 1 {
						t.Errorf("request %d: the response came in %d packets, want 1", i, n)
					}
				}
				if took := time.Since(start); took > 2*time.Second { // of the 4 that the system would hold them up
					t.Errorf("20 requests took %v", took)
				}
			})
		}
	}
}

// TestNothingIsHeldUp: however a connection goes on behind a response, the response
// leaves it.
func TestNothingIsHeldUp(t *testing.T) {
	o := caddytest.NewOrigin(t, inTwoParts)
	c := caddytest.Load(t, "", cached(o))
	body := digits(8 << 10)
	for name, lines := range map[string][]string{
		"closed": {"Connection: close"}, "a part": {"Range: bytes=0-8191"}, "with a body": {"Content-Length: 4", "", "body"}, "tunnel refused": {"Connection: Upgrade", "Upgrade: websocket"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			for range 20 {
				conn := onWire(t, c)
				conn.ask("/8192?cc=max-age=60", lines...)
				conn.answer(body)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("20 requests took %v", took)
			}
		})
	}
	t.Run("pipelined", func(t *testing.T) {
		start, conn := time.Now(), onWire(t, c)
		for range 10 {
			conn.ask("/8192?cc=max-age=60")
			conn.ask("/8192?cc=no-store")
			conn.answer(body)
			conn.answer(body)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("20 requests took %v", took)
		}
	})
}

// TestFirstPart: the first part of a short body is sent when it is flushed, and
// when nothing comes behind it.
func TestFirstPart(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Length", "8192")
		w.Write(digits(3000))                 //nolint:errcheck // the client tells
		http.NewResponseController(w).Flush() //nolint:errcheck // likewise
		if r.URL.Path == "/flushed" {
			<-hold
		}
		time.Sleep(50 * time.Millisecond)
		panic(http.ErrAbortHandler)
	})
	c := caddytest.Load(t, "", "route {\nfluster_cache\nroute /short {\nheader Content-Length 8192\nrespond "+string(digits(5))+"\n}\n@flushed path /flushed\nreverse_proxy @flushed "+o.Addr+" {\nflush_interval -1\n}\nreverse_proxy "+o.Addr+"\n}")
	for path, part := range map[string]int{"/flushed": 3000, "/broken-off": 3000, "/short": 5} {
		conn := onWire(t, c)
		conn.ask(path)
		resp, err := http.ReadResponse(conn.Reader, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		got := make([]byte, part)
		_, err = io.ReadFull(resp.Body, got)
		sameBody(t, path, got, digits(part), err)
	}
}
