package shard

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// box is an Availability that takes the nodes named in it for away, and keeps
// what it is told.
type box map[string]bool

func (b box) Available(n *Node) bool       { return !b[n.Name()] }
func (box) Report(*Node, Outcome, error)   {}
func testKey(i int) string                 { return "https://example.com/page/" + strconv.Itoa(i) }
func closeNodes(tb testing.TB, ns []*Node) { tb.Cleanup(func() { closeAll(tb, ns) }) }

func closeAll(tb testing.TB, nodes []*Node) {
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			tb.Errorf("closing node %q: %v", n.Name(), err)
		}
	}
}

// newTestPool returns a pool of nodes that nobody connects to, by name and
// weight, and listed in the order given.
func newTestPool(tb testing.TB, away box, named ...Address) *Pool {
	tb.Helper()
	var nodes []*Node
	for _, a := range named {
		a.Endpoint = "127.0.0.1:1"
		n, err := NewNode(a, Options{}, nil)
		if err != nil {
			tb.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	closeNodes(tb, nodes)
	p, err := NewPool(nodes, away)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func named(names ...string) []Address {
	var addrs []Address
	for _, name := range names {
		addrs = append(addrs, Address{Name: name})
	}
	return addrs
}

// picks returns the names of the nodes for the first n test keys.
func picks(tb testing.TB, p *Pool, n int) []string {
	tb.Helper()
	names := make([]string, n)
	for i := range names {
		node, err := p.Pick(testKey(i))
		if err != nil {
			tb.Fatalf("Pick(%q): %v", testKey(i), err)
		}
		names[i] = node.Name()
	}
	return names
}

func count(names []string) map[string]int {
	counts := make(map[string]int)
	for _, name := range names {
		counts[name]++
	}
	return counts
}

func TestPickSpreadsKeysEvenly(t *testing.T) {
	const keys = 100_000
	counts := count(picks(t, newTestPool(t, nil, named("a", "b", "c", "d", "e", "f", "g", "h")...), keys))
	most := slices.Max(slices.Collect(maps.Values(counts)))
	if ratio := float64(most) / (keys / 8); len(counts) != 8 || ratio > 1.05 {
		t.Errorf("got %d nodes with max/avg %.3f, want 8 with at most 1.05: %v", len(counts), ratio, counts)
	}
}

func TestPickHeedsWeights(t *testing.T) {
	const keys = 100_000
	p := newTestPool(t, nil, Address{Name: "a", Weight: 1}, Address{Name: "b", Weight: 2}, Address{Name: "c", Weight: 0.5})
	counts := count(picks(t, p, keys))
	for name, share := range map[string]float64{"a": 1 / 3.5, "b": 2 / 3.5, "c": 0.5 / 3.5} {
		if got := float64(counts[name]) / keys; got < share*0.97 || got > share*1.03 {
			t.Errorf("node %q got a share of %.4f, want %.4f within 3 %%", name, got, share)
		}
	}
}

func TestPickDependsOnNothingElse(t *testing.T) {
	weighted := []Address{{Name: "a", Weight: 1}, {Name: "b", Weight: 3}, {Name: "c", Weight: 2}}
	for _, addrs := range [][]Address{named("a", "b", "c", "d"), weighted} {
		want := picks(t, newTestPool(t, nil, addrs...), 1000)
		slices.Reverse(addrs)
		if got := picks(t, newTestPool(t, nil, addrs...), 1000); !slices.Equal(got, want) {
			t.Errorf("the choice differs when %v are listed the other way round", addrs)
		}
	}
}

// What other processes chose must not change with a version of this package.
func TestPickIsWhatItEverWas(t *testing.T) {
	p := newTestPool(t, nil, named("a", "b", "c")...)
	w := newTestPool(t, nil, Address{Name: "a", Weight: 1}, Address{Name: "b", Weight: 3}, Address{Name: "c", Weight: 2})
	const want, wantWeighted = "[c b c b c b b a]", "[c b c b c b b c]"
	if got := fmt.Sprint(picks(t, p, 8)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fmt.Sprint(picks(t, w, 8)); got != wantWeighted {
		t.Errorf("with weights: got %s, want %s", got, wantWeighted)
	}
}

func TestOnlyKeysOfTheNodeThatIsAwayMove(t *testing.T) {
	for _, addrs := range [][]Address{
		named("a", "b", "c", "d"),
		{{Name: "a", Weight: 1}, {Name: "b", Weight: 3}, {Name: "c", Weight: 2}, {Name: "d", Weight: 2}},
	} {
		away := box{}
		p := newTestPool(t, away, addrs...)
		before := picks(t, p, 10_000)
		away["b"] = true
		penalized := picks(t, p, 10_000)
		removed := picks(t, newTestPool(t, nil, slices.Delete(slices.Clone(addrs), 1, 2)...), 10_000)
		for i := range before {
			if before[i] != "b" && penalized[i] != before[i] {
				t.Fatalf("key %d moved from %q to %q when b was away", i, before[i], penalized[i])
			}
			if penalized[i] == "b" {
				t.Fatalf("key %d is on b, which is away", i)
			}
			if removed[i] != penalized[i] {
				t.Fatalf("key %d is on %q without b, but on %q when b is away", i, removed[i], penalized[i])
			}
		}
		if moved := count(penalized); moved["a"] == 0 || moved["c"] == 0 || moved["d"] == 0 {
			t.Errorf("b's keys went to %v only", moved)
		}
	}
}

func TestOrder(t *testing.T) {
	away := box{}
	p := newTestPool(t, away, named("a", "b", "c", "d", "e")...)
	for i := range 100 {
		clear(away)
		order := slices.Collect(p.Order(testKey(i)))
		if unique := count(picksOf(order)); len(order) != 5 || len(unique) != 5 {
			t.Fatalf("key %d: got order %v, want each of 5 nodes once", i, picksOf(order))
		}
		for j, want := range order {
			if got, err := p.Pick(testKey(i)); err != nil || got != want {
				t.Fatalf("key %d: Pick with the first %d away = %v, %v; want %q", i, j, got, err, want.Name())
			}
			next, err := p.PickNext(testKey(i), want)
			switch {
			case j == 4 && !errors.Is(err, ErrNoNode):
				t.Fatalf("key %d: PickNext after the last = %v, %v; want ErrNoNode", i, next, err)
			case j < 4 && next != order[j+1]:
				t.Fatalf("key %d: PickNext after %q = %v; want %q", i, want.Name(), err, order[j+1].Name())
			}
			away[want.Name()] = true
		}
		if _, err := p.Pick(testKey(i)); !errors.Is(err, ErrNoNode) {
			t.Fatalf("key %d: Pick with all away: got %v, want ErrNoNode", i, err)
		}
	}
}

func picksOf(nodes []*Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name())
	}
	return names
}

func TestEqualDrawsAreOrdered(t *testing.T) {
	// Two nodes that draw the same for every key, as no two names do.
	r := &ring{seeds: []uint64{7, 7, 9}}
	for s := range slot(100) {
		var order []int
		for i := r.next(s, nobody); i != nobody; i = r.next(s, i) {
			order = append(order, i)
		}
		if len(order) != 3 || slices.Index(order, 0) > slices.Index(order, 1) {
			t.Fatalf("slot %d: got order %v, want all three, 0 before 1", s, order)
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := newTestPool(t, box{"a": true}, named("a", "b", "c", "d")...)
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Pick("https://example.com/") }); n != 0 {
		t.Errorf("Pick allocates %v times, want 0", n)
	}
}

func BenchmarkPick(b *testing.B) {
	weighted := named("a", "b", "c", "d", "e", "f", "g", "h")
	weighted[3].Weight = 2
	for name, addrs := range map[string][]Address{
		"equal": named("a", "b", "c", "d", "e", "f", "g", "h"), "weighted": weighted,
	} {
		b.Run(name, func(b *testing.B) {
			p := newTestPool(b, nil, addrs...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Pick("https://example.com/some/page?of=it"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestShareOfSlots: however many keys there are, no node gets much more than its
// share, as none gets many more slots.
func TestShareOfSlots(t *testing.T) {
	for n, most := range map[int]float64{3: 1.02, 8: 1.03, 64: 1.12} {
		r := newRing(manyNames(n), make([]float64, n))
		got := make([]int, n)
		for s := range slots {
			got[r.first(slot(s))]++
		}
		if ratio := float64(slices.Max(got)) * float64(n) / slots; ratio > most {
			t.Errorf("%d nodes: one has %.3f of its share, want at most %.2f", n, ratio, most)
		}
	}
}

// TestFirstIsNextAfterNobody: what is remembered is what is drawn.
func TestFirstIsNextAfterNobody(t *testing.T) {
	weights := []float64{1, 2, 3, 1, 1, 5, 1}
	r := newRing(manyNames(len(weights)), weights)
	for range 2 {
		for s := range slots {
			if got, want := r.first(slot(s)), r.next(slot(s), nobody); got != want {
				t.Fatalf("slot %d: first is %d, want %d", s, got, want)
			}
		}
	}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("node-", i))
	}
	return names
}

// BenchmarkNodes is picking one of many nodes for many keys.
func BenchmarkNodes(b *testing.B) {
	keys := make([]string, 1<<14)
	for i := range keys {
		keys[i] = testKey(i)
	}
	for _, n := range []int{1, 3, 8, 16, 64} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			p := newTestPool(b, nil, named(manyNames(n)...)...)
			for i := 0; b.Loop(); i++ {
				if _, err := p.Pick(keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
