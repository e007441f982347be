package fluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// These benchmarks call the handler as Caddy does, without a socket: what a
// cache adds to a request is measured against a handler that does nothing but
// write. bench/ measures whole servers.

// BenchmarkEmpty is the base: a handler that does nothing but write as many
// header lines and the same body.
func BenchmarkEmpty(b *testing.B) { benchHandler(b, benchEmpty, request(b, "/page")) }

var benchEmpty = func() caddyhttp.HandlerFunc {
	lines := map[string][]string{}
	for _, name := range []string{"Age", "Cache-Control", "Cache-Status", "Content-Length", "Content-Type", "Date", "Etag", "Via"} {
		lines[name] = []string{"x"}
	}
	return func(w http.ResponseWriter, _ *http.Request) error {
		h := w.Header()
		for name, values := range lines {
			h[name] = values
		}
		w.WriteHeader(http.StatusOK)
		_, err := w.Write(benchBody)
		return err
	}
}()

// BenchmarkNearHit is a hit in this process.
func BenchmarkNearHit(b *testing.B) {
	h := benchCache(b, PoolConfig{})
	b.Run("200", func(b *testing.B) { benchHandler(b, h, request(b, "/page")) })
	b.Run("304", func(b *testing.B) { benchHandler(b, h, request(b, "/page", "If-None-Match", `"v1"`)) })
	b.Run("range", func(b *testing.B) { benchHandler(b, h, request(b, "/page", "Range", "bytes=0-99")) })
	b.Run("vary", func(b *testing.B) { benchHandler(b, h, request(b, "/vary", "Accept-Language", "de, en;q=0.5")) })
}

// BenchmarkTags is a hit in this process on a response with many tags: as
// usual, and as the first one after something else was invalidated, which is
// when they are looked at.
func BenchmarkTags(b *testing.B) {
	for _, kind := range []string{"hit", "judged"} {
		for _, n := range []int{0, 8, 64} {
			b.Run(fmt.Sprintf("%s/tags=%d", kind, n), func(b *testing.B) {
				h := benchCache(b, PoolConfig{})
				w, r := newBenchWriter(), request(b, fmt.Sprintf("/tags?%d", n))
				for w.last = ""; !strings.Contains(w.last, "hit"); {
					w.serve(b, h, r)
				}
				invalidateOther(b)
				e, _ := benchPool.near.Load().Get(fmt.Sprintf("http://example.test/tags?%d", n))
				b.ReportAllocs()
				for b.Loop() {
					if kind == "judged" {
						e.learn.Store(0)
					}
					w.serve(b, h, r)
				}
				if !strings.Contains(w.last, "hit") {
					b.Errorf("Cache-Status %q at the end, want a hit", w.last)
				}
			})
		}
	}
}

// invalidateOther invalidates something that no page has to do with.
func invalidateOther(b *testing.B) {
	t, err := journal.NewTarget(journal.Tag, "other", false)
	if err != nil {
		b.Fatal(err)
	}
	benchPool.book.Learn(benchPool.book.NewRecord(t))
}

// benchPool is the pool of the last benchCache.
var benchPool *pool

// BenchmarkNodeHit is a hit on a node, by one and by many requests at a time.
func BenchmarkNodeHit(b *testing.B) {
	h := benchCache(b, PoolConfig{Nodes: []string{redistest.Start(b).URL()}, Near: Size{Off: true, Set: true}})
	b.Run("1", func(b *testing.B) { benchHandler(b, h, request(b, "/page")) })
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			r, w := request(b, "/page"), newBenchWriter()
			for pb.Next() {
				w.serve(b, h, r)
			}
		})
	})
}

// BenchmarkForward is a request that the origin answers: a miss that is stored, in
// this process alone and on a node too, and one that may not be. As a server's,
// each has a context of its own that can be cancelled.
func BenchmarkForward(b *testing.B) {
	near := benchCache(b, PoolConfig{})
	b.Run("miss", func(b *testing.B) { benchMisses(b, near) })
	b.Run("no-store", func(b *testing.B) { benchForwards(b, near, func(int) string { return "/no-store" }) })
	b.Run("empty", func(b *testing.B) {
		benchForwards(b, benchProxied, func(int) string { return "/no-store" })
	})
	node := benchCache(b, PoolConfig{Nodes: []string{redistest.Start(b, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru").URL()}})
	b.Run("miss, node", func(b *testing.B) { benchMisses(b, node) })
}

func benchMisses(b *testing.B, h caddyhttp.Handler) {
	benchForwards(b, h, func(i int) string { return "/page?" + strconv.Itoa(i) })
}

func benchForwards(b *testing.B, h caddyhttp.Handler, uri func(int) string) {
	b.ReportAllocs()
	server, end := context.WithCancel(b.Context())
	defer end()
	r, w := request(b, "/page"), newBenchWriter()
	for i := 0; b.Loop(); i++ {
		ctx, cancel := context.WithCancel(server)
		r.RequestURI = uri(i)
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(r.RequestURI, "?")
		w.serve(b, h, r.WithContext(ctx))
		cancel()
	}
}

// benchCache returns a cache before benchOrigin, with its pool started and its
// pages stored.
func benchCache(b testing.TB, c PoolConfig) caddyhttp.Handler {
	b.Helper()
	p, err := newPool("", c, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
	if err != nil {
		b.Fatal(err)
	}
	benchPool = p
	p.start()
	b.Cleanup(func() { p.stop(); p.close() })
	h := &Cache{pool: p, maxBody: defaultMaxBody, tags: []string{"Surrogate-Key", "Cache-Tag"}, logger: zap.NewNop()}
	if err := h.provisionPolicy(); err != nil {
		b.Fatal(err)
	}
	handler := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return h.ServeHTTP(w, r, benchProxied) })
	for _, r := range []*http.Request{request(b, "/page"), request(b, "/vary", "Accept-Language", "de, en;q=0.5")} {
		w := newBenchWriter()
		for range 100 {
			w.serve(b, handler, r)
			if strings.Contains(w.last, "hit") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !strings.Contains(w.last, "hit") {
			b.Fatalf("Cache-Status %q after many requests, want a hit", w.last)
		}
	}
	return handler
}

var benchBody = make([]byte, 4096)

// benchProxied is benchOrigin with a context, as a proxy has for its transport.
var benchProxied = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
	_, cancel := context.WithCancel(r.Context())
	defer cancel()
	return benchOrigin(w, r)
})

// benchOrigin answers as an origin with a proxy before it does.
func benchOrigin(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "max-age=3600")
	if r.URL.Path == "/no-store" {
		h.Set("Cache-Control", "no-store")
	}
	if r.URL.Path == "/tags" {
		n, _ := strconv.Atoi(r.URL.RawQuery)
		for i := range n {
			h.Add("Surrogate-Key", fmt.Sprint("tag-", i))
		}
	}
	if r.URL.Path == "/vary" {
		h.Set("Vary", "Accept-Language")
	}
	h.Set("Content-Length", "4096")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Etag", `"v1"`)
	h.Set("Via", "1.1 Caddy")
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(benchBody)
	return err
}

func request(b testing.TB, uri string, fields ...string) *http.Request {
	b.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://example.test"+uri, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI = uri
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	r.Header.Set("User-Agent", "bench")
	r.Header.Set("Accept", "*/*")
	return r
}

// benchWriter is the least that a response can be written to.
type benchWriter struct {
	header http.Header
	last   string // Cache-Status of the last response
}

func newBenchWriter() *benchWriter { return &benchWriter{header: http.Header{}} }

func (w *benchWriter) Header() http.Header { return w.header }
func (w *benchWriter) WriteHeader(int) {
	if s := w.header["Cache-Status"]; len(s) > 0 {
		w.last = s[0]
	}
}
func (w *benchWriter) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// serve is one request as Caddy's server prepares it. The header map is used
// again, as it is no cost of the handler's.
func (w *benchWriter) serve(b testing.TB, h caddyhttp.Handler, r *http.Request) {
	clear(w.header)
	w.header["Server"] = benchServer
	prepared := caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	if err := h.ServeHTTP(w, prepared); err != nil {
		b.Error(err)
	}
}

var benchServer = []string{"Caddy"}

func benchHandler(b *testing.B, h caddyhttp.Handler, r *http.Request) {
	b.ReportAllocs()
	w := newBenchWriter()
	for b.Loop() {
		w.serve(b, h, r)
	}
}
