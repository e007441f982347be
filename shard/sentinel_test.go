package shard

import (
	"context"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// Whoever is the master is the node.
func TestSentinel(t *testing.T) {
	ctx := context.Background()
	group := redistest.StartSentinel(t)
	var sentinels []Address
	for _, addr := range group.Addrs() {
		sentinels = append(sentinels, Address{Endpoint: addr})
	}
	told := &heirs{}
	n, err := NewSentinel(group.Name, sentinels, Options{Timeout: time.Second}, told)
	if err != nil {
		t.Fatal(err)
	}
	closeNodes(t, []*Node{n})
	use := func(value string) error {
		if err := n.Bulk().Set(ctx, "k", value, 0).Err(); err != nil {
			return err
		}
		got, _, err := n.Read(ctx, "k", "")
		if err == nil && string(got) != value {
			t.Errorf("got %q, want %q", got, value)
		}
		return err
	}
	if err := use("before"); err != nil {
		t.Fatal(err)
	}
	if told.count.Load() != 0 {
		t.Error("somebody succeeded a master that is well")
	}
	group.Failover()
	// go-redis hears of it from the sentinels, which may take a moment.
	deadline := time.Now().Add(10 * time.Second)
	for err = use("after"); err != nil && time.Now().Before(deadline); {
		err = use("after")
	}
	if err != nil {
		t.Errorf("after the switch-over: %v", err)
	}
	if told.count.Load() == 0 {
		t.Error("nobody noticed that the replica is master now")
	}
}
