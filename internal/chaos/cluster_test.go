package chaos

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestClusterAtRest: a Caddy that nobody asks anything reads little from a Redis
// Cluster, though that has 64 journals.
func TestClusterAtRest(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	var seeds []string
	for _, s := range c.Nodes {
		seeds = append(seeds, s.URL())
	}
	o := caddytest.NewOrigin(t, plain)
	caddy := caddytest.Start(t, "fluster {\ncluster "+strings.Join(seeds, " ")+"\n}", "fluster_cache\n"+o.Behind())
	caddy.WaitUp(1)
	reads := func() (n int) {
		for _, s := range c.Nodes {
			text := s.Client(t).Info(t.Context(), "stats").Val()
			_, text, _ = strings.Cut(text, "total_reads_processed:")
			text, _, _ = strings.Cut(text, "\r\n")
			some, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			n += some
		}
		return n
	}
	// What is at the start only is over when a stretch is quiet; the last one counts.
	caddytest.Eventually(t, "the Caddy reads no more than 40 times a second", func() bool {
		before, start := reads(), time.Now()
		cpu := caddy.Metric("process_cpu_seconds_total")
		time.Sleep(2 * time.Second)
		cpu, long := caddy.Metric("process_cpu_seconds_total")-cpu, time.Since(start).Seconds()
		perSecond := float64(reads()-before) / long
		t.Logf("%.0f reads a second at the servers; %.2f%% of a processor in Caddy", perSecond, 100*cpu/long)
		return perSecond <= 40
	})
}
