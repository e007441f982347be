package fluster_test

import (
	"bytes"
	"fmt"
	"io"
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
	for name, is := range map[string]struct {
		condition string
		hints     bool
		asked     int64 // how often the origin is
	}{
		"200": {asked: 2},
		"304": {condition: `"one"`, asked: 2},
		"103": {hints: true, asked: 3}, // who waits for the head waits 10 s for that client
	} {
		t.Run(name, func(t *testing.T) {
			g, written := newGate(), new(atomic.Int64)
			page := inParts(g, "be", thenWrite("gin"), append(fresh, "Etag", `"one"`)...)
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/page" {
					if is.hints {
						w.Header().Set("Link", "</style.css>; rel=preload")
						w.WriteHeader(http.StatusEarlyHints)
					}
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
			ask, free := stuck(t, c.Addr)
			ask("/long", "")
			last := int64(-1)
			caddytest.Eventually(t, "the connection is full", func() bool {
				time.Sleep(200 * time.Millisecond)
				was := last
				last = written.Load()
				return was > 0 && was == last
			})
			ask("/page", is.condition)
			caddytest.Eventually(t, "the page is asked for", func() bool { return o.Count() == 2 })
			follower := c.Open(testContext(t), "/page")
			g.open()
			wantRest(t, follower, "begin")
			if n := int64(o.Count()); n != is.asked {
				t.Errorf("the origin was asked %d times, want %d", n, is.asked)
			}
			if body := free(1, 3); body != "begin" && is.condition == "" {
				t.Errorf("when it is read, it has %q, want begin", body)
			}
		})
	}
}

// TestStuckPipeline: who asks by HTTP/1.1 for many things, one behind the other, and reads
// nothing, holds up nobody who wants the one that it is stuck in; nor those who wait for
// its lock for longer than for a slow follower.
func TestStuckPipeline(t *testing.T) {
	for _, size := range []int{20 << 10, 50 << 10} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			var last atomic.Value
			o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				last.Store(r.URL.Path)
				w.Header().Set("Cache-Control", "max-age=600")
				w.Header().Set("Etag", `"one"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				w.Write(body)
			})
			_, global := nodes(t, 1, "")
			c := caddytest.Load(t, global, cached(o, "collapse cluster"))
			c.WaitUp(1)
			conn, err := net.Dial("tcp", c.Addr) //nolint:noctx // on loopback
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				for i := range 10_000 {
					if _, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n", i, caddytest.Host); err != nil {
						return
					}
				}
			}()
			n := 0
			caddytest.Eventually(t, "the connection is full", func() bool {
				time.Sleep(500 * time.Millisecond)
				was := n
				n = o.Count()
				return was > 0 && was == n
			})
			path := last.Load().(string)
			for _, longest := range []time.Duration{14 * time.Second, 5 * time.Second} {
				start := time.Now()
				resp := c.Open(testContext(t), path)
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if took := time.Since(start); err != nil || !bytes.Equal(got, body) || took > longest {
					t.Errorf("got %d bytes after %s, %v, want %d within %s", len(got), took, err, len(body), longest)
				} else {
					t.Logf("%d responses fit; the next one was shared after %s, the origin asked %d times for it", n-1, took, o.Count()-n+1)
				}
				if longest > 10*time.Second {
					time.Sleep(10 * time.Second) // until nobody shares the forward
				}
			}
		})
	}
}

// stuck connects by HTTP/2, and returns a function that asks for a path, with
// If-None-Match if that is not empty. It takes as much as the other side likes to send,
// and reads none of it, until free is called, which gives up one stream and returns the
// body of another one.
func stuck(t *testing.T, addr string) (ask func(path, ifNoneMatch string), free func(stream, wanted uint32) string) {
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
	ask = func(path, ifNoneMatch string) {
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
	free = func(stream, wanted uint32) string {
		t.Helper()
		if err := f.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		var body []byte
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := frame.(*http2.DataFrame); ok && frame.Header().StreamID == wanted {
				body = append(body, data.Data()...)
			}
			if h := frame.Header(); h.StreamID == wanted && h.Flags.Has(http2.FlagDataEndStream) {
				return string(body)
			}
		}
	}
	return ask, free
}
