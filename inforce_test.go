package fluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestInForce: what is in force is the configuration that was started last and
// not stopped. Where the newer one is stopped first its reload has failed: then
// the older one is in force again, and if the newer one was asked anything, what
// lies on the nodes is validated, as that may have stored what is newer elsewhere.
func TestInForce(t *testing.T) {
	server := redistest.Start(t)
	open := func(near uint64) *pool {
		t.Helper()
		c := PoolConfig{Nodes: []string{server.URL()}, Near: Size{Bytes: near, Set: true}}
		p, err := newPool(t.Name(), c, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := func(p *pool, near uint64) {
		t.Helper()
		if p.inForce != p || p.herald() != p.voice {
			t.Error("another configuration is in force")
		}
		if _, _, maximum := p.near.Load().Stats(); maximum != near {
			t.Errorf("the near cache has %d bytes, want %d", maximum, near)
		}
	}
	old := open(1 << 20)
	defer old.close()
	old.start()
	want(old, 1<<20)
	n := old.nodes[0]

	for _, asked := range []bool{false, true} {
		failing := open(1 << 10)
		failing.start()
		want(failing, 1<<20) // what the older one needs is not given up
		if asked {
			failing.waitReady(t.Context())
		}
		doubts := n.seat.doubts.Load()
		failing.stop()
		failing.close()
		want(old, 1<<20)
		if got := n.seat.doubts.Load() > doubts; got != asked {
			t.Errorf("asked %t: what lies on the node is doubted: got %t", asked, got)
		}
	}
	for start := time.Now(); n.seat.isDoubtful(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the node's journal does not tell of the doubt")
		}
	}

	next := open(1 << 15)
	defer next.close()
	next.start()
	old.stop()
	want(next, 1<<15)
	next.stop()
}

// TestLighter: C4. A node that gets keys of another one, as that has less weight
// than before, may have had them before: what lies there is validated. So it is when
// more nodes were taken out than are remembered.
func TestLighter(t *testing.T) {
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	var last *pool
	reload := func(urls ...string) (doubted bool) {
		t.Helper()
		p, err := newPool(t.Name(), PoolConfig{Nodes: urls}, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
		if err != nil {
			t.Fatal(err)
		}
		doubts := p.nodes[0].seat.doubts.Load()
		p.start()
		if last != nil {
			last.stop()
			last.close()
		}
		last = p
		return p.nodes[0].seat.doubts.Load() > doubts
	}
	a, b := servers[0].URL()+"?name=a", servers[1].URL()+"?name=b&weight="
	reload(a, b+"2")
	for _, step := range []struct {
		urls []string
		want bool
	}{
		{[]string{a, b + "3"}, false}, // the keys that move go to b
		{[]string{a, b + "3"}, false},
		{[]string{a, b + "1"}, true},
		{[]string{a}, false}, // the mark in its journal says it
	} {
		if got := reload(step.urls...); got != step.want {
			t.Errorf("with %q: what lies on a is doubted: got %t, want %t", step.urls, got, step.want)
		}
	}
	for i := range maxGone + 1 {
		if got, want := reload(a, fmt.Sprint(servers[1].URL(), "?name=", i)), i == maxGone; got != want {
			t.Errorf("when %d nodes were taken out: what lies on a is doubted: got %t, want %t", i+1, got, want)
		}
	}
	last.stop()
	last.close()
}
