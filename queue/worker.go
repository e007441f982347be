package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Why the context of a delivery ended, by context.Cause.
var (
	// ErrLost: another worker has the message.
	ErrLost = errors.New("queue: another worker has the message")
	// ErrStopped: the worker was told to stop, and its patience is over.
	ErrStopped = errors.New("queue: the worker stops")
)

// WorkerOptions say how messages are delivered.
type WorkerOptions struct {
	// Destination is whose messages are taken; "" is the plain one.
	Destination string
	// Attempts is how many times a message is tried before it is a dead letter.
	// Default: 10.
	Attempts int
	// BackoffFirst and BackoffLongest: the n-th retry waits a random time between 0
	// and first·2^(n−1), at most longest. Defaults: 1 s, 1 h.
	BackoffFirst, BackoffLongest time.Duration
	// Concurrency is how many deliveries may be under way in this process: of all
	// workers of one client with the same destination, where the one that began to run
	// last has its say in this, and in rate and breaker. Default: 16.
	Concurrency int
	// Rate bounds the deliveries a second of all workers everywhere. 0: unbounded.
	Rate float64
	// BreakerFailures in a row make the destination rest for BreakerRest; rest costs
	// no attempt. 0: no breaker.
	BreakerFailures int
	BreakerRest     time.Duration
	// Bury is called before a message becomes a dead letter, for whatever reason.
	// An error means that it cannot be one now: Bury is called again a visibility
	// later, and the message is delivered no more. Nil: nothing is done before.
	Bury func(ctx context.Context, d *Delivery, r Result) error
	// Observe is told of what happens; nil: nobody. It must not block.
	Observe Observer
}

// An Observer is told what happens to messages.
type Observer interface {
	// Ended: a delivery ended and was recorded so.
	Ended(d *Delivery, r Result, took time.Duration, state string) // state: done, delayed, dead, ready
	// Lost: another worker has the message; what was done may be done twice.
	Lost(d *Delivery)
	// Abandoned: a node has messages for a destination that the options do not have.
	// It is told once, until they are gone.
	Abandoned(node, destination string, messages int64)
	// Trouble: something failed at a node, which is tried again.
	Trouble(node, doing string, err error)
}

// A Worker takes messages from all partitions and hands them to a function.
//
// For each partition Run has a source, which knows nothing of the others, so that
// a node that is slow or gone holds up none of them: a goroutine reads, one looks
// at what is due, one renews what is held, one records what ended. A delivery is
// a goroutine of its own.
type Worker struct {
	client  *Client
	o       WorkerOptions
	deliver func(ctx context.Context, d *Delivery) Result
	name    string // of its consumers, with a number for each partition; no other worker ever has it
	gate    *gate
	sources []*source

	running    atomic.Bool
	done       chan struct{}      // closed when Run has returned
	taking     context.Context    // ends when no more is to be taken
	stop       context.CancelFunc // ends taking
	working    context.Context    // ends when patience is over
	cut        context.CancelCauseFunc
	deliveries sync.WaitGroup
	underWay   atomic.Int64
	unrecorded atomic.Int64 // results that Run gave up to record
}

// NewWorker returns a worker. deliver is called from many goroutines at once; its
// context ends when the message was lost to another worker, or when the worker
// was told to stop and its patience is over. A panic in it counts as Retry.
func NewWorker(c *Client, o WorkerOptions, deliver func(ctx context.Context, d *Delivery) Result) (*Worker, error) {
	o = o.withDefaults()
	if err := o.validate(c.o); err != nil {
		return nil, err
	}
	w := &Worker{client: c, o: o, deliver: deliver, name: newID(), gate: c.out.gate(o.Destination), done: make(chan struct{})}
	w.taking, w.stop = context.WithCancel(context.Background())
	w.working, w.cut = context.WithCancelCause(context.Background())
	for _, p := range c.partitions {
		w.sources = append(w.sources, newSource(w, p))
	}
	return w, nil
}

func (o WorkerOptions) withDefaults() WorkerOptions {
	if o.Attempts == 0 {
		o.Attempts = 10
	}
	if o.BackoffFirst == 0 {
		o.BackoffFirst = time.Second
	}
	if o.BackoffLongest == 0 {
		o.BackoffLongest = max(time.Hour, o.BackoffFirst)
	}
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	if o.Observe == nil {
		o.Observe = nobody{}
	}
	return o
}

// validate reports what is wrong with options that have their defaults.
func (o WorkerOptions) validate(of Options) error {
	known := false
	for _, d := range of.Destinations {
		known = known || d == o.Destination
	}
	switch {
	case !known:
		return fmt.Errorf("queue: there is no destination %q", o.Destination)
	case o.Attempts < 1:
		return fmt.Errorf("queue: attempts must be at least 1, not %d", o.Attempts)
	case o.BackoffFirst < 0 || o.BackoffLongest < o.BackoffFirst:
		return fmt.Errorf("queue: backoff must not be negative, nor its longest (%v) shorter than its first (%v)", o.BackoffLongest, o.BackoffFirst)
	case o.Concurrency < 1:
		return fmt.Errorf("queue: concurrency must be at least 1, not %d", o.Concurrency)
	case !(o.Rate >= 0 && o.Rate <= 1e6):
		return fmt.Errorf("queue: rate must be from 0 to 1000000 a second, not %v", o.Rate)
	case o.BreakerFailures < 0 || o.BreakerRest < 0:
		return errors.New("queue: the breaker's failures and rest must not be negative")
	}
	return nil
}

// Run takes and delivers messages until ctx ends or Drain is called; then it
// takes no more, waits for what is under way, hands back what was taken and not
// begun, and returns. It can be called once.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("queue: a worker runs once")
	}
	defer close(w.done)
	defer context.AfterFunc(ctx, w.stop)()
	w.gate.enter(w)
	defer w.gate.leave(w)

	keeping, end := context.WithCancel(context.Background())
	defer end()
	var readers, keepers sync.WaitGroup
	for _, s := range w.sources {
		readers.Go(func() { s.read(w.taking) })
		readers.Go(func() { s.look(w.taking) })
		readers.Go(func() { s.keepCopies(w.taking) })
		keepers.Go(func() { s.renew(keeping) })
		keepers.Go(func() { s.record(keeping) })
		keepers.Go(func() { s.tellCopies(keeping) })
	}
	readers.Wait()
	w.deliveries.Wait()
	w.settle()
	end()
	keepers.Wait()
	w.leave()
	if n := w.unrecorded.Load(); n > 0 {
		return fmt.Errorf("queue: what came of %d deliveries could not be recorded; they come again", n)
	}
	return nil
}

// settle waits until what came of all deliveries is recorded, as long as there
// is a chance: then the visibility of what is not is over, or patience is.
func (w *Worker) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), w.client.o.Visibility)
	defer cancel()
	// What patience left is still told to nodes that answer.
	defer context.AfterFunc(w.working, func() { time.AfterFunc(recordAfterCut, cancel) })()
	for _, s := range w.sources {
		if !s.settled(ctx) {
			w.unrecorded.Add(int64(s.giveUp()))
		}
	}
}

// recordAfterCut is for how long results may be recorded after patience is over.
const recordAfterCut = time.Second

// leave takes this consumer off all partitions that answer, and hands back what
// is pending to it in spite of all.
func (w *Worker) leave() {
	var wg sync.WaitGroup
	for _, s := range w.sources {
		wg.Go(s.leave)
	}
	wg.Wait()
}

// Drain makes Run take no more; what is under way ends in its own time, until
// patience ends: then its contexts end, and what did not end well by itself
// is handed back. It waits for Run to return, which says what could not be
// recorded. Of several that are called at once, the patience that ends first
// counts. A worker that did not run yet never will.
func (w *Worker) Drain(patience context.Context) {
	w.stop()
	defer context.AfterFunc(patience, func() { w.cut(ErrStopped) })()
	if w.running.CompareAndSwap(false, true) {
		close(w.done)
	}
	<-w.done
}

// InFlight returns how many deliveries are under way.
func (w *Worker) InFlight() int { return int(w.underWay.Load()) }

// Resting reports whether the breaker is open, and until when.
func (w *Worker) Resting() (until time.Time, is bool) { return w.gate.breaker.resting() }

// Open returns the body. A Delivery that a test made has its Body.
func (d *Delivery) Open() io.ReadCloser {
	if d.open == nil {
		return io.NopCloser(bytes.NewReader(d.Body))
	}
	return d.open()
}

// nobody is the Observer where there is none.
type nobody struct{}

func (nobody) Ended(*Delivery, Result, time.Duration, string) {}
func (nobody) Lost(*Delivery)                                 {}
func (nobody) Abandoned(string, string, int64)                {}
func (nobody) Trouble(string, string, error)                  {}
