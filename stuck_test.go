package fluster_test

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestStuckConnection: a client whose connection takes nothing, as it reads nothing of
// what it asked for before, holds up nobody who wants the same as its next request;
// not even where that one's answer has no body.
func TestStuckConnection(t *testing.T) {
	for name, condition := range map[string]string{"200": "", "304": `"one"`} {
		t.Run(name, func(t *testing.T) {
			g, written := newGate(), new(atomic.Int64)
			page := inParts(g, "be", thenWrite("gin"), append(fresh, "Etag", `"one"`)...)
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/page" {
					page(w, r)
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(1<<30))
				for part := make([]byte, 64<<10); ; written.Add(1) {
					if _, err := w.Write(part); err != nil {
						return
					}
				}
			})
			c := caddytest.Load(t, "servers {\nprotocols h1 h2c\n}", cached(o))
			ask := stuck(t, c.Addr)
			ask("/long", "")
			last := int64(-1)
			caddytest.Eventually(t, "the connection is full", func() bool {
				time.Sleep(200 * time.Millisecond)
				was := last
				last = written.Load()
				return was > 0 && was == last
			})
			ask("/page", condition)
			caddytest.Eventually(t, "the page is asked for", func() bool { return o.Count() == 2 })
			follower := c.Open(testContext(t), "/page")
			g.open()
			wantRest(t, follower, "begin")
			if o.Count() != 2 {
				t.Errorf("the origin was asked %d times, want twice", o.Count())
			}
		})
	}
}

// stuck connects by HTTP/2, and returns a function that asks for a path, with
// If-None-Match if that is not empty. It takes as much as the other side likes to send,
// and reads none of it.
func stuck(t *testing.T, addr string) (ask func(path, ifNoneMatch string)) {
	t.Helper()
	conn, err := net.Dial("tcp", addr) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	const most = 1<<31 - 1
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: most}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteWindowUpdate(0, most-65535); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	e, stream := hpack.NewEncoder(&block), uint32(1)
	return func(path, ifNoneMatch string) {
		t.Helper()
		block.Reset()
		fields := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", caddytest.Host}, {":path", path}, {"if-none-match", ifNoneMatch}}
		for _, field := range fields {
			if field[1] != "" {
				e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) //nolint:errcheck // into memory
			}
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		stream += 2
	}
}
