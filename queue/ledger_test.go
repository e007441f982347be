package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A ledger has what was put in and what came of it.
type ledger struct {
	mu       sync.Mutex
	accepted map[string][]byte // bodies, by id
	unknown  map[string][]byte // not accepted, and perhaps in
	done     map[string]int    // by record id
	said     map[string]int    // Dead was said, or attempts are used up
	errs     []string
}

func (l *ledger) errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, fmt.Sprintf(format, args...))
}

// deliver checks a delivery and says something at random.
func (l *ledger) deliver(ctx context.Context, m *Delivery, slow time.Duration) Result {
	body, err := io.ReadAll(m.Open())
	if err != nil {
		return Result{Reason: err.Error()} // its node has gone meanwhile
	}
	l.mu.Lock()
	want, ok := l.accepted[m.Header["name"]]
	if !ok {
		want, ok = l.unknown[m.Header["name"]]
	}
	l.mu.Unlock()
	// A fast delivery comes before its receipt.
	if ok && !bytes.Equal(body, want) {
		l.errorf("%s: got a body of %d bytes, want %d", m.ID, len(body), len(want))
	}
	name := recordID(m.Header["name"], m.Destination)
	note := func(in map[string]int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		in[name]++
	}
	switch x := rand.N(1000); {
	case x < 150:
		return Result{Outcome: Retry, Reason: "at random", Status: 500}
	case x < 180:
		return Result{Outcome: Release, After: time.Duration(rand.N(2)) * 20 * time.Millisecond}
	case x < 200:
		note(l.said)
		return Result{Outcome: Dead, Reason: "at random"}
	case x < 220:
		panic("at random")
	case x < 225:
		select {
		case <-ctx.Done():
			return Result{Reason: "interrupted"}
		case <-time.After(slow):
		}
	}
	if ctx.Err() != nil {
		return Result{}
	}
	note(l.done)
	return Result{Outcome: Done, Status: 200, Response: &Response{Body: []byte("ok")}}
}

// TestLedger puts messages of all kinds in while nodes stand still, die and come
// back with their data, connections and scripts vanish, and workers come and go.
// In the end each message that was accepted is done or dead, and nothing is left.
// Where nothing happens to nodes, nothing is done twice.
//
// QUEUE_SEED repeats a run; QUEUE_LEDGER is how many messages, for longer ones.
func TestLedger(t *testing.T) {
	t.Parallel()
	t.Run("nodes in trouble", func(t *testing.T) { testLedger(t, trouble, false) })
	t.Run("nodes at rest", func(t *testing.T) { testLedger(t, func(*rig, *rand.Rand, <-chan struct{}) {}, true) })
}

func testLedger(t *testing.T, trouble func(*rig, *rand.Rand, <-chan struct{}), calm bool) {
	n := 300
	if s, err := strconv.Atoi(os.Getenv("QUEUE_LEDGER")); err == nil {
		n = s
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("QUEUE_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("QUEUE_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	o := Options{
		Visibility: time.Second, PerKey: 1 + rng.IntN(2), InlineBody: 300, KeepResult: time.Minute,
		Classes: []Class{{"high", 5}, {"low", 2}}, Copies: 1 + rng.IntN(2),
	}
	if rng.IntN(2) == 0 {
		o.Destinations = []string{"one", "two"}
	}
	if rng.IntN(2) == 0 {
		o.Backlog = Backlog{Messages: 1 << 20, Bytes: 1 << 30}
	}
	t.Logf("copies %d, per key %d, destinations %q, backlog %+v", o.Copies, o.PerKey, o.Destinations, o.Backlog)
	r := newRig(t, 3, o, "--appendonly", "yes", "--appendfsync", "always")
	l := &ledger{accepted: map[string][]byte{}, unknown: map[string][]byte{}, done: map[string]int{}, said: map[string]int{}}
	clients := []*Client{r.c, r.client()}
	destinations := clients[0].o.Destinations

	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() { workers(t, clients, destinations, l, over) })
	producing := make(chan struct{})
	wg.Go(func() { trouble(r, rand.New(rand.NewPCG(seed, 1)), producing) })
	for i := range n {
		l.put(t, clients[i%2], fmt.Sprint("m", i), rng)
	}
	close(producing)
	eventually(t, 120*time.Second, "the queue is empty", func() bool { return r.empty() && r.noCopies() && r.empty() })
	close(over)
	wg.Wait()
	if twice := l.judge(t, r, destinations); calm && twice > 0 {
		t.Errorf("%d were done more than once, with nothing wrong", twice)
	}
}

// put puts a message in that has features at random.
func (l *ledger) put(t *testing.T, c *Client, name string, rng *rand.Rand) {
	body := make([]byte, rng.IntN(200))
	if rng.IntN(10) == 0 {
		body = make([]byte, rng.IntN(600_000))
	}
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	m := &Message{Header: map[string]string{"name": name}, Body: body}
	if rng.IntN(3) == 0 {
		m.OrderKey = fmt.Sprint(rng.IntN(20))
	}
	if rng.IntN(5) == 0 {
		m.Delay = time.Duration(rng.IntN(800)) * time.Millisecond
	}
	if rng.IntN(5) == 0 {
		m.Expire = time.Hour
	}
	if rng.IntN(4) == 0 {
		m.Track = true
	}
	if rng.IntN(6) == 0 {
		m.ID = name
	}
	if rng.IntN(6) == 0 {
		m.DedupKey, m.DedupWindow = name, time.Minute
	}
	m.Class = []string{"", "high", "low"}[rng.IntN(3)]
	_, err := c.Enqueue(t.Context(), m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.accepted[name] = body
	} else {
		l.unknown[name] = body
	}
}

// workers runs two workers a destination, of which one is replaced now and then.
func workers(t *testing.T, clients []*Client, destinations []string, l *ledger, over <-chan struct{}) {
	start := func(c *Client, destination string) (stop func()) {
		w, err := NewWorker(c, WorkerOptions{
			Destination: destination, Attempts: 6, Concurrency: 12, BackoffFirst: 10 * time.Millisecond, BackoffLongest: 100 * time.Millisecond,
			Observe: &watcher{},
		}, func(ctx context.Context, m *Delivery) Result { return l.deliver(ctx, m, 1500*time.Millisecond) })
		if err != nil {
			t.Error(err)
			return func() {}
		}
		ended := make(chan struct{})
		go func() { w.Run(context.Background()); close(ended) }()
		return func() {
			patience, cancel := context.WithTimeout(context.Background(), rand.N(2*time.Second))
			defer cancel()
			w.Drain(patience)
			<-ended
		}
	}
	var stops []func()
	for _, c := range clients {
		for _, d := range destinations {
			stops = append(stops, start(c, d))
		}
	}
	for {
		select {
		case <-over:
			for _, stop := range stops {
				stop()
			}
			return
		case <-time.After(700 * time.Millisecond):
			i := rand.N(len(stops))
			next := start(clients[i/len(destinations)], destinations[i%len(destinations)])
			stops[i]()
			stops[i] = next
		}
	}
}

// trouble does something to a server again and again.
func trouble(r *rig, rng *rand.Rand, over <-chan struct{}) {
	ctx := context.Background()
	for {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(50+rng.IntN(300)) * time.Millisecond):
		}
		s := r.servers[rng.IntN(len(r.servers))]
		switch rng.IntN(6) {
		case 0:
			s.Pause()
			time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
			s.Resume()
		case 1:
			s.Kill()
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			s.RestartWithData()
		case 2:
			s.Client(r.t).ScriptFlush(ctx)
		case 3:
			s.Client(r.t).Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		case 4:
			s.Client(r.t).ConfigSet(ctx, "maxmemory", "1")
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			s.Client(r.t).ConfigSet(ctx, "maxmemory", "0")
		case 5:
			r.c.SetPaused(ctx, true)
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			for r.c.SetPaused(ctx, false) != nil {
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
}

// judge compares the ledger with what is on the nodes.
func (l *ledger) judge(t *testing.T, r *rig, destinations []string) (twice int) {
	t.Helper()
	dead := map[string]bool{}
	for cursor := ""; ; {
		infos, next, err := r.c.Dead(t.Context(), 500, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			name := recordID(i.Header["name"], i.Destination)
			dead[name] = true
			if i.Attempts < 6 && l.said[name] == 0 {
				t.Errorf("%s is dead after %d attempts: %s", name, i.Attempts, i.Reason)
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	neither, total := 0, 0
	for name := range l.accepted {
		for _, d := range destinations {
			total++
			rid := recordID(name, d)
			if l.done[rid] == 0 && !dead[rid] {
				neither++
				t.Errorf("%s was accepted, and is neither done nor dead", rid)
			}
			if l.done[rid] > 1 {
				twice++
			}
		}
	}
	for rid := range l.done {
		name := rid
		if len(destinations) > 1 {
			name, _ = splitRecordID(rid)
		}
		if l.accepted[name] == nil && l.unknown[name] == nil {
			t.Errorf("%s was delivered, and nobody put it in", rid)
		}
	}
	for _, err := range l.errs {
		t.Error(err)
	}
	t.Logf("%d deliveries of messages that were accepted: %d neither done nor dead, %d dead, %d done more than once; %d unknown",
		total, neither, len(dead), twice, len(l.unknown))
	if _, err := r.c.Drop(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	r.expectEmptyButGroups()
	return twice
}

// noCopies reports whether there are no second copies but those of dead letters.
func (r *rig) noCopies() bool {
	for i, s := range r.servers {
		p, client := r.c.partitions[i], s.Client(r.t)
		limit := strconv.FormatInt(time.Now().Add(copyOfDead/2).UnixMilli(), 10)
		if n, err := client.ZCount(context.Background(), p.keys.seconds(), "-inf", limit).Result(); n > 0 || err != nil {
			return false
		}
	}
	return true
}

// expectEmptyButGroups is expectEmpty, where workers could not always take
// themselves off.
func (r *rig) expectEmptyButGroups() {
	t := r.t
	t.Helper()
	ctx := context.Background()
	for i, s := range r.servers {
		client := s.Client(t)
		for _, key := range client.Keys(ctx, "*").Val() {
			kind := client.Type(ctx, key).Val()
			if kind == "none" || client.PTTL(ctx, key).Val() >= 0 || kind == "stream" && client.XLen(ctx, key).Val() == 0 {
				continue
			}
			if tag, is := strings.CutSuffix(key, ":l"); is && kind == "hash" { // the names of those streams
				for _, name := range client.HKeys(ctx, key).Val() {
					if client.Exists(ctx, keys(tag).stream(name)).Val() == 0 {
						t.Errorf("server %d still has the name of lane %q, and no stream", i, name)
					}
				}
				continue
			}
			t.Errorf("server %d still has %s, a %s", i, key, kind)
		}
	}
}
