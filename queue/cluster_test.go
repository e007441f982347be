package queue

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// clusterClient returns a client of a queue in k partitions on a Redis Cluster.
func clusterClient(t *testing.T, cluster *redistest.Cluster, k int) *Client {
	t.Helper()
	return patientClusterClient(t, 300*time.Millisecond, cluster, k)
}

// patientClusterClient is clusterClient with servers that may take that long to answer.
func patientClusterClient(t *testing.T, timeout time.Duration, cluster *redistest.Cluster, k int) *Client {
	t.Helper()
	var addrs []shard.Address
	for _, addr := range cluster.Addrs() {
		a, err := shard.ParseAddress("redis://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	node, err := shard.NewCluster(addrs, shard.Options{Timeout: timeout}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c, err := NewClient(Options{Name: "q", Partitions: OnCluster(node, k), Visibility: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// moveSlot moves the slot of a key to another master, one key at a time, as
// redis-cli does.
func moveSlot(t *testing.T, cluster *redistest.Cluster, key string) {
	t.Helper()
	ctx := context.Background()
	slot := cluster.Client(t).ClusterKeySlot(ctx, key).Val()
	from := cluster.Master(key)
	var to *redistest.Server
	for i := 0; to == nil || to == from; i++ {
		to = cluster.Master(fmt.Sprint("other", i))
	}
	source, target := from.Client(t), to.Client(t)
	_, port, _ := net.SplitHostPort(to.Addr())
	id := func(c *redis.Client) string { return c.Do(ctx, "CLUSTER", "MYID").Val().(string) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(source)).Err())
	must(source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(target)).Err())
	for {
		keys := source.ClusterGetKeysInSlot(ctx, int(slot), 10).Val()
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			source.Do(ctx, "MIGRATE", "127.0.0.1", port, k, 0, 1000)
			time.Sleep(20 * time.Millisecond)
		}
	}
	must(target.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", id(target)).Err())
	must(source.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", id(target)).Err())
}

func TestClusterFailsOverAndMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	c, other := clusterClient(t, cluster, 4), clusterClient(t, cluster, 4)
	d := newDiary()
	deliver := func(_ context.Context, m *Delivery) Result {
		if m.Attempt == 1 && len(m.Body)%3 == 0 {
			return Result{}
		}
		d.note(m)
		return Result{Outcome: Done}
	}
	seen := &watcher{}
	_, drain := run(t, c, WorkerOptions{Attempts: 1000, Observe: seen}, deliver)
	_, drainOther := run(t, other, WorkerOptions{Attempts: 1000, Observe: seen}, deliver)
	var wg sync.WaitGroup
	n := 0
	stop := make(chan struct{})
	wg.Go(func() {
		for ; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
			}
			m := &Message{Body: fmt.Append(nil, n)}
			switch n % 4 {
			case 1:
				m.OrderKey = fmt.Sprint(n % 7)
			case 2:
				m.Track = true
			}
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if _, err := c.Enqueue(context.Background(), m); err == nil {
					break
				}
				if time.Now().After(end) {
					t.Error("a message is not taken")
					return
				}
			}
		}
	})
	key := c.partitions[0].keys.stream("")
	time.Sleep(300 * time.Millisecond)
	cluster.Failover(key)
	time.Sleep(300 * time.Millisecond)
	moveSlot(t, cluster, key)
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	eventually(t, 30*time.Second, fmt.Sprint("all ", n, " are delivered"), func() bool { return d.distinct() == n })
	eventually(t, 30*time.Second, "all is recorded", func() bool {
		for _, n := range c.Counts(context.Background()) {
			if n.Err != nil || n.Ready+n.InFlight+n.Delayed > 0 {
				return false
			}
		}
		return true
	})
	drain()
	drainOther()
	err := cluster.Client(t).ForEachMaster(context.Background(), func(ctx context.Context, master *redis.Client) error {
		for _, key := range master.Keys(ctx, "*").Val() {
			if master.PTTL(ctx, key).Val() < 0 {
				t.Errorf("left: %s, %v", key, master.Do(ctx, "XINFO", "STREAM", key, "FULL").Val())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.Log(seen.others())
	}
	t.Logf("%d messages, %d delivered more than once", n, len(d.twice()))
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	sentinels := redistest.StartSentinel(t)
	var addrs []shard.Address
	for _, addr := range sentinels.Addrs() {
		a, err := shard.ParseAddress("redis://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	node, err := shard.NewSentinel(sentinels.Name, addrs, shard.Options{Timeout: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c, err := NewClient(Options{Name: "q", Partitions: OnNodes(node), Visibility: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d := newDiary()
	_, drain := run(t, c, WorkerOptions{}, d.done)
	put := func(n int, prefix string) {
		for i := range n {
			m := &Message{Body: fmt.Append(nil, prefix, i), OrderKey: fmt.Sprint(i % 3)}
			eventually(t, 20*time.Second, "it is taken", func() bool { _, err := c.Enqueue(t.Context(), m); return err == nil })
		}
	}
	put(50, "before")
	sentinels.Failover()
	put(50, "after")
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == 100 })
	drain()
}
