package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Workers come and go while messages are delivered, as at reloads: nothing is
// lost, nothing is done twice, and what they had in hand others have at once.
func TestDrainHandsBackAtOnce(t *testing.T) {
	r := newRig(t, 2, Options{Visibility: 30 * time.Second})
	const n = 600
	d := newDiary()
	deliver := func(_ context.Context, m *Delivery) Result {
		time.Sleep(3 * time.Millisecond)
		d.note(m)
		return Result{Outcome: Done}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			m := &Message{Body: fmt.Append(nil, i)}
			if i%4 == 0 {
				m.OrderKey = fmt.Sprint(i % 7)
			}
			r.enqueue(m)
		}
	})
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 8}, deliver)
	for range 6 {
		time.Sleep(50 * time.Millisecond)
		_, next := run(t, r.c, WorkerOptions{Concurrency: 8}, deliver)
		begin := time.Now()
		drain()
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("draining took %v", took)
		}
		drain = next
	}
	wg.Wait()
	eventually(t, 30*time.Second, "all are delivered", func() bool { return d.distinct() == n })
	eventually(t, 30*time.Second, "all is recorded", r.empty)
	drain()
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("more than once: %v", twice)
	}
	r.expectEmpty()
}

func TestDrainWithoutPatience(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: 30 * time.Second})
	r.enqueue(&Message{Body: []byte("ends well")}, &Message{Body: []byte("is interrupted")})
	d := newDiary()
	begun := make(chan struct{}, 2)
	var cause atomic.Value
	w, _ := run(t, r.c, WorkerOptions{Attempts: 2}, func(ctx context.Context, m *Delivery) Result {
		begun <- struct{}{}
		<-ctx.Done()
		cause.Store(context.Cause(ctx))
		if string(m.Body) == "ends well" {
			d.note(m)
			return Result{Outcome: Done}
		}
		return Result{Outcome: Retry, Reason: "interrupted"}
	})
	<-begun
	<-begun
	forever, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { // as a reload does
		w.Drain(forever)
		close(ended)
	}()
	patience, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	w.Drain(patience)
	<-ended
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("draining took %v with a patience of 100 ms", took)
	}
	if err, _ := cause.Load().(error); !errors.Is(err, ErrStopped) {
		t.Errorf("got cause %v, want ErrStopped", err)
	}
	// Another has it at once, long before the visibility is over.
	_, drain := run(t, r.client(), WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "the interrupted one", func() bool { return d.of("is interrupted") == 1 && r.empty() })
	drain()
	if m := d.deliveries()[1]; m.Attempt != 1 || d.total() != 2 {
		t.Errorf("got %d deliveries, the last attempt %d; want 2, the last the first attempt", d.total(), m.Attempt)
	}
	r.expectEmpty()
}

// Of two messages that came to two reads at once, one waits for the only slot: it
// goes to another process that is idle, long before its visibility is over.
func TestWhatIsInHandIsGivenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Visibility: 30 * time.Second})
	d := newDiary()
	begun, goOn := make(chan struct{}, 2), make(chan struct{})
	w, drain := run(t, r.c, WorkerOptions{Concurrency: 1}, func(ctx context.Context, m *Delivery) Result {
		begun <- struct{}{}
		<-goOn
		return d.done(ctx, m)
	})
	held := func() (n int) {
		for _, s := range w.sources {
			n += len(s.heldFor(0))
		}
		return n
	}
	time.Sleep(300 * time.Millisecond) // until both wait at their nodes
	for i, p := range r.c.partitions {
		if err := p.client().Do(t.Context(), "XADD", p.keys.stream(""), "*", "i", fmt.Sprint(i), dataField, fmt.Sprint(i)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	eventually(t, 30*time.Second, "the other is given back", func() bool { return held() == 1 })
	_, drainOther := run(t, r.client(), WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "another has it", func() bool { return d.total() == 1 })
	close(goOn)
	eventually(t, 30*time.Second, "all is done", r.empty)
	drain()
	drainOther()
	for _, m := range d.deliveries() {
		if m.Attempt != 1 {
			t.Errorf("got attempt %d", m.Attempt)
		}
	}
	if d.total() != 2 {
		t.Errorf("got %d deliveries, want 2", d.total())
	}
	r.expectEmpty()
}

func TestDrainBeforeRun(t *testing.T) {
	r := newRig(t, 1, Options{})
	w, err := NewWorker(r.c, WorkerOptions{}, newDiary().done)
	if err != nil {
		t.Fatal(err)
	}
	w.Drain(t.Context())
	if err := w.Run(t.Context()); err == nil {
		t.Error("a drained worker runs")
	}
}

// The end of Run's context is a Drain with endless patience.
func TestRunEndsWithItsContext(t *testing.T) {
	r := newRig(t, 1, Options{})
	d := newDiary()
	begun, goOn := make(chan struct{}), make(chan struct{})
	w, err := NewWorker(r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
		close(begun)
		<-goOn
		if ctx.Err() != nil {
			return Result{}
		}
		return d.done(ctx, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	r.enqueueN(1, "m")
	<-begun
	cancel()
	<-w.taking.Done() // it has heard of that
	r.enqueueN(1, "not taken any more")
	if got := w.InFlight(); got != 1 {
		t.Errorf("got %d in flight, want 1", got)
	}
	select {
	case <-ended:
		t.Error("Run did not wait for what was under way")
	case <-time.After(300 * time.Millisecond):
	}
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if d.of("m0") != 1 || d.total() != 1 {
		t.Errorf("got %v delivered", d.bodies())
	}
}

// What was done, and could not be recorded before the worker ended, is not done
// again by the next one in this process.
func TestDoneIsRememberedOverAReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueueN(5, "m")
	d := newDiary()
	begun, goOn := make(chan struct{}, 5), make(chan struct{})
	w, err := NewWorker(r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
		begun <- struct{}{}
		<-goOn
		return d.done(ctx, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	for range 5 {
		<-begun
	}
	r.servers[0].Pause()
	close(goOn)
	patience, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	w.Drain(patience)
	if err := <-ended; err == nil {
		t.Error("Run does not say that it could not record")
	}
	r.servers[0].Resume()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "all is recorded", r.empty)
	drain()
	if d.total() != 5 {
		t.Errorf("got %d deliveries, want 5", d.total())
	}
	r.expectEmptyButStreams() // the first worker could not say that it was gone
}

// What is remembered as done is that message, and no later one whose client gave it
// the same id.
func TestDoneIsNotRememberedOfTheNextOfItsName(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second, KeepResult: 50 * time.Millisecond})
	r.enqueue(&Message{ID: "name", Body: []byte("first")})
	d := newDiary()
	w, err := NewWorker(r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
		r.servers[0].Pause()
		return d.done(ctx, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	eventually(t, 30*time.Second, "the first", func() bool { return d.total() == 1 })
	patience, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	w.Drain(patience)
	if err := <-ended; err == nil {
		t.Error("Run does not say that it could not record")
	}
	r.servers[0].Resume()
	_, drainOther := run(t, r.client(), WorkerOptions{}, d.done) // another process delivers it again
	eventually(t, 30*time.Second, "it is done", func() bool { return d.total() == 2 && r.empty() })
	drainOther()
	eventually(t, 30*time.Second, "the name is free again", func() bool {
		receipt, err := r.c.Enqueue(t.Context(), &Message{ID: "name", Body: []byte("first")})
		return err == nil && !receipt.Replayed
	})
	run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "the next one is delivered", func() bool { return d.total() == 3 })
}

// A worker that begins while the queue is paused takes nothing.
func TestPauseHoldsForWhoComesLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	if err := r.c.SetPaused(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	r.enqueueN(100, "m")
	d := newDiary()
	for range 5 { // of which each has its chance
		_, drain := run(t, r.client(), WorkerOptions{}, d.done)
		time.Sleep(100 * time.Millisecond)
		drain()
	}
	if d.total() != 0 {
		t.Errorf("%d were delivered of a queue that was paused", d.total())
	}
	run(t, r.client(), WorkerOptions{}, d.done)
	time.Sleep(100 * time.Millisecond)
	if err := r.c.SetPaused(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "all is delivered", func() bool { return d.total() == 100 })
}

func TestPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	d := newDiary()
	run(t, r.client(), WorkerOptions{}, d.done) // of another process
	r.enqueueN(10, "before")
	eventually(t, 30*time.Second, "those before", func() bool { return d.total() == 10 })
	if err := r.c.SetPaused(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if paused, err := r.c.Paused(t.Context()); !paused || err != nil {
		t.Errorf("got paused %v, %v", paused, err)
	}
	time.Sleep(2500 * time.Millisecond) // until everybody has seen it
	r.enqueueN(10, "meanwhile")
	time.Sleep(500 * time.Millisecond)
	if d.total() != 10 {
		t.Errorf("got %d delivered while paused", d.total()-10)
	}
	if err := r.c.SetPaused(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "those meanwhile", func() bool { return d.total() == 20 && r.empty() })
	if paused, err := r.c.Paused(t.Context()); paused || err != nil {
		t.Errorf("got paused %v, %v", paused, err)
	}
	r.servers[1].Kill()
	if err := r.c.SetPaused(t.Context(), true); !errors.Is(err, ErrNoNode) {
		t.Errorf("got %v with one node away", err)
	}
	if paused, err := r.c.Paused(t.Context()); !paused || err != nil {
		t.Errorf("got paused %v, %v", paused, err)
	}
}

// A worker that leaves takes an empty stream with it, also from under another one that
// waits there for its first message: that is no trouble with the node.
func TestLeavingIsNoTroubleToOthers(t *testing.T) {
	r := newRig(t, 1, Options{})
	seen, d := &watcher{}, newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	run(t, r.client(), WorkerOptions{Observe: seen}, d.done)
	for range 3 {
		time.Sleep(time.Second)
		drain()
		_, drain = run(t, r.client(), WorkerOptions{}, d.done)
	}
	r.enqueueN(1, "m")
	eventually(t, 10*time.Second, "it is delivered", func() bool { return d.total() == 1 })
	if others := seen.others(); len(others) > 0 {
		t.Errorf("got troubles %q, want none", others)
	}
}
