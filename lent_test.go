package fluster_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestLentMemory: what was read from a node into memory that is used again is what
// clients get, header and body, whatever others read and how they hang up; also
// where net/http writes the header only after the cache is done with the request,
// as it does with short bodies.
func TestLentMemory(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	const pages = 60
	body := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%04d", i), 1+i*37) } // 4 B to 8.7 KB
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		var i int
		fmt.Sscanf(r.URL.Path, "/%d", &i) //nolint:errcheck // the paths are ours
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("X-Page", string(bytes.Repeat(fmt.Appendf(nil, "%04d", i), 120))) // no value is too short to be lent
		w.Header().Set("Etag", fmt.Sprintf(`"%04d"`, i))
		w.Write(body(i)) //nolint:errcheck // as a server does
	})
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	c := caddytest.Load(t, global+"\nservers {\nprotocols h1 h2c\n}", cached(o))
	c.WaitUp(1)
	garbage := c.Metric("caddy_fluster_garbage_total") // of tests before
	for i := range pages {
		wantMiss(t, c, fmt.Sprint("/", i))
	}
	waitStored(t, servers, pages)
	transports := []*http.Transport{{DisableCompression: true}, overHTTP2(t)}
	defer transports[0].CloseIdleConnections()
	var wg sync.WaitGroup
	var hits atomic.Int64
	for g := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 150 {
				i := r.IntN(pages)
				ctx, cancel := context.WithCancel(t.Context())
				method := []string{"GET", "GET", "GET", "HEAD"}[r.IntN(4)]
				req, _ := http.NewRequestWithContext(ctx, method, fmt.Sprint("http://", c.Addr, "/", i), nil)
				hangsUp := false
				switch r.IntN(6) {
				case 0:
					req.Header.Set("If-None-Match", fmt.Sprintf(`"%04d"`, i))
				case 1:
					req.Header.Set("Range", "bytes=1-3")
				case 2: // maybe while it is answered
					hangsUp = true
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, cancel)
				}
				resp, err := transports[r.IntN(2)].RoundTrip(req)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				cancel()
				if hangsUp && err != nil {
					continue
				}
				if err != nil {
					t.Errorf("%s /%d: %v", method, i, err)
					return
				}
				want := map[int][]byte{200: body(i), 206: body(i)[1:4]}[resp.StatusCode]
				if method == "HEAD" {
					want = nil
				}
				if !bytes.Equal(got, want) || resp.Header.Get("Etag") != fmt.Sprintf(`"%04d"`, i) {
					t.Errorf("%s %s /%d: %d, Etag %s, %d bytes %.20q; want its own tag and %d bytes %.20q", resp.Proto, method, i,
						resp.StatusCode, resp.Header.Get("Etag"), len(got), got, len(want), want)
					return
				}
				if strings.Contains(resp.Header.Get("Cache-Status"), "detail=node") {
					hits.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := c.Metric("caddy_fluster_garbage_total") - garbage; got != 0 {
		t.Errorf("%v values could not be used", got)
	}
	if hits.Load() < 500 {
		t.Errorf("%d hits on the node: the test does not see much", hits.Load())
	}
}
