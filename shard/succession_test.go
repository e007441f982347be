package shard

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// An heirs counts who was succeeded.
type heirs struct {
	recorder
	count atomic.Int32
}

func (h *heirs) Succeeded(*Node) { h.count.Add(1) }

// TestClusterSuccession: who succeeds a master is noticed with its first answer,
// for the parts that lie there and no others; a confirmed write is on the replica.
func TestClusterSuccession(t *testing.T) {
	ctx := context.Background()
	c := redistest.StartCluster(t, 3, 1)
	a, err := ParseAddress("redis://" + c.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	whole, err := NewCluster([]Address{a}, Options{Timeout: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make([]*heirs, 16)
	parts, keys := make([]*Node, len(told)), make([]string, len(told))
	for i := range parts {
		told[i], keys[i] = &heirs{}, fmt.Sprintf("{part%d}", i)
		parts[i] = whole.Part(fmt.Sprint("part/", i), told[i])
	}
	closeNodes(t, parts)
	read := func(when string) {
		t.Helper()
		for i, v := range ReadParts(ctx, parts, keys) {
			if v.Err != nil || string(v.Value) != fmt.Sprint("value ", i) {
				t.Errorf("%s: reading part %d: got %q, %v", when, i, v.Value, v.Err)
			}
		}
	}
	for i, part := range parts {
		n, err := part.Confirm(ctx, keys[i], func(pipe redis.Pipeliner) { pipe.Set(ctx, keys[i], fmt.Sprint("value ", i), 0) })
		if n != 1 || err != nil {
			t.Fatalf("writing part %d: %d replicas have it, %v; want 1", i, n, err)
		}
	}
	read("at first")
	old := c.Master(keys[0])
	var moved []bool
	for _, key := range keys {
		moved = append(moved, c.Master(key) == old)
	}
	for i := range told {
		if n := told[i].count.Load(); n != 0 {
			t.Fatalf("part %d was succeeded %d times before anything happened", i, n)
		}
	}

	c.Failover(keys[0])
	for i, part := range parts {
		if got, _, err := part.Read(ctx, keys[i], keys[i]); err != nil || string(got) != fmt.Sprint("value ", i) {
			t.Errorf("after the failover: reading part %d: got %q, %v", i, got, err)
		}
		if n := told[i].count.Load() > 0; n != moved[i] {
			t.Errorf("part %d was succeeded: got %t, want %t", i, n, moved[i])
		}
	}
	read("in the end")
}

// TestConfirmWithoutReplicas: that no replica confirms is no failure of what was
// written, however late the server says so: an idle one looks ten times a second
// whose time is over.
func TestConfirmWithoutReplicas(t *testing.T) {
	s := redistest.Start(t)
	a, err := ParseAddress(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(a, Options{Timeout: 100 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeNodes(t, []*Node{n})
	for i := range 20 {
		key := fmt.Sprint("key ", i)
		confirmed, err := n.Confirm(t.Context(), key, func(pipe redis.Pipeliner) { pipe.Set(t.Context(), key, "value", 0) })
		if confirmed != 0 || err != nil {
			t.Errorf("write %d: %d replicas have it, %v; want none, and no error", i, confirmed, err)
		}
	}
}
