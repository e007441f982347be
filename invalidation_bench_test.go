package fluster_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// twoCaddies starts nodes and two Caddys on them, all in processes of their own.
func twoCaddies(b *testing.B, n int) ([]*redistest.Server, []*caddytest.Caddy) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(b, numbered(&o))
	servers, global := nodes(b, n)
	caddies := []*caddytest.Caddy{caddytest.Start(b, global, cached(o)), caddytest.Start(b, global, cached(o))}
	for _, c := range caddies {
		c.WaitUp(n)
	}
	waitListening(b, servers, len(caddies))
	return servers, caddies
}

// BenchmarkInvalidationLatency measures the time from PUBLISH until the last of
// two Caddys has refused what it selects, which both had in their near caches.
func BenchmarkInvalidationLatency(b *testing.B) {
	servers, caddies := twoCaddies(b, 3)
	took := make([]time.Duration, 0, 1024)
	for i := 0; b.Loop(); i++ {
		path := fmt.Sprintf("/p?tags=x%d", i)
		for _, c := range caddies {
			benchHit(b, c, path)
		}
		took = append(took, untilRefused(b, caddies, path, func() {
			client := servers[i%3].Client(b)
			client.Publish(b.Context(), channel, fmt.Sprintf("tag x%d", i))
			client.Close()
		}))
	}
	reportPercentiles(b, took)
}

// BenchmarkInvalidationUnheard measures the same, from the acknowledgement at one
// Caddy, where nobody can subscribe.
func BenchmarkInvalidationUnheard(b *testing.B) {
	servers, caddies := twoCaddies(b, 3)
	for _, s := range servers {
		client := s.Client(b)
		client.Do(b.Context(), "acl", "setuser", "default", "-subscribe")
		client.Do(b.Context(), "client", "kill", "type", "pubsub")
	}
	took := make([]time.Duration, 0, 1024)
	for i := 0; b.Loop(); i++ {
		path := fmt.Sprintf("/p?tags=x%d", i)
		for _, c := range caddies {
			benchHit(b, c, path)
		}
		took = append(took, untilRefused(b, caddies, path, func() {
			if r := caddies[0].Invalidate(fmt.Sprintf(`{"tag":["x%d"]}`, i)); r.Status != 200 {
				b.Fatal(r)
			}
		}))
	}
	reportPercentiles(b, took)
}

func benchHit(b *testing.B, c *caddytest.Caddy, path string) {
	b.Helper()
	caddytest.Eventually(b, path+" is a near hit", func() bool { return c.Get(path).Hit("near") })
}

// untilRefused invalidates and returns after how long the last Caddy answers
// otherwise, at the earliest moment that it can be asked.
func untilRefused(b *testing.B, caddies []*caddytest.Caddy, path string, invalidate func()) time.Duration {
	b.Helper()
	var old []string
	for _, c := range caddies {
		old = append(old, string(c.Get(path).Body))
	}
	invalidate()
	start := time.Now()
	var last atomic.Int64
	var wg sync.WaitGroup
	for i, c := range caddies {
		wg.Go(func() {
			for time.Since(start) < 10*time.Second {
				asked := time.Since(start)
				if string(c.Get(path).Body) != old[i] {
					for was := last.Load(); int64(asked) > was && !last.CompareAndSwap(was, int64(asked)); was = last.Load() {
					}
					return
				}
			}
			b.Error("it is served for ever")
		})
	}
	wg.Wait()
	return time.Duration(last.Load())
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 {
		return took[min(int(p*float64(len(took))), len(took)-1)].Seconds() * 1e3
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
}

// BenchmarkInvalidationRate publishes 10 000 invalidations a second for ten
// seconds, on three nodes, while two Caddys serve what they do not select. It
// reports the share of hits, before and meanwhile, and how long the journals
// took to have the last record.
func BenchmarkInvalidationRate(b *testing.B) {
	const (
		rate   = 10_000
		during = 10 * time.Second
	)
	for b.Loop() {
		servers, caddies := twoCaddies(b, 3)
		for _, c := range caddies {
			for i := range 100 {
				benchHit(b, c, fmt.Sprintf("/page/%d?tags=quiet", i))
			}
		}
		before, _ := hitsFor(b, caddies, 2*time.Second)
		done := make(chan float64)
		go func() { done <- publishFor(b, servers, rate, during) }()
		meanwhile, served := hitsFor(b, caddies, during)
		sent := <-done
		start := time.Now()
		caddytest.Eventually(b, "the journals have all records", func() bool { return journalled(b, servers, int(sent)) })
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(sent/during.Seconds(), "invalidations/s")
		b.ReportMetric(served/during.Seconds(), "requests/s")
		b.ReportMetric(100*before, "%hits-before")
		b.ReportMetric(100*meanwhile, "%hits")
		b.ReportMetric(time.Since(start).Seconds(), "s-behind")
	}
}

// publishFor publishes tags that nobody has, and returns how many.
func publishFor(b *testing.B, servers []*redistest.Server, rate int, d time.Duration) (sent float64) {
	var clients []*redis.Client
	for _, s := range servers {
		clients = append(clients, s.Client(b))
	}
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	start := time.Now()
	for n := 0; time.Since(start) < d; {
		<-tick.C
		due := int(time.Since(start).Seconds() * float64(rate))
		pipe := clients[n%len(clients)].Pipeline()
		for ; n < due; n++ {
			pipe.Publish(b.Context(), channel, fmt.Sprintf("tag product-%d", n))
		}
		if _, err := pipe.Exec(b.Context()); err != nil && pipe.Len() > 0 {
			b.Error(err)
		}
		sent = float64(n)
	}
	return sent
}

// hitsFor asks for pages that nobody invalidates, and returns the share of hits
// and the number of requests.
func hitsFor(b *testing.B, caddies []*caddytest.Caddy, d time.Duration) (share, requests float64) {
	var hits, all atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for client := range 4 {
		wg.Go(func() {
			for i := client; time.Since(start) < d; i++ {
				all.Add(1)
				if caddies[client%2].Get(fmt.Sprintf("/page/%d?tags=quiet", i%100)).Hit("") {
					hits.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(hits.Load()) / float64(all.Load()), float64(all.Load())
}

// journalled reports whether each journal has told of at least n entries.
func journalled(b *testing.B, servers []*redistest.Server, n int) bool {
	for _, s := range servers {
		client := s.Client(b)
		head := client.Get(b.Context(), "{fluster:0}:h").Val()
		client.Close()
		parts := strings.Split(head, ":")
		var seq int
		if len(parts) != 3 {
			return false
		}
		if _, err := fmt.Sscan(parts[1], &seq); err != nil || seq < n {
			return false
		}
	}
	return true
}
