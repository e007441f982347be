package chaos

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestClusterAtRest: a Caddy that nobody asks anything reads little from a Redis
// Cluster, though that has 64 journals; also when one of them held what is not ours.
func TestClusterAtRest(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	var seeds []string
	for _, s := range c.Nodes {
		seeds = append(seeds, s.URL())
	}
	o := caddytest.NewOrigin(t, plain)
	caddy := caddytest.Start(t, "fluster {\ncluster "+strings.Join(seeds, " ")+"\n}", "fluster_cache\n"+o.Behind())
	caddy.WaitUp(1)
	client := c.Client(t)
	const head = "{fluster:7}:h"
	if err := errors.Join(client.Del(t.Context(), head).Err(), client.RPush(t.Context(), head, "foreign").Err()); err != nil {
		t.Fatal(err)
	}
	caddytest.Eventually(t, "the journal is begun anew", func() bool { return client.Type(t.Context(), head).Val() == "string" })
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

// TestStaleReplicaTakesOver: C4. A replica that lacks what its master had last
// takes over, without any failure that would penalize a node. What lies there is
// validated before it is given as fresh.
func TestStaleReplicaTakesOver(t *testing.T) {
	c := redistest.StartCluster(t, 3, 1)
	version := func(n int) func(*caddytest.Origin) {
		return func(o *caddytest.Origin) {
			o.Handle(caddytest.Answer(200, fmt.Sprint("version ", n), "Cache-Control", "max-age=600", "Etag", fmt.Sprintf(`"%d"`, n)))
		}
	}
	o := caddytest.NewOrigin(t, nil)
	version(1)(o)
	caddy := caddytest.Load(t, "fluster {\nnear off\ncluster "+c.Nodes[0].URL()+"\n}", "fluster_cache\n"+o.Behind())
	caddy.WaitUp(1)
	hit := func(want string) {
		t.Helper()
		caddytest.Eventually(t, "a hit on a node", func() bool {
			r := caddy.Get("/page")
			if string(r.Body) != want {
				t.Fatalf("C4: got %s, want %s", r, want)
			}
			return r.Hit("node")
		})
	}
	hit("version 1")
	var key string
	for _, s := range c.Nodes {
		for _, k := range keys(t, s.Client(t), "*:e:*") {
			key = k
		}
	}
	master, replica := c.Master(key), c.Replicas(key)[0]
	caddytest.Eventually(t, "the replica has it", func() bool { return stored(t, replica) == 1 })

	// From here on nothing is replicated. The response is evicted, and another one
	// takes its place, of which the journal has nothing to tell.
	do := func(s *redistest.Server, args ...any) {
		t.Helper()
		if err := s.Client(t).Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	do(master, "acl", "setuser", "default", "-psync", "-sync", "-replconf")
	do(master, "client", "kill", "type", "replica")
	do(master, "del", key)
	version(2)(o)
	hit("version 2")
	do(replica, "cluster", "failover", "takeover")
	caddytest.Eventually(t, "the replica is master", func() bool {
		if r := caddy.Get("/page"); string(r.Body) != "version 2" {
			t.Fatalf("C4: when a stale replica took over: got %s, want version 2 as before", r)
		}
		return master.Client(t).Get(t.Context(), key).Err() != nil && c.Master(key) == replica
	})
	for range 20 {
		if r := caddy.Get("/page"); string(r.Body) != "version 2" {
			t.Fatalf("C4: when a stale replica took over: got %s, want version 2 as before", r)
		}
	}
	hit("version 2")
}
