package shard

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestPipelineWhileASlotMoves: of a pipeline in which one command is to be repeated and
// another one is redirected, the latter is run once.
func TestPipelineWhileASlotMoves(t *testing.T) {
	ctx := context.Background()
	cluster := redistest.StartCluster(t, 3, 0)
	const here, there, count = "{t}here", "{t}there", "{t}count"
	raw := cluster.Client(t)
	for _, key := range []string{here, there} {
		if err := raw.Set(ctx, key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// One of the keys has moved already, and count is new.
	source, target := cluster.Master(here).Client(t), anotherMaster(t, cluster, here)
	slot := raw.ClusterKeySlot(ctx, here).Val()
	host, port, _ := net.SplitHostPort(target.Options().Addr)
	for _, step := range []*redis.Cmd{
		target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.Do(ctx, "CLUSTER", "MYID").Val()),
		source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.Do(ctx, "CLUSTER", "MYID").Val()),
		source.Do(ctx, "MIGRATE", host, port, there, 0, 1000),
	} {
		if step.Err() != nil {
			t.Fatal(step)
		}
	}

	a, err := ParseAddress("redis://" + cluster.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewCluster([]Address{a}, Options{Timeout: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeNodes(t, []*Node{n})
	for name, client := range map[string]redis.UniversalClient{"small": n.Client(), "bulk": n.Bulk(), "read": n.batched} {
		raw.Del(ctx, count)
		pipe := client.Pipeline()
		both, get, incr := pipe.MGet(ctx, here, there), pipe.Get(ctx, there), pipe.Incr(ctx, count)
		stay := pipe.Get(ctx, here)
		_, _ = pipe.Exec(ctx) // each has its own error
		if !redis.HasErrorPrefix(both.Err(), "TRYAGAIN") {
			t.Errorf("%s: both keys, of which one has moved: got %v, %v; want TRYAGAIN", name, both.Val(), both.Err())
		}
		if get.Val() != there || stay.Val() != here {
			t.Errorf("%s: got %v and %v", name, get, stay)
		}
		if n := raw.Get(ctx, count).Val(); n != "1" || incr.Val() != 1 {
			t.Errorf("%s: one INCR answered %d, %v, and the key has %s; want 1", name, incr.Val(), incr.Err(), n)
		}
	}
}

// anotherMaster returns a client of a master that does not have the key.
func anotherMaster(t *testing.T, cluster *redistest.Cluster, key string) *redis.Client {
	t.Helper()
	for _, other := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		if s := cluster.Master(other); s != cluster.Master(key) {
			return s.Client(t)
		}
	}
	t.Fatal("all keys have one master")
	return nil
}
