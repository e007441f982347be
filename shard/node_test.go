package shard

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// slack is what a promise about time may cost beside.
const slack = 150 * time.Millisecond

// durations are how long calls took, by what was called.
type durations map[string][]time.Duration

// wantWithin fails the test where most of the calls of a kind took longer than most
// and slack: a busy machine takes time from some, and whoever waits twice as long for
// a server does so each time. None may take seconds.
func (d durations) wantWithin(t *testing.T, most time.Duration) {
	t.Helper()
	for name, all := range d {
		slices.Sort(all)
		if all[len(all)/2] > most+slack || all[len(all)-1] > 20*time.Second {
			t.Errorf("%s took %v, want at most %v", name, all, most)
		}
	}
}

// A recorder keeps the outcomes that it is told.
type recorder struct {
	mu       sync.Mutex // guards outcomes
	outcomes []Outcome
}

func (r *recorder) Available(*Node) bool { return true }

func (r *recorder) Report(_ *Node, o Outcome, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, o)
}

// take returns what was told since the last take.
func (r *recorder) take() []Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.outcomes
	r.outcomes = nil
	return o
}

// open returns the node at a URL and the recorder of its outcomes.
func open(tb testing.TB, url string, o Options) (*Node, *recorder) {
	tb.Helper()
	a, err := ParseAddress(url)
	if err != nil {
		tb.Fatal(err)
	}
	told := &recorder{}
	n, err := NewNode(a, o, told)
	if err != nil {
		tb.Fatal(err)
	}
	closeNodes(tb, []*Node{n})
	return n, told
}

func TestNodeRead(t *testing.T) {
	ctx := context.Background()
	n, told := open(t, redistest.Start(t).URL(), Options{Timeout: time.Second})
	large := bytes.Repeat([]byte("x"), 1<<20)
	for key, value := range map[string]any{"a": "one", "empty": "", "large": large} {
		if err := n.Bulk().Set(ctx, key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Client().LPush(ctx, "list", 1).Err(); err != nil {
		t.Fatal(err)
	}
	told.take()
	// Read reads one key and one beside it; ReadBulk as many as there are.
	byRead := func(ctx context.Context, keys ...string) ([][]byte, error) {
		out := make([][]byte, len(keys))
		for i, key := range keys {
			value, other, err := n.Read(ctx, key, keys[0])
			if err != nil {
				return nil, err
			}
			if string(other) != "one" {
				t.Errorf("Read(%q, %q): got %.20q beside it, want one", key, keys[0], other)
			}
			out[i] = value
		}
		return out, nil
	}
	for name, read := range map[string]func(context.Context, ...string) ([][]byte, error){
		"Read": byRead, "ReadBulk": n.ReadBulk,
	} {
		got, err := read(ctx, "a", "none", "empty", "list", "large")
		want := [][]byte{[]byte("one"), nil, {}, nil, large}
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: got %.20q, %v; want %.20q", name, got, err, want)
		}
		if err == nil && (got[1] != nil || got[2] == nil || got[3] != nil) {
			t.Errorf("%s: nil must mean that there is no string, got %.20q", name, got)
		}
		if o := slices.Compact(told.take()); !slices.Equal(o, []Outcome{OK}) {
			t.Errorf("%s: reported %v, want ok", name, o)
		}
	}
	if got, other, err := n.Read(ctx, "a", ""); string(got) != "one" || other != nil || err != nil {
		t.Errorf("Read of one key alone: got %q, %q, %v; want one", got, other, err)
	}
	if got, err := n.ReadBulk(ctx); got != nil || err != nil {
		t.Errorf("ReadBulk of no keys: got %v, %v; want nothing", got, err)
	}
}

func TestReadersDoNotMixUpTheirValues(t *testing.T) {
	ctx := context.Background()
	n, _ := open(t, redistest.Start(t).URL(), Options{Timeout: 5 * time.Second})
	for i := range 50 {
		if err := n.Client().Set(ctx, fmt.Sprint(i), fmt.Sprint("value ", i), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 50 {
				// Most have the key beside theirs in common, some have another or none.
				beside, other := fmt.Sprint(i%10/8), fmt.Sprint("value ", i%10/8)
				if i == 49 {
					beside, other = "", ""
				}
				got, gotOther, err := n.Read(ctx, fmt.Sprint(i), beside)
				if want := fmt.Sprint("value ", i); err != nil || string(got) != want || string(gotOther) != other {
					t.Errorf("Read(%d, %q) = %q, %q, %v; want %q, %q", i, beside, got, gotOther, err, want, other)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A whole cluster is one node, and has the same bounds.
func TestCluster(t *testing.T) {
	const timeout = 200 * time.Millisecond
	ctx := context.Background()
	server := redistest.Start(t, "--cluster-enabled", "yes")
	a, err := ParseAddress(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	told := &recorder{}
	n, err := NewCluster([]Address{a}, Options{Timeout: timeout}, told)
	if err != nil {
		t.Fatal(err)
	}
	closeNodes(t, []*Node{n})
	if _, _, err := n.Read(ctx, "k", ""); err == nil || !slices.Equal(told.take(), []Outcome{Refused}) {
		t.Errorf("Read from a cluster without slots: got %v, want it to be refused", err)
	}
	probe := server.Client(t)
	if err := probe.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for {
		if info, err := probe.ClusterInfo(ctx).Result(); err != nil {
			t.Fatal(err)
		} else if strings.Contains(info, "cluster_state:ok") {
			break
		}
	}
	if err := n.Bulk().Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	got, other, err := n.Read(ctx, "{k}2", "k")
	if err != nil || got != nil || string(other) != "v" {
		t.Fatalf("Read from a cluster: got %q, %q, %v", got, other, err)
	}
	told.take()
	server.Pause()
	took := durations{}
	for range 5 {
		begin := time.Now()
		_, _, err = n.Read(ctx, "k", "")
		took["Read from a paused cluster"] = append(took["Read from a paused cluster"], time.Since(begin))
		if o := told.take(); err == nil || !slices.Equal(o, []Outcome{Slow}) {
			t.Errorf("Read from a paused cluster: got %v, reported %v, want an error that says slow", err, o)
		}
	}
	took.wantWithin(t, timeout)
	server.Resume()
	for range 50 {
		if _, _, err = n.Read(ctx, "k", ""); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("Read after the cluster went on: %v", err)
	}
}

func TestSubscribe(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, _ := open(t, server.URL(), Options{Timeout: time.Second})
	s := n.Subscribe(ctx, "news")
	defer func() { _ = s.Close() }()
	receive := func(want string) {
		t.Helper()
		got, err := s.ReceiveTimeout(ctx, 5*time.Second)
		if err != nil || !strings.HasPrefix(fmt.Sprint(got), want) {
			t.Fatalf("got %v, %v; want %s", got, err, want)
		}
	}
	receive("subscribe")
	if err := n.Client().Publish(ctx, "news", "hello").Err(); err != nil {
		t.Fatal(err)
	}
	receive("Message<news: hello>")
	if err := s.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	receive("Pong")
	// The subscription is there again after the server was away.
	server.Restart()
	for {
		if got, err := s.ReceiveTimeout(ctx, 5*time.Second); err == nil {
			if !strings.HasPrefix(fmt.Sprint(got), "subscribe") {
				t.Fatalf("got %v, want a new subscription", got)
			}
			return
		}
	}
}

func TestNodeOptions(t *testing.T) {
	a := Address{Endpoint: "h:1"}
	if n, err := NewNode(a, Options{}, nil); err != nil || n.Name() != "h:1" || n.Weight() != 1 || n.timeout != defaultTimeout {
		t.Errorf("NewNode of a bare address: got %+v, %v", n, err)
	}
	named := Address{Endpoint: "h:1", Name: "x"}
	for want, open := range map[string]func() (*Node, error){
		"cluster":  func() (*Node, error) { return NewCluster([]Address{a, named}, Options{}, nil) },
		"mymaster": func() (*Node, error) { return NewSentinel("mymaster", []Address{a}, Options{}, nil) },
		"x":        func() (*Node, error) { return NewSentinel("mymaster", []Address{named, a}, Options{}, nil) },
	} {
		n, err := open()
		if err != nil || n.Name() != want {
			t.Errorf("got %v, %v; want a node of the name %q", n, err, want)
			continue
		}
		closeAll(t, []*Node{n})
	}
	for name, open := range map[string]func() (*Node, error){
		"negative timeout":   func() (*Node, error) { return NewNode(a, Options{Timeout: -1}, nil) },
		"negative weight":    func() (*Node, error) { return NewNode(Address{Endpoint: "h:1", Weight: -1}, Options{}, nil) },
		"no seeds":           func() (*Node, error) { return NewCluster(nil, Options{}, nil) },
		"database":           func() (*Node, error) { return NewCluster([]Address{{Endpoint: "h:1", DB: 1}}, Options{}, nil) },
		"socket":             func() (*Node, error) { return NewCluster([]Address{{Network: "unix", Endpoint: "/s"}}, Options{}, nil) },
		"nameless master":    func() (*Node, error) { return NewSentinel("", []Address{a}, Options{}, nil) },
		"no sentinels":       func() (*Node, error) { return NewSentinel("m", nil, Options{}, nil) },
		"two of one name":    func() (*Node, error) { return nil, twice(t, a) },
		"two, one of a name": func() (*Node, error) { return nil, twice(t, named) },
	} {
		if n, err := open(); err == nil {
			t.Errorf("%s: got node %v, want an error", name, n.Name())
		}
	}
}

// twice returns the error of a pool that has a node twice.
func twice(t *testing.T, a Address) error {
	t.Helper()
	var nodes []*Node
	for range 2 {
		n, err := NewNode(a, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	closeNodes(t, nodes)
	_, err := NewPool(nodes, nil)
	return err
}

func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	n, _ := open(b, redistest.Start(b).URL(), Options{Timeout: 10 * time.Second})
	if err := n.Bulk().Set(ctx, "k", make([]byte, 4096), 0).Err(); err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func(ctx context.Context, key, beside string) error{
		"batched": func(ctx context.Context, key, beside string) error { _, _, err := n.Read(ctx, key, beside); return err },
		"alone": func(ctx context.Context, key, beside string) error {
			_, err := n.ReadBulk(ctx, key, beside)
			return err
		},
	} {
		b.Run(name+"/1", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(ctx, "k", "head"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := read(ctx, "k", "head"); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
