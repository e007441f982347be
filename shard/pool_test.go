package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// startPool returns a pool over as many servers as there are names.
func startPool(t *testing.T, away box, names ...string) (*Pool, []*redistest.Server) {
	t.Helper()
	var nodes []*Node
	var servers []*redistest.Server
	for _, name := range names {
		s := redistest.Start(t)
		n, _ := open(t, s.URL()+"?name="+name, Options{Timeout: time.Second})
		nodes, servers = append(nodes, n), append(servers, s)
	}
	p, err := NewPool(nodes, away)
	if err != nil {
		t.Fatal(err)
	}
	return p, servers
}

func TestPoolWithoutNodes(t *testing.T) {
	p, err := NewPool(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pick("k"); !errors.Is(err, ErrNoNode) {
		t.Errorf("Pick: got %v, want ErrNoNode", err)
	}
	if got := slices.Collect(p.Order("k")); got != nil {
		t.Errorf("Order: got %v, want none", got)
	}
	none := func(context.Context, *Node) error { t.Error("called for a node"); return nil }
	if err := p.Each(context.Background(), none); !errors.Is(err, ErrNoNode) {
		t.Errorf("Each: got %v, want ErrNoNode", err)
	}
}

func TestPickNextAfterANodeOfAnotherPool(t *testing.T) {
	old := newTestPool(t, nil, named("a", "b", "gone")...)
	p := newTestPool(t, nil, named("a", "b", "c")...)
	for _, n := range old.Nodes() {
		got, err := p.PickNext("k", n)
		if err != nil && n.Name() == "gone" {
			t.Errorf("PickNext after a node that is gone: %v", err)
		}
		if got != nil && got.Name() == n.Name() {
			t.Errorf("PickNext after %q is %q again", n.Name(), got.Name())
		}
	}
}

func TestEachCallsAvailableNodesAtTheSameTime(t *testing.T) {
	p := newTestPool(t, box{"c": true}, named("d", "b", "c", "a")...)
	met := make(chan string)
	err := p.Each(context.Background(), func(_ context.Context, n *Node) error {
		// Each waits for the next one, so none would end if they went one by one.
		switch n.Name() {
		case "a":
			met <- "a"
		case "b":
			if got := <-met; got != "a" {
				t.Errorf("met %q", got)
			}
			return errors.New("oops")
		default:
			return fmt.Errorf("wrapped: %w", redis.ErrClosed)
		}
		return nil
	})
	want := "node \"b\": oops\nnode \"d\": wrapped: redis: client is closed"
	if err == nil || err.Error() != want || !errors.Is(err, redis.ErrClosed) {
		t.Errorf("got error %q, want %q", err, want)
	}
}

func TestZRevRangeWithScores(t *testing.T) {
	ctx := context.Background()
	away := box{}
	p, servers := startPool(t, away, "a", "b", "c")
	for i, members := range [][]redis.Z{
		{{Score: 5, Member: "both"}, {Score: 1, Member: "low"}, {Score: 3, Member: "t1"}},
		{{Score: 9, Member: "both"}, {Score: 3, Member: "t3"}, {Score: -2, Member: "minus"}},
		{{Score: 3, Member: "t2"}, {Score: 2, Member: "low"}},
	} {
		if err := p.Nodes()[i].Client().ZAdd(ctx, "z", members...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	all := "both:9 t3:3 t2:3 t1:3 low:2 minus:-2"
	check := func(start, stop int64, want string) error {
		t.Helper()
		got, err := p.ZRevRangeWithScores(ctx, "z", start, stop)
		if diff := cmp.Diff(want, text(got)); diff != "" {
			t.Errorf("ZRevRangeWithScores(%d, %d), %v: -want +got\n%s", start, stop, err, diff)
		}
		return err
	}
	for _, tt := range []struct {
		start, stop int64
		want        string
	}{
		{0, -1, all}, {0, 5, all}, {0, 99, all}, {-99, 99, all},
		{0, 0, "both:9"}, {0, 1, "both:9 t3:3"}, {1, 3, "t3:3 t2:3 t1:3"}, {3, 4, "t1:3 low:2"},
		{-2, -1, "low:2 minus:-2"}, {4, -1, "low:2 minus:-2"}, {0, -6, "both:9"},
		{6, 9, ""}, {3, 2, ""}, {0, -7, ""},
	} {
		if err := check(tt.start, tt.stop, tt.want); err != nil {
			t.Error(err)
		}
	}

	servers[1].Kill()
	if err := check(0, -1, "both:5 t2:3 t1:3 low:2"); err == nil || !strings.Contains(err.Error(), `node "b"`) {
		t.Errorf("with b down: got error %v, want one that names b", err)
	}
	away["b"] = true
	if err := check(0, -1, "both:5 t2:3 t1:3 low:2"); err != nil {
		t.Errorf("with b not available: %v", err)
	}
	away["a"], away["c"] = true, true
	if err := check(0, -1, ""); !errors.Is(err, ErrNoNode) {
		t.Errorf("with none available: got %v, want ErrNoNode", err)
	}
}

// text returns members as member:score, in their order.
func text(members []redis.Z) string {
	var words []string
	for _, z := range members {
		words = append(words, fmt.Sprint(z.Member, ":", z.Score))
	}
	return strings.Join(words, " ")
}
