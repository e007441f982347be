package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// onCluster returns a rig with a queue on a Redis Cluster.
func onCluster(t *testing.T, cluster *redistest.Cluster, k int, o Options) *rig {
	t.Helper()
	node := clusterClient(t, cluster, 1).partitions[0].node
	o.Name, o.Partitions = "q", OnCluster(node, k)
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, c: c, o: o}
}

func TestEnqueueOnAClusterThatLosesAMaster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	r := onCluster(t, cluster, 8, Options{InlineBody: 1000})
	masters := map[string]bool{}
	for _, p := range r.c.partitions {
		masters[p.machine(t.Context())] = true
	}
	if len(masters) != 3 {
		t.Fatalf("the partitions are on %v, want three masters", masters)
	}
	kind := func(i int) *Message {
		m := plainOrNot(i)
		if i%5 == 0 {
			m.Body = patternOf(3000)
		}
		return m
	}
	r.enqueueMany(64, kind)
	cluster.Master(r.c.partitions[0].keys.delayed()).Pause()
	if ids, refused := r.enqueueMany(500, kind); refused > 0 {
		t.Errorf("%d of %d are refused with one master of three away", refused, refused+len(ids))
	}
}

func TestAckOfReplicasOnACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 1)
	r := onCluster(t, cluster, 4, Options{Ack: Ack{Replicas: 1}, InlineBody: 1000})
	if err := r.c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, refused := r.enqueueMany(40, plainOrNot)
	if refused > 20 { // on a machine under load a replica may be late
		t.Errorf("%d refused", refused)
	}
	for _, p := range r.c.partitions {
		for _, replica := range cluster.Replicas(p.keys.delayed()) {
			replica.Pause()
		}
	}
	receipt, err := r.c.Enqueue(t.Context(), &Message{})
	if !errors.Is(err, ErrDurability) {
		t.Errorf("without a replica: got %v, want %v", err, ErrDurability)
	}
	r.expectDelivered(ids, nil)
	if ids[receipt.ID] {
		t.Error("what was refused has the id of another")
	}
}

func TestAckOfReplicasOutlivesTheMaster(t *testing.T) {
	group := redistest.StartSentinel(t)
	var sentinels []shard.Address
	for _, addr := range group.Addrs() {
		sentinels = append(sentinels, shard.Address{Endpoint: addr})
	}
	node, err := shard.NewSentinel(group.Name, sentinels, shard.Options{Timeout: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c, err := NewClient(Options{Name: "q", Partitions: OnNodes(node), Ack: Ack{Replicas: 1}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, c: c}
	ids, refused := r.enqueueMany(400, plainOrNot)
	if refused > 200 { // on a machine under load a replica may be late
		t.Errorf("%d refused", refused)
	}
	group.KillMaster()
	// There is no second replica, so that nothing more is accepted.
	// Sentinels that vote for each other take some rounds, of ten seconds each.
	eventually(t, time.Minute, "the replica answers", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{})
		return errors.Is(err, ErrDurability)
	})
	r.expectDelivered(ids, nil)
}
