package fluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// TestDigestHolds: a believed digest lacks nothing that lies on the node, whoever has
// written it and whenever connections are lost.
func TestDigestHolds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := redistest.Start(t)
	a, err := shard.ParseAddress(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	sn, err := shard.NewNode(a, shard.Options{Timeout: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	state := newPoolState("")
	n := newNode(sn, 0, "key", state, &PoolConfig{Namespace: "p", Nodes: []string{server.URL()}, Timeout: caddy.Duration(time.Second)})
	n.seat.available.Store(true)
	ctx, end := context.WithCancel(t.Context())
	var keeper sync.WaitGroup
	keeper.Go(func() { n.digestKeys(ctx) })
	defer func() {
		end()
		keeper.Wait()
		sn.Close()
		state.Destruct() //nolint:errcheck // nothing is lost
	}()

	c := server.Client(t)
	key := func() string { return n.journal.bucket.entry(fmt.Sprint(random.IntN(3000))) }
	believed, checked := 0, 0
	for round := range 250 {
		for range random.IntN(60) {
			meddle(ctx, random, n, c, key)
		}
		switch random.IntN(100) {
		case 0:
			c.Do(ctx, "client", "kill", "type", "pubsub")
		case 1:
			c.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes")
		case 2:
			c.FlushAll(ctx)
		}
		if random.IntN(3) > 0 {
			time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
		}
		// A key that was written last is heard of last.
		last := n.journal.bucket.entry(fmt.Sprint("last ", round))
		c.Set(ctx, last, "x", 0)
		for until := time.Now().Add(200 * time.Millisecond); n.digest.lacks(last) && time.Now().Before(until); {
			time.Sleep(time.Millisecond)
		}
		if n.digest.keys.Load() == nil {
			n.digest.lacks(last) // it is wanted
			continue
		}
		believed++
		for _, key := range c.Keys(ctx, n.journal.bucket.entries()+"*").Val() {
			checked++
			if n.digest.lacks(key) {
				// Either connection may have gone just now, and nobody has told yet.
				time.Sleep(2 * heardEvery)
				if n.digest.lacks(key) && c.Exists(ctx, key).Val() == 1 {
					t.Fatalf("round %d: %s is on the node, and not in its digest", round, key)
				}
			}
		}
	}
	if believed < 5 {
		t.Errorf("the digest was believed in %d of 250 rounds", believed)
	}
	t.Logf("%d keys checked in %d rounds", checked, believed)
}

// meddle changes a key as somebody may.
func meddle(ctx context.Context, random *rand.Rand, n *node, c *redis.Client, key func() string) {
	switch random.IntN(8) {
	case 0:
		c.Del(ctx, key())
	case 1:
		c.Copy(ctx, key(), key(), 0, true)
	case 2:
		c.Set(ctx, key(), "x", time.Duration(1+random.IntN(200))*time.Millisecond)
	case 3:
		c.RPush(ctx, key(), "x")
	case 4, 5: // as the writer does
		k := key()
		n.Writer().Set(ctx, k, "x", 0)
		n.digest.add(k)
	default:
		c.Set(ctx, key(), "x", 0)
	}
}

// TestDigestWrong: a digest that lacks what was found on the node is not believed any more.
func TestDigestWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newDigest(), newKeySet(10)
		s.whole.Store(true)
		d.keys.Store(s)
		d.heard.Store(int64(time.Since(began)))
		if !d.lacks("a") || !d.lacks("b") {
			t.Fatal("an empty digest has something")
		}
		d.wasFound("a")
		s.add("a") // it was heard of a moment later
		time.Sleep(2 * toldWithin)
		if s.isFull() || !d.lacks("b") {
			t.Error("a key that was heard of a moment later has ended the digest")
		}
		d.wasFound("b")
		time.Sleep(2 * toldWithin)
		if d.lacks("c") || !s.isFull() {
			t.Error("a digest that lacks what lies on the node is believed")
		}
	})
}
