package fluster

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// TestHitAllocates: a hit in this process adds three allocations to a request:
// what remains of it, the cache key, and the placeholders.
func TestHitAllocates(t *testing.T) {
	h, w := benchCache(t, PoolConfig{}), newBenchWriter()
	for name, r := range map[string][]string{
		"200": nil,
		"304": {"If-None-Match", `"v1"`},
	} {
		got := testing.AllocsPerRun(100, func() { w.serve(t, h, request(t, "/page", r...)) })
		base := testing.AllocsPerRun(100, func() { w.serve(t, benchEmpty, request(t, "/page", r...)) })
		// Once a second what is told is made anew.
		if got-base > 3.5 {
			t.Errorf("%s: a hit makes %v allocations and a handler that only writes %v; want at most 3 more", name, got, base)
		}
	}
}

// TestHitsShareNoHeader: who changes the header of one hit in place changes no
// other's.
func TestHitsShareNoHeader(t *testing.T) {
	h, w := benchCache(t, PoolConfig{}), newBenchWriter()
	for name, fields := range map[string][]string{
		"200": nil,
		"304": {"If-None-Match", `"v1"`},
		"206": {"Range", "bytes=0-9"},
	} {
		w.serve(t, h, request(t, "/page", fields...))
		if len(w.header["Etag"]) == 0 || len(w.header["Age"]) == 0 || len(w.header["Cache-Status"]) == 0 {
			t.Fatalf("%s: the header is %v, want Etag, Age and Cache-Status", name, w.header)
		}
		for _, values := range w.header {
			for i := range values {
				values[i] = "changed"
			}
			if len(values) < cap(values) {
				values[:cap(values)][len(values)] = "changed"
			}
		}
		benchServer[0] = "Caddy"
		w.serve(t, h, request(t, "/page", fields...))
		for field, values := range w.header {
			if strings.Contains(strings.Join(values, ""), "changed") {
				t.Errorf("%s: %s is %q in the next response", name, field, values)
			}
		}
	}
}

// TestWhatRemainsOfHits: what placeholders and access logs are told of a hit, and
// its header, stay as they are when many others have been answered since, although
// they use the same memory on their way.
func TestWhatRemainsOfHits(t *testing.T) {
	h := benchCache(t, PoolConfig{})
	type answered struct {
		url, status  string
		header, then http.Header
		repl         *caddy.Replacer
	}
	serve := func(uri string, fields ...string) answered {
		w, r, repl := newBenchWriter(), request(t, uri, fields...), caddy.NewReplacer()
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, repl, w, nil)); err != nil {
			t.Error(err)
		}
		return answered{"http://example.test" + uri, w.last, w.header, w.header.Clone(), repl}
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			uri := fmt.Sprintf("/page?%d", g)
			for begun := time.Now(); !strings.Contains(serve(uri).status, "hit") && time.Since(begun) < time.Minute; {
				time.Sleep(time.Millisecond)
			}
			var all []answered
			for range 100 {
				all = append(all, serve(uri), serve("/vary", "Accept-Language", "de, en;q=0.5"), serve("/page", "If-None-Match", `"v1"`))
			}
			for i, a := range all {
				key, _ := a.repl.GetString("http.fluster.key")
				hit, _ := a.repl.Get("http.fluster.hit")
				status, _ := a.repl.GetString("http.fluster.cache_status")
				if key != a.url || hit != true || status != a.status || !strings.Contains(status, "hit") {
					t.Errorf("request %d for %s is a hit of %q (%v), %q behind the others; want %q", i, a.url, key, hit, status, a.status)
				}
				if !reflect.DeepEqual(a.header, a.then) {
					t.Errorf("the header of request %d for %s is %v behind the others, want %v", i, a.url, a.header, a.then)
				}
			}
		})
	}
	wg.Wait()
}

// TestHitTells: what is made once a second for all hits is made anew where a
// hit is told something else.
func TestHitTells(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000)
	e := newEntry(&stored.Response{Status: 200, Terms: httpcache.Terms{Born: start.UnixMilli(), FreshUntil: start.Add(10 * time.Second).UnixMilli()}}, 0)
	status := func(x *exchange) string {
		return x.toldOf(&found{entry: e}).status + " age " + x.toldOf(&found{entry: e}).age
	}
	hit := func(atMs int64, detail string) *exchange {
		x := &exchange{now: start.Add(time.Duration(atMs) * time.Millisecond)}
		x.status.Hit, x.status.HasTTL, x.status.Detail = true, true, detail
		x.status.TTL = e.resp.Terms.TTL(x.now)
		return x
	}
	for _, tt := range []struct {
		at     int64
		detail string
		want   string
	}{
		{0, "near", "fluster; hit; ttl=10; detail=near age 0"},
		{1, "near", "fluster; hit; ttl=9; detail=near age 0"},
		{999, "near", "fluster; hit; ttl=9; detail=near age 0"},
		{1000, "near", "fluster; hit; ttl=9; detail=near age 1"},
		{1000, "node", "fluster; hit; ttl=9; detail=node age 1"},
		{10000, "near", "fluster; hit; ttl=0; detail=near age 10"},
		{10001, "", "fluster; hit; ttl=-1 age 10"},
		{11000, "", "fluster; hit; ttl=-1 age 11"},
		{11001, "", "fluster; hit; ttl=-2 age 11"},
		{0, "near", "fluster; hit; ttl=10; detail=near age 0"},
	} {
		if got := status(hit(tt.at, tt.detail)); got != tt.want {
			t.Errorf("at %d ms with detail %q: told %q, want %q", tt.at, tt.detail, got, tt.want)
		}
	}
}

// TestIsBehind: a request that was forwarded is known behind the cache, and another
// one that is made of it there is not taken for it.
func TestIsBehind(t *testing.T) {
	prepared := func(r *http.Request) *http.Request {
		return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), newBenchWriter(), nil)
	}
	came := prepared(request(t, "/page"))
	forwarded := came.WithContext(putBehind(came.Context()))
	for name, tt := range map[string]struct {
		r    *http.Request
		want bool
	}{
		"came":           {came, false},
		"forwarded":      {forwarded, true},
		"made of it":     {prepared(forwarded), false},
		"of no replacer": {request(t, "/page").WithContext(putBehind(t.Context())), false},
	} {
		if got, _ := isBehind(tt.r); got != tt.want {
			t.Errorf("%s: isBehind is %v, want %v", name, got, tt.want)
		}
	}
}
