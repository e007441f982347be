package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestClassesByWeight(t *testing.T) {
	r := newRig(t, 1, Options{Classes: []Class{{"high", 6}, {"low", 3}}})
	const each = 300
	for i := range each {
		for _, class := range []string{"", "high", "low"} {
			r.enqueue(&Message{Class: class, Body: fmt.Append(nil, class, i)})
		}
	}
	var n, high, low atomic.Int32
	enough, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	run(t, r.c, WorkerOptions{Concurrency: 4}, func(_ context.Context, m *Delivery) Result {
		switch n := n.Add(1); {
		case n == 201:
			close(enough)
			fallthrough
		case n > 200:
			<-over
			return Result{Outcome: Done}
		}
		switch m.Class {
		case "high":
			high.Add(1)
		case "low":
			low.Add(1)
		}
		return Result{Outcome: Done}
	})
	select {
	case <-enough:
	case <-time.After(20 * time.Second):
		t.Fatal("not delivered")
	}
	// Of 200: 120, 60, 20.
	if h, l := high.Load(), low.Load(); h < 110 || h > 130 || l < 52 || l > 68 {
		t.Errorf("got %d high and %d low of 200, want about 120 and 60", h, l)
	}
}

func TestShareOut(t *testing.T) {
	in := newInlets(Options{Classes: []Class{{"a", 5}, {"b", 3}}}, "", keys("k"))
	got := map[string]int{}
	for i := 1; i <= 900; i++ {
		for in, n := range shareOut(1+i%3, in, func(*inlet) bool { return true }) {
			got[in.class] += n
		}
	}
	if total := got["a"] + got["b"] + got[""]; total != 1800 || got["a"] != 1000 || got["b"] != 600 {
		t.Errorf("got %v of %d, want 1000 and 600", got, total)
	}
	if got := shareOut(5, in, func(*inlet) bool { return false }); len(got) > 0 {
		t.Errorf("got %v of no lanes", got)
	}
}

// A class that is always full starves no other, nor is one looked for in vain
// for long.
func TestUrgentOvertakes(t *testing.T) {
	r := newRig(t, 1, Options{Classes: []Class{{"urgent", 10}}})
	r.enqueueN(400, "m")
	at := make(chan int32, 1)
	var n atomic.Int32
	run(t, r.c, WorkerOptions{Concurrency: 2}, func(_ context.Context, m *Delivery) Result {
		k := n.Add(1)
		if m.Class == "urgent" {
			at <- k
		}
		time.Sleep(3 * time.Millisecond)
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "some are delivered", func() bool { return n.Load() > 20 })
	before := n.Load()
	r.enqueue(&Message{Class: "urgent", Body: []byte("now")})
	if k := <-at; k > before+100 {
		t.Errorf("the urgent one came %d later", k-before)
	}
}

func TestBreakerStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.set(3, time.Minute)
		try := func(o Outcome, says bool) bool {
			ok, trial := b.begin()
			if ok {
				b.end(o, says, trial)
			}
			return ok
		}
		for i, step := range []struct {
			wait     time.Duration
			outcome  Outcome
			says, ok bool
			resting  bool
		}{
			{0, Retry, true, true, false},
			{0, Retry, true, true, false},
			{0, Done, true, true, false}, // ends the row
			{0, Retry, true, true, false},
			{0, Retry, true, true, false},
			{0, Release, false, true, false}, // says nothing
			{0, Retry, true, true, true},
			{0, Done, true, false, true},
			{59 * time.Second, Done, true, false, true},
			{time.Second, Retry, true, true, true}, // the trial fails
			{59 * time.Second, Done, true, false, true},
			{time.Second, Release, false, true, false}, // the trial says nothing
			{0, Dead, true, true, false},               // the destination answers
			{0, Retry, true, true, false},
		} {
			time.Sleep(step.wait)
			if ok := try(step.outcome, step.says); ok != step.ok {
				t.Errorf("step %d: got let through %v, want %v", i, ok, step.ok)
			}
			if _, resting := b.resting(); resting != step.resting {
				t.Errorf("step %d: got resting %v, want %v", i, resting, step.resting)
			}
		}
		for range 3 {
			try(Retry, true)
		}
		time.Sleep(time.Minute)
		if ok, trial := b.begin(); !ok || !trial {
			t.Error("no trial after the rest")
		}
		if ok, _ := b.begin(); ok {
			t.Error("two trials at once")
		}
		if n, _ := b.room(10); n != 0 {
			t.Errorf("room for %d beside the trial", n)
		}
	})
}

func TestBreakerCostsNoAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueueN(20, "m")
	d := newDiary()
	var down atomic.Bool
	down.Store(true)
	w, drain := run(t, r.c, WorkerOptions{Attempts: 4, Concurrency: 1, BreakerFailures: 3, BreakerRest: time.Second},
		func(_ context.Context, m *Delivery) Result {
			d.note(m)
			if down.Load() {
				return Result{Outcome: Retry}
			}
			return Result{Outcome: Done}
		})
	eventually(t, 30*time.Second, "it rests", func() bool { _, is := w.Resting(); return is })
	time.Sleep(300 * time.Millisecond)
	if got := d.total(); got != 3 {
		t.Errorf("got %d deliveries before the rest, want 3", got)
	}
	down.Store(false)
	eventually(t, 20*time.Second, "all is done", r.empty)
	drain()
	if dead, _, _ := r.c.Dead(t.Context(), 10, ""); len(dead) > 0 {
		t.Errorf("got dead letters %v", dead)
	}
	if got := d.total(); got != 23 {
		t.Errorf("got %d deliveries in all, want 23", got)
	}
	r.expectEmpty()
}

// Workers of one client share what they may do at once; the last to run decides,
// and when it is gone, the one before.
func TestLimitsOfSeveralWorkers(t *testing.T) {
	r := newRig(t, 1, Options{})
	g := r.c.out.gate("")
	limit := func() int {
		g.slots.mu.Lock()
		defer g.slots.mu.Unlock()
		return g.slots.limit
	}
	d := newDiary()
	if _, err := NewWorker(r.c, WorkerOptions{Concurrency: 99}, d.done); err != nil || limit() != 0 {
		t.Errorf("a worker that does not run: got limit %d, %v", limit(), err)
	}
	_, drainOne := run(t, r.c, WorkerOptions{Concurrency: 3}, d.done)
	eventually(t, 30*time.Second, "the first's limit", func() bool { return limit() == 3 })
	_, drainTwo := run(t, r.c, WorkerOptions{Concurrency: 7}, d.done)
	eventually(t, 30*time.Second, "the second's limit", func() bool { return limit() == 7 })
	drainTwo()
	if got := limit(); got != 3 {
		t.Errorf("got limit %d after the second, want the first's", got)
	}
	_, drainThree := run(t, r.c, WorkerOptions{Concurrency: 5}, d.done)
	eventually(t, 30*time.Second, "the third's limit", func() bool { return limit() == 5 })
	drainOne()
	if got := limit(); got != 5 {
		t.Errorf("got limit %d after the first, want the third's", got)
	}
	drainThree()
}

func TestSlotsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slots
		s.setLimit(2)
		if got := s.tryAcquire(5); got != 2 {
			t.Fatalf("got %d of 2", got)
		}
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				if s.acquire(t.Context()) == nil {
					order <- i
				}
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- s.acquire(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Error("a slot for one who has gone")
		}
		s.release(1)
		if got := s.tryAcquire(1); got != 0 {
			t.Error("taken before those who wait")
		}
		for limit := 2; limit <= 4; limit++ {
			synctest.Wait()
			s.setLimit(limit)
		}
		synctest.Wait()
		for i := range 3 {
			if got := <-order; got != i {
				t.Errorf("got the %dth, want the %dth", got, i)
			}
		}
		if s.release(4); s.taken() != 0 {
			t.Errorf("got %d taken, want 0", s.taken())
		}
	})
}

// A worker whose breaker is open stops at once, not when the rest is over: neither
// where it waits for leave to read, nor where it has a message in hand.
func TestDrainWhileTheBreakerIsOpen(t *testing.T) {
	t.Parallel()
	for name, doing := range map[string]func(context.Context, *source) error{
		"reading": func(ctx context.Context, s *source) error {
			_, err := s.leaves(ctx, 3)
			return err
		},
		"in hand": func(ctx context.Context, s *source) error {
			return s.beginsInHand(ctx, s.inlets[0], redis.XMessage{ID: "1-0", Values: map[string]any{dataField: "x"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, Options{})
			w, err := NewWorker(r.c, WorkerOptions{BreakerFailures: 1, BreakerRest: time.Hour}, newDiary().done)
			if err != nil {
				t.Fatal(err)
			}
			w.gate.enter(w)
			_, trial := w.gate.breaker.begin()
			w.gate.breaker.end(Retry, true, trial)
			s := w.sources[0]
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- doing(ctx, s) }()
			time.Sleep(2 * restPoll)
			cancel()
			select {
			case err := <-ended:
				if name == "reading" && err == nil {
					t.Error("it has leave")
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it goes on without end")
			}
			if slots, room := w.gate.slots.taken(), s.room.taken(); slots != 0 || room != 0 {
				t.Errorf("%d slots and %d of the room stay taken", slots, room)
			}
			if n := len(s.heldFor(-time.Hour)); n != 0 {
				t.Errorf("%d entries stay held", n)
			}
		})
	}
}
