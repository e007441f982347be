package fluster_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// spares waits until a Caddy spares lookups of what is on no node.
func spares(t *testing.T, c *caddytest.Caddy) {
	t.Helper()
	n := 0
	caddytest.Eventually(t, "lookups are spared", func() bool {
		n++
		before := c.Metric("caddy_fluster_lookups_spared_total")
		c.Get(fmt.Sprintf("/nowhere-%s-%d", t.Name(), n))
		return c.Metric("caddy_fluster_lookups_spared_total") > before
	})
}

// storedOn waits until so many entries lie on a server.
func storedOn(t *testing.T, s *redistest.Server, n int) {
	t.Helper()
	caddytest.Eventually(t, fmt.Sprint(n, " entries are stored"), func() bool {
		keys, err := s.Client(t).Keys(t.Context(), "{fluster:0}:e:*").Result()
		return err == nil && len(keys) >= n
	})
}

// heardOf is more than it takes until a Caddy has heard of what another has stored.
const heardOf = 300 * time.Millisecond

// TestDigest: what is on no node is not looked for there, and what another Caddy has
// stored is found, whether that was before or after this one began to listen.
func TestDigest(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "x", fresh...))
	servers, global := nodes(t, 1)
	a := caddytest.Start(t, global, cached(o))
	a.WaitUp(1)
	wantMiss(t, a, "/before")
	storedOn(t, servers[0], 1)
	b := caddytest.Start(t, global, cached(o))
	b.WaitUp(1)
	spares(t, a)
	spares(t, b)
	wantHit(t, b, "node", "/before")

	storedOn(t, servers[0], 3)
	time.Sleep(heardOf)
	servers[0].Client(t).ConfigResetStat(t.Context())
	for i := range 20 {
		wantMiss(t, a, fmt.Sprint("/", i))
	}
	if got := lookups(t, servers[0]); got != "0" && got != "1" { // one of 64
		t.Errorf("20 misses looked on the node %s times, want once at most", got)
	}
	storedOn(t, servers[0], 23)
	time.Sleep(heardOf)
	for i := range 20 {
		wantHit(t, b, "node", fmt.Sprint("/", i))
	}
}

// TestDigestLost: while keys may have been missed, each miss is looked for.
func TestDigestLost(t *testing.T) {
	for _, kind := range []string{"pubsub", "normal"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := caddytest.NewOrigin(t, caddytest.Answer(200, "x", fresh...))
			servers, global := nodes(t, 1)
			a := caddytest.Start(t, global, cached(o))
			b := caddytest.Start(t, global, cached(o))
			a.WaitUp(1)
			b.WaitUp(1)
			spares(t, b)
			c := servers[0].Client(t)
			if err := c.Do(t.Context(), "client", "kill", "type", kind, "skipme", "yes").Err(); err != nil {
				t.Fatal(err)
			}
			stored := c.DBSize(t.Context()).Val()
			wantMiss(t, a, "/a")
			caddytest.Eventually(t, "it is stored", func() bool { return c.DBSize(t.Context()).Val() > stored })
			time.Sleep(6 * time.Second) // that of one that stores nothing is tried every four
			wantHit(t, b, "node", "/a")
		})
	}
}

// TestDigestOfOwn: what this Caddy has stored is found, although it is not told of that.
func TestDigestOfOwn(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "x", fresh...))
	servers, global := nodes(t, 1, "near off")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	spares(t, c)
	// Storing one more at a time and many together are two ways.
	for round, at := range []int{1, 32} {
		var asking sync.WaitGroup
		for i := range at {
			asking.Go(func() { c.Get(fmt.Sprint("/", round, "-", i)) })
		}
		asking.Wait()
		storedOn(t, servers[0], 1+at)
		for i := range at {
			wantHit(t, c, "node", fmt.Sprint("/", round, "-", i))
		}
	}
}

// TestDigestOfOthers: what other programs put under the key of an entry is noticed, and
// counted as what it is.
func TestDigestOfOthers(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "x", fresh...))
	servers, global := nodes(t, 1, "near off")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	spares(t, c)
	wantMiss(t, c, "/a")
	wantMiss(t, c, "/b")
	storedOn(t, servers[0], 3)
	client := servers[0].Client(t)
	keys := client.Keys(t.Context(), "{fluster:0}:e:*").Val()
	client.FlushAll(t.Context())
	spares(t, c)
	for _, key := range keys {
		client.Set(t.Context(), key, "rubbish", 0)
	}
	time.Sleep(heardOf)
	before := c.Metric(`caddy_fluster_garbage_total{reason="format"}`)
	wantMiss(t, c, "/a")
	if got := c.Metric(`caddy_fluster_garbage_total{reason="format"}`); got != before+1 {
		t.Errorf("%v values of another format, want %v", got, before+1)
	}
}
