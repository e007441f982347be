package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// BenchmarkOneOfThreeDead compares what a Caddy does with one node of three
// dead, once that is penalized, to what it did before, in one run: stretches of
// both in turn, so that other load on the machine hits them alike. The ratios
// are of throughput and of the 99th percentile of latency.
func BenchmarkOneOfThreeDead(b *testing.B) {
	var servers []*redistest.Server
	option := "nodes"
	for i := range 3 {
		s := redistest.Start(b)
		servers = append(servers, s)
		option += fmt.Sprintf(" %s?name=%c", s.URL(), 'a'+i)
	}
	o := caddytest.NewOrigin(b, caddytest.Answer(200, fmt.Sprintf("%04096d", 1), "Cache-Control", "max-age=600"))
	c := caddytest.Start(b, "fluster {\n"+option+"\nnear off\n}", "fluster_cache\n"+o.Behind())
	var before, dead measured
	for b.Loop() {
		c.WaitUp(3)
		measure(c) // to warm up
		before.add(measure(c))
		servers[0].Kill()
		caddytest.Eventually(b, "the node is penalized", func() bool {
			c.Get("/0")
			return c.Nodes()["a"].State == "penalty"
		})
		measure(c) // to have its keys elsewhere
		dead.add(measure(c))
		servers[0].Restart()
	}
	b.ReportMetric(before.rate(), "req/s-before")
	b.ReportMetric(dead.rate(), "req/s-dead")
	b.ReportMetric(dead.rate()/before.rate(), "throughput-ratio")
	b.ReportMetric(float64(dead.p99())/float64(before.p99()), "p99-ratio")
	b.ReportMetric(0, "ns/op") // a stretch, which says nothing
}

// stretch is how long is measured at a time.
const stretch = time.Second

// measured is requests and how long they took.
type measured struct {
	took []time.Duration
	time time.Duration
}

func (m *measured) add(other measured) {
	m.took, m.time = append(m.took, other.took...), m.time+other.time
}

func (m *measured) rate() float64 { return float64(len(m.took)) / m.time.Seconds() }

func (m *measured) p99() time.Duration {
	slices.Sort(m.took)
	return m.took[len(m.took)*99/100]
}

// measure asks with 16 clients for one stretch.
func measure(c *caddytest.Caddy) (m measured) {
	start := time.Now()
	var mu sync.Mutex // guards m
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var took []time.Duration
			for time.Since(start) < stretch {
				began := time.Now()
				c.Get(fmt.Sprint("/", rand.N(500)))
				took = append(took, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			m.took = append(m.took, took...)
		})
	}
	wg.Wait()
	m.time = time.Since(start)
	return m
}
