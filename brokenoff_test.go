package fluster

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// buffered is what a server gives a handler to write to: what it has not sent when
// the handler panics is thrown away. A client takes what is written after a while.
type buffered struct {
	header   http.Header
	after    time.Duration
	status   int // that was written
	written  []byte
	gotHead  int // that was sent
	gotBytes []byte
}

func (w *buffered) Header() http.Header { return w.header }

func (w *buffered) WriteHeader(status int) {
	time.Sleep(w.after)
	w.status = status
}

func (w *buffered) Write(p []byte) (int, error) {
	time.Sleep(w.after)
	w.written = append(w.written, p...)
	return len(p), nil
}

func (w *buffered) Flush() { w.gotHead, w.gotBytes = w.status, bytes.Clone(w.written) }

// TestBrokenOffIsSent: C1. Of a response that the origin breaks off each client gets all
// that has come, as it does from reverse_proxy, however late it takes it.
func TestBrokenOffIsSent(t *testing.T) {
	for name, size := range map[string]int{"short": 100, "long": 200 << 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := embedded(t, new(Cache))
				body := bytes.Repeat([]byte("0123456789"), size/10)
				asked := 0
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					asked++
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Content-Length", "1000000")
					time.Sleep(time.Second)
					w.Write(body) //nolint:errcheck // nobody goes away
					http.NewResponseController(w).Flush()
					time.Sleep(time.Millisecond)
					panic(http.ErrAbortHandler)
				})
				clients := map[string]*buffered{"the leader": {after: 2 * time.Second}, "who takes it at once": {}, "who is late": {after: 2 * time.Second}}
				var wg sync.WaitGroup
				ask := func(w *buffered) {
					w.header = http.Header{}
					wg.Go(func() {
						defer func() {
							if got := recover(); got != http.ErrAbortHandler {
								t.Errorf("got %v, want it broken off", got)
							}
						}()
						h.ServeHTTP(w, caddyhttp.PrepareRequest(request(t, "/"), caddy.NewReplacer(), w, nil), next) //nolint:errcheck // it panics
					})
					synctest.Wait()
				}
				ask(clients["the leader"])
				ask(clients["who takes it at once"])
				ask(clients["who is late"])
				wg.Wait()
				for who, w := range clients {
					if w.gotHead != 200 || !bytes.Equal(w.gotBytes, body[:len(w.gotBytes)]) || len(w.gotBytes) != len(body) {
						t.Errorf("%s: got status %d and %d bytes, want all %d that have come", who, w.gotHead, len(w.gotBytes), len(body))
					}
				}
				if asked != 1 {
					t.Errorf("the origin was asked %d times, want once", asked)
				}
				if held := h.pool.flights.recorded.Load(); held != 0 {
					t.Errorf("%d bytes are held when all is over", held)
				}
			})
		})
	}
}

// TestBrokenOffBehindNotModified: C1. Where the origin breaks off a body that comes for
// others, a client that has its 304 already has a good one, also over HTTP/2, where its
// stream is open until the forward is over. The others see it, and nothing is stored.
func TestBrokenOffBehindNotModified(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1000)
	for name, length := range map[string]string{"known length": "100000", "unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := embedded(t, new(Cache))
				asked := 0
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					asked++
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Etag", `"a"`)
					if length != "" {
						w.Header().Set("Content-Length", length)
					}
					time.Sleep(time.Second)
					w.Write(body) //nolint:errcheck // nobody goes away
					time.Sleep(time.Millisecond)
					panic(http.ErrAbortHandler)
				})
				var wg sync.WaitGroup
				ask := func(status int, wantPanic any, fields ...string) {
					w := &buffered{header: http.Header{}}
					wg.Go(func() {
						defer func() {
							if got := recover(); got != wantPanic || w.status != status {
								t.Errorf("got status %d and panic %v, want %d and %v", w.status, got, status, wantPanic)
							}
						}()
						h.ServeHTTP(w, caddyhttp.PrepareRequest(request(t, "/", fields...), caddy.NewReplacer(), w, nil), next) //nolint:errcheck // it panics
					})
					synctest.Wait()
				}
				ask(304, nil, "If-None-Match", `"a"`)
				ask(200, http.ErrAbortHandler)
				wg.Wait()
				ask(200, http.ErrAbortHandler)
				wg.Wait()
				if asked != 2 {
					t.Errorf("the origin was asked %d times, want twice", asked)
				}
			})
		})
	}
}
