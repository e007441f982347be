//go:build unix

package redistest

import (
	"slices"
	"testing"
	"time"
)

func TestClusterFailsOver(t *testing.T) {
	c := StartCluster(t, 3, 1)
	if got := len(c.Nodes); got != 6 {
		t.Fatalf("got %d nodes, want 6", got)
	}
	client := c.Client(t)
	const key = "some key"
	if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	master, replicas := c.Master(key), c.Replicas(key)
	if !slices.Contains(c.Nodes[:3], master) || len(replicas) != 1 || !slices.Contains(c.Nodes[3:], replicas[0]) {
		t.Fatalf("master %s and replicas %v, want one of the first three nodes and one of the others", master.Addr(), replicas)
	}

	if got := c.Failover(key); got != replicas[0] {
		t.Errorf("failing over made %s the master, want %s", got.Addr(), replicas[0].Addr())
	}
	if got := c.KillMaster(key); got != replicas[0] || got.PID() != 0 {
		t.Errorf("killed %s, process %d, want %s, which is gone", got.Addr(), got.PID(), replicas[0].Addr())
	}
	if got := c.Master(key); got != master {
		t.Errorf("then %s is the master, want %s", got.Addr(), master.Addr())
	}
	if err := master.Client(t).Set(t.Context(), key, "w", 0).Err(); err != nil {
		t.Errorf("writing to the new master: %v", err)
	}

	replicas[0].RestartWithData()
	c.WaitReady()
	if got := c.Replicas(key); !slices.Equal(got, replicas) {
		t.Errorf("after its restart the replicas are %v, want %s", got, replicas[0].Addr())
	}
}

func TestClusterWithoutReplicas(t *testing.T) {
	c := StartCluster(t, 2, 0)
	client := c.Client(t)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Errorf("setting %s: %v", key, err)
		}
	}
	for _, s := range c.Nodes {
		if n, err := s.Client(t).DBSize(t.Context()).Result(); n == 0 || err != nil {
			t.Errorf("node %s holds %d keys, %v, want some", s.Addr(), n, err)
		}
	}
}

func TestSentinelFailsOver(t *testing.T) {
	g := StartSentinel(t)
	client := g.Client(t)
	if err := client.Set(t.Context(), "key", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	// Replication is asynchronous: what is to survive has to be with the replica.
	if n, err := client.Wait(t.Context(), 1, 10*time.Second).Result(); n != 1 || err != nil {
		t.Fatalf("%d replicas have the key, %v, want 1", n, err)
	}
	first, second := g.Servers[0], g.Servers[1]
	if got := g.Master(); got != first {
		t.Fatalf("the master is %s, want %s", got.Addr(), first.Addr())
	}
	if got := g.KillMaster(); got != first || got.PID() != 0 {
		t.Errorf("killed %s, process %d, want %s, which is gone", got.Addr(), got.PID(), first.Addr())
	}
	if got := g.Master(); got != second {
		t.Errorf("then %s is the master, want %s", got.Addr(), second.Addr())
	}
	if got, err := second.Client(t).Get(t.Context(), "key").Result(); got != "v" || err != nil {
		t.Errorf("the new master holds %q, %v, want v", got, err)
	}

	first.RestartWithData()
	g.WaitReady()
	g.Sentinels[2].Kill()
	if got := g.Failover(); got != first {
		t.Errorf("failing over made %s the master, want %s", got.Addr(), first.Addr())
	}
}

// A machine may be so busy that sentinels give up or stand still.
func TestSentinelFailsOverInTheEnd(t *testing.T) {
	g := StartSentinel(t)
	replica := g.Servers[1]
	replica.Pause()
	resumed := make(chan error, 1)
	time.AfterFunc(5*time.Second, func() { resumed <- replica.process.Resume() }) // longer than their failover-timeout
	for _, s := range g.Sentinels[1:] {
		s.Pause()
		time.AfterFunc(3*time.Second, func() { resumed <- s.process.Resume() }) // longer than they call normal
	}
	if got := g.Failover(); got != replica {
		t.Errorf("failing over made %s the master, want %s", got.Addr(), replica.Addr())
	}
	for range g.Sentinels {
		if err := <-resumed; err != nil {
			t.Error(err)
		}
	}
}
