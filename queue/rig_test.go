package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// A rig is a queue on real servers, as a worker sees it.
type rig struct {
	t       testing.TB
	servers []*redistest.Server
	o       Options
	c       *Client
	timeout time.Duration // of the nodes; 0: 300 ms
}

// newRig starts n servers with a queue on them.
func newRig(t testing.TB, n int, o Options, args ...string) *rig {
	t.Helper()
	return newPatientRig(t, 0, n, o, args...)
}

// newPatientRig is newRig with nodes that may take longer than usual to answer.
func newPatientRig(t testing.TB, timeout time.Duration, n int, o Options, args ...string) *rig {
	t.Helper()
	r := &rig{t: t, o: o, timeout: timeout}
	for range n {
		r.servers = append(r.servers, redistest.Start(t, args...))
	}
	r.c = r.client()
	return r
}

// client returns another client of the queue, as another process would have it.
func (r *rig) client() *Client {
	r.t.Helper()
	o := r.o
	o.Name = "q"
	for i, s := range r.servers {
		a, err := shard.ParseAddress(fmt.Sprintf("%s?name=n%d", s.URL(), i))
		if err != nil {
			r.t.Fatal(err)
		}
		node, err := shard.NewNode(a, shard.Options{Timeout: cmp.Or(r.timeout, 300*time.Millisecond), ClientName: "test"}, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { node.Close() })
		o.Partitions = append(o.Partitions, OnNodes(node)...)
	}
	c, err := NewClient(o)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// enqueue puts messages in, which must work.
func (r *rig) enqueue(ms ...*Message) []Receipt {
	r.t.Helper()
	receipts := make([]Receipt, len(ms))
	for i, m := range ms {
		var err error
		if receipts[i], err = r.c.Enqueue(r.t.Context(), m); err != nil {
			r.t.Fatalf("enqueuing message %d: %v", i, err)
		}
	}
	return receipts
}

// enqueueN puts n plain messages in with the bodies prefix0, prefix1, ….
func (r *rig) enqueueN(n int, prefix string) {
	r.t.Helper()
	ms := make([]*Message, n)
	for i := range ms {
		ms[i] = &Message{Body: fmt.Appendf(nil, "%s%d", prefix, i)}
	}
	r.enqueue(ms...)
}

// run runs a worker of client c until the test ends, or drain is called.
func run(t testing.TB, c *Client, o WorkerOptions, deliver func(context.Context, *Delivery) Result) (w *Worker, drain func()) {
	t.Helper()
	if o.BackoffFirst == 0 {
		o.BackoffFirst, o.BackoffLongest = 20*time.Millisecond, 100*time.Millisecond
	}
	w, err := NewWorker(c, o, deliver)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	drain = sync.OnceFunc(func() {
		patience, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		begin := time.Now()
		w.Drain(patience)
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("draining took %v", took)
		}
		<-ended
	})
	t.Cleanup(drain)
	return w, drain
}

// keys returns the keys on all servers.
func (r *rig) keys() (out []string) {
	r.t.Helper()
	for _, s := range r.servers {
		keys, err := s.Client(r.t).Keys(context.Background(), "*").Result()
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, keys...)
	}
	slices.Sort(out)
	return out
}

// expectEmpty fails the test if anything is left on a server but what has a time
// to live.
func (r *rig) expectEmpty() {
	r.t.Helper()
	ctx := context.Background()
	for i, s := range r.servers {
		client := s.Client(r.t)
		for _, key := range client.Keys(ctx, "*").Val() {
			if ttl := client.PTTL(ctx, key).Val(); ttl < 0 {
				r.t.Errorf("server %d still has %s, a %s", i, key, client.Type(ctx, key).Val())
			}
		}
	}
}

// expectEmptyButStreams is expectEmpty while workers run.
func (r *rig) expectEmptyButStreams() {
	r.t.Helper()
	for _, key := range r.keys() {
		if !strings.HasSuffix(key, ":s") && !strings.HasSuffix(key, "}:l") {
			r.t.Errorf("a server still has %s", key)
		}
	}
}

// A diary notes what a worker's function was given.
type diary struct {
	mu    sync.Mutex     // guards all below
	times map[string]int // by body
	order []string       // bodies
	all   []*Delivery
}

func newDiary() *diary { return &diary{times: map[string]int{}} }

func (d *diary) note(m *Delivery) {
	body, _ := io.ReadAll(m.Open())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.times[string(body)]++
	d.order = append(d.order, string(body))
	d.all = append(d.all, m)
}

// done is a worker's function that notes and says done.
func (d *diary) done(_ context.Context, m *Delivery) Result {
	d.note(m)
	return Result{Outcome: Done}
}

// deliveries returns what it was given, and bodies the bodies of that.
func (d *diary) deliveries() []*Delivery {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.all)
}

func (d *diary) bodies() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.order)
}

func (d *diary) distinct() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.times)
}

func (d *diary) total() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.order)
}

// twice returns the bodies that came more than once.
func (d *diary) twice() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for body, n := range d.times {
		if n > 1 {
			out = append(out, fmt.Sprintf("%s: %d", body, n))
		}
	}
	return out
}

// eventually waits until ok, at most for a time.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// empty reports whether nothing is in the queue but dead letters.
func (r *rig) empty() bool {
	for _, n := range r.c.Counts(context.Background()) {
		if n.Err != nil || n.Ready+n.InFlight+n.Delayed > 0 {
			return false
		}
	}
	return true
}

// raw returns a client of the first server.
func (r *rig) raw() *redis.Client { return r.servers[0].Client(r.t) }

// A watcher is an Observer that counts.
type watcher struct {
	mu       sync.Mutex // guards all below
	states   map[string]int
	lost     int
	troubles []string

	abandoned []string // destination and messages
}

func (w *watcher) Ended(_ *Delivery, _ Result, _ time.Duration, state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states == nil {
		w.states = map[string]int{}
	}
	w.states[state]++
}

func (w *watcher) Lost(*Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost++
}

func (w *watcher) Abandoned(_, destination string, messages int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandoned = append(w.abandoned, fmt.Sprint(destination, " ", messages))
}

func (w *watcher) Trouble(node, doing string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubles = append(w.troubles, node+" "+doing+": "+err.Error())
}

func (w *watcher) count(state string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[state]
}

// losses returns how many were told as lost.
func (w *watcher) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// tellings returns what was told as abandoned.
func (w *watcher) tellings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.abandoned)
}

// others returns those troubles that have none of these words.
func (w *watcher) others(words ...string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.troubles {
		if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) }) {
			out = append(out, text)
		}
	}
	return out
}

var errTest = errors.New("for the test")

// of returns how often a body came.
func (d *diary) of(body string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.times[body]
}

func z(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }

// taken returns how many are taken.
func (s *slots) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
