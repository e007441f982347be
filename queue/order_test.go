package queue

import (
	"context"
	stdflag "flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// An orderer checks that of each key no more than perKey are in flight, and with
// one, that they come in their order and none before the one before is done.
type orderer struct {
	mu       sync.Mutex
	inFlight map[string]int
	most     map[string]int
	next     map[string]int
	errs     []string
}

func newOrderer() *orderer {
	return &orderer{inFlight: map[string]int{}, most: map[string]int{}, next: map[string]int{}}
}

func (o *orderer) begin(key string, n int, strict bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inFlight[key]++
	o.most[key] = max(o.most[key], o.inFlight[key])
	if strict && n != o.next[key] {
		o.errs = append(o.errs, fmt.Sprintf("%s: got %d, want %d", key, n, o.next[key]))
	}
}

func (o *orderer) end(key string, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inFlight[key]--
	if done {
		o.next[key]++
	}
}

// longFlag has tests do what takes long; make chaos does.
var longFlag = stdflag.Bool("long", false, "tests in their long forms")

func TestOrderPerKey(t *testing.T) {
	const keys = 100
	each := 20
	if *longFlag {
		each = 200
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 2, Options{})
	var ms []*Message
	for n := range each {
		for _, k := range rng.Perm(keys) {
			ms = append(ms, &Message{OrderKey: fmt.Sprint("key", k), Body: fmt.Appendf(nil, "%d %d", k, n)})
		}
	}
	o := newOrderer()
	deliver := func(_ context.Context, m *Delivery) Result {
		var k, n int
		fmt.Sscan(string(m.Body), &k, &n)
		key := fmt.Sprint("key", k)
		o.begin(key, n, true)
		time.Sleep(rand.N(2 * time.Millisecond))
		result := Result{Outcome: Done}
		switch x := rand.N(100); {
		case x < 20:
			result = Result{Outcome: Retry}
		case x < 25:
			result = Result{Outcome: Release}
		case x < 27:
			result = Result{Outcome: Dead}
		case x < 28:
			o.end(key, false)
			panic("at random")
		}
		o.end(key, result.Outcome == Done || result.Outcome == Dead)
		return result
	}
	options := WorkerOptions{Attempts: 1000, Concurrency: 32, BackoffFirst: time.Millisecond, BackoffLongest: 10 * time.Millisecond}
	_, drain := run(t, r.c, options, deliver)
	_, drainOther := run(t, r.client(), options, deliver)
	r.enqueue(ms[:len(ms)/2]...)
	r.enqueue(ms[len(ms)/2:]...)
	eventually(t, 60*time.Second, "all is done", r.empty)
	drain()
	drainOther()
	if len(o.errs) > 0 {
		t.Errorf("%d out of order, first %q", len(o.errs), o.errs[0])
	}
	for k := range keys {
		key := fmt.Sprint("key", k)
		if o.most[key] != 1 || o.next[key] != each {
			t.Errorf("%s: got %d at once and %d in all, want 1 and %d", key, o.most[key], o.next[key], each)
		}
	}
	if _, err := r.c.Drop(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	r.expectEmpty()
}

func TestPerKeyTwo(t *testing.T) {
	r := newRig(t, 1, Options{PerKey: 2})
	var ms []*Message
	for n := range 60 {
		ms = append(ms, &Message{OrderKey: fmt.Sprint(n % 3), Body: fmt.Appendf(nil, "%d", n)})
	}
	r.enqueue(ms...)
	o := newOrderer()
	_, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		var n int
		fmt.Sscan(string(m.Body), &n)
		o.begin(fmt.Sprint(n%3), n, false)
		time.Sleep(5 * time.Millisecond)
		o.end(fmt.Sprint(n%3), true)
		return Result{Outcome: Done}
	})
	eventually(t, 20*time.Second, "all is done", r.empty)
	drain()
	for k := range 3 {
		if key := fmt.Sprint(k); o.most[key] != 2 || o.next[key] != 20 {
			t.Errorf("key %s: got %d at once and %d in all, want 2 and 20", key, o.most[key], o.next[key])
		}
	}
}

// A slow key holds up no other.
func TestOrderIsParallelAcrossKeys(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(
		&Message{OrderKey: "slow", Body: []byte("slow 1")}, &Message{OrderKey: "slow", Body: []byte("slow 2")},
		&Message{OrderKey: "fast", Body: []byte("fast 1")}, &Message{OrderKey: "fast", Body: []byte("fast 2")})
	goOn := make(chan struct{})
	d := newDiary()
	run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		d.note(m)
		if string(m.Body) == "slow 1" {
			<-goOn
		}
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "the fast ones", func() bool { return d.of("fast 2") == 1 })
	if d.of("slow 2") > 0 {
		t.Error("slow 2 was delivered before slow 1 was done")
	}
	close(goOn)
	eventually(t, 30*time.Second, "the slow ones", r.empty)
	r.expectEmptyButStreams()
}

// What else tells messages apart does not move them away from their order.
func TestOrderOfWhatHasOtherKeys(t *testing.T) {
	t.Parallel()
	const n = 60
	r := newRig(t, 3, Options{})
	o := newOrderer()
	var ms []*Message
	for i := range n {
		m := &Message{OrderKey: "key", DedupKey: fmt.Sprint("once", i), DedupWindow: time.Minute, Body: fmt.Appendf(nil, "%d", i)}
		if i%3 == 0 {
			m.ID = fmt.Sprint("id", i)
		}
		ms = append(ms, m)
	}
	r.enqueue(ms...)
	for _, m := range ms[:10] {
		if again := r.enqueue(m)[0]; !again.Replayed {
			t.Errorf("%s came again, and was put in again", m.DedupKey)
		}
	}
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 32}, func(_ context.Context, m *Delivery) Result {
		var i int
		fmt.Sscan(string(m.Body), &i)
		o.begin("key", i, true)
		time.Sleep(rand.N(2 * time.Millisecond))
		o.end("key", true)
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "all is done", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.next["key"] == n })
	drain()
	if len(o.errs) > 0 || o.most["key"] != 1 {
		t.Errorf("%d out of order, %d at once; first %q", len(o.errs), o.most["key"], o.errs)
	}
}
