package fluster_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// changing is an origin of long bodies that change and are stale at once: /v/s is
// one whose validator is strong, weak or none, of s bytes. It confirms what has not
// changed, fails at times, and breaks bodies off when it is told to.
type changing struct {
	version  atomic.Int64
	breaking atomic.Bool
}

// text returns the body of a version: a mix of two is none.
func (o *changing) text(version int64, size int) []byte {
	line := fmt.Appendf(nil, "version %8d of this page\n", version)
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

func (o *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	words := strings.Split(r.URL.Path, "/")
	size, _ := strconv.Atoi(words[2])
	version := o.version.Load()
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "max-age=0, stale-if-error=600")
	if rand.IntN(4) == 0 {
		h.Set("Cache-Control", "max-age=0, stale-while-revalidate=600, stale-if-error=600")
	}
	h.Set("X-Version", fmt.Sprint(version))
	etag := map[string]string{"strong": `"%d"`, "weak": `W/"%d"`, "none": ""}[words[1]]
	if etag != "" {
		etag = fmt.Sprintf(etag, version)
		h.Set("Etag", etag)
	}
	switch {
	case rand.IntN(8) == 0:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case etag != "" && r.Header.Get("If-None-Match") == etag:
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if rand.IntN(2) == 0 {
		h.Set("Content-Length", fmt.Sprint(size))
	}
	rc := http.NewResponseController(w)
	breakAt := -1
	if o.breaking.Load() && rand.IntN(4) == 0 {
		breakAt = rand.IntN(size)
	}
	for rest := o.text(version, size); len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(1<<(8+rand.IntN(11))))
		if breakAt >= 0 && size-len(rest)+n > breakAt {
			panic(http.ErrAbortHandler)
		}
		w.Write(rest[:n])
		if rand.IntN(4) == 0 {
			rc.Flush()
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		}
		rest = rest[n:]
	}
}

// TestStaleHerd: C1. Many clients at once want long bodies that are stale, and that
// the origin confirms, replaces, fails or breaks off; some are slow, some hang up.
// Each gets the whole of one version. While the origin breaks nothing off, nobody
// is cut off; else nobody takes a part for the whole.
func TestStaleHerd(t *testing.T) {
	_, global := nodes(t, 2, "timeout 10s", "servers")
	global = strings.Replace(global, "servers", "", 1)
	for _, options := range [][]string{
		{"near off"},
		{"near 16MiB", "collapse cluster"},
		{"near off", "collapse cluster", "encode gzip"},
		{"near 16MiB", "encode gzip"},
		{"near off", "collapse off"},
	} {
		t.Run(strings.Join(options, ","), func(t *testing.T) {
			o := &changing{}
			origin := caddytest.NewOrigin(t, o.ServeHTTP)
			g := strings.Replace(global, "}", options[0]+"\n}", 1) + "\nservers {\nprotocols h1 h2c\n}"
			c := caddytest.Load(t, g, cached(origin, append(options[1:], large...)...))
			c.WaitUp(2)
			h := newHerd(t, c, o)
			h.run(400*time.Millisecond, false)
			h.run(400*time.Millisecond, true)
			t.Logf("%d whole, %d broken off, %d forwards", h.whole.Load(), h.broken.Load(), origin.Count())
		})
	}
}

// herd are clients of a changing origin.
type herd struct {
	t             *testing.T
	c             *caddytest.Caddy
	o             *changing
	clients       []*http.Client
	whole, broken atomic.Int64
}

func newHerd(t *testing.T, c *caddytest.Caddy, o *changing) *herd {
	h := &herd{t: t, c: c, o: o}
	for _, two := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 64, DisableCompression: true}
		transport.Protocols.SetHTTP1(!two)
		transport.Protocols.SetUnencryptedHTTP2(two)
		t.Cleanup(transport.CloseIdleConnections)
		h.clients = append(h.clients, &http.Client{Transport: transport})
	}
	return h
}

// run has the clients ask for d; the body changes meanwhile.
func (h *herd) run(d time.Duration, breaking bool) {
	h.o.breaking.Store(breaking)
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for time.Now().Before(end) && !h.t.Failed() {
				h.ask(breaking)
			}
		})
	}
	for time.Now().Before(end) {
		time.Sleep(d / 20)
		h.o.version.Add(1)
	}
	wg.Wait()
}

// ask asks for one of a few bodies.
func (h *herd) ask(breaking bool) {
	size := []int{100 << 10, 400 << 10, 1500 << 10}[rand.IntN(3)]
	path := fmt.Sprintf("/%s/%d", []string{"strong", "weak", "none"}[rand.IntN(3)], size)
	ctx, hangUp := context.WithTimeout(context.Background(), 30*time.Second)
	defer hangUp()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.c.Addr+path, nil)
	req.Host = caddytest.Host
	if rand.IntN(2) == 0 {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	if rand.IntN(6) == 0 {
		req.Header.Set("If-None-Match", fmt.Sprintf(`"%d"`, h.o.version.Load()))
	}
	from, to := 0, size
	if rand.IntN(6) == 0 {
		from = rand.IntN(size)
		to = from + rand.IntN(size-from) + 1
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := h.clients[rand.IntN(2)].Do(req)
	if err != nil {
		h.fail(breaking, fmt.Sprintf("GET %s %v", path, req.Header), err)
		return
	}
	defer resp.Body.Close()
	what := fmt.Sprintf("GET %s %v: %s %v [%s]", path, req.Header, resp.Proto, resp.StatusCode, resp.Header.Get("Cache-Status"))
	if rand.IntN(8) == 0 {
		io.CopyN(io.Discard, resp.Body, int64(rand.IntN(size))) //nolint:errcheck // then it hangs up
		return
	}
	var in io.Reader = resp.Body
	if rand.IntN(4) == 0 {
		in = &slowReader{in}
	}
	body, err := io.ReadAll(in)
	if err == nil && resp.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	version, _ := strconv.ParseInt(resp.Header.Get("X-Version"), 10, 64)
	text := h.o.text(version, size)
	if resp.StatusCode == http.StatusPartialContent {
		text = text[from:to]
	}
	switch {
	case err != nil:
		h.fail(breaking, fmt.Sprintf("%s: after %d bytes", what, len(body)), err)
	case resp.StatusCode == 304, resp.StatusCode == 503, breaking && resp.StatusCode == 502:
	case !bytes.Equal(body, text):
		h.t.Errorf("%s: got %d bytes %.60q, and a proper end, want version %d, %d bytes", what, len(body), body, version, len(text))
	default:
		h.whole.Add(1)
	}
}

// fail takes note of a response that was cut off.
func (h *herd) fail(breaking bool, what string, err error) {
	if h.broken.Add(1); !breaking || errors.Is(err, context.DeadlineExceeded) {
		h.t.Errorf("%s: %v", what, err)
	}
}

// slowReader is a client that reads slowly.
type slowReader struct{ r io.Reader }

func (s *slowReader) Read(p []byte) (int, error) {
	time.Sleep(200 * time.Microsecond)
	return s.r.Read(p[:min(len(p), 8<<10)])
}
