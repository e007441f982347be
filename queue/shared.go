package queue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// outgoing is what the workers of one client have in common, so that one which
// takes over from another knows what that one knew. Its zero value is ready.
type outgoing struct {
	mu    sync.Mutex // guards all below
	gates map[string]*gate
	done  map[doneKey]struct{} // delivered, but no node could be told
	order []doneKey            // of done, the oldest first
}

// A gate is what deliveries to one destination pass in this process. Its limits
// are those of the worker that began to run last, of those that run.
type gate struct {
	slots   slots
	breaker breaker
	rate    rate

	mu      sync.Mutex // guards workers, and that limits are set in one order
	workers []*Worker
}

// enter says that a worker runs.
func (g *gate) enter(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.workers = append(g.workers, w)
	g.limitLocked()
}

// leave says that a worker does not run any more.
func (g *gate) leave(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.workers = slices.DeleteFunc(g.workers, func(other *Worker) bool { return other == w })
	g.limitLocked()
}

func (g *gate) limitLocked() {
	if len(g.workers) == 0 {
		return
	}
	o := g.workers[len(g.workers)-1].o
	g.slots.setLimit(o.Concurrency)
	g.breaker.set(o.BreakerFailures, o.BreakerRest)
	g.rate.set(o.Rate)
}

// gate returns the destination's.
func (o *outgoing) gate(destination string) *gate {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gates == nil {
		o.gates = map[string]*gate{}
	}
	g := o.gates[destination]
	if g == nil {
		g = &gate{}
		o.gates[destination] = g
	}
	return g
}

// A doneKey names a message on a partition. A client may use an id again when it is
// done: when a message was accepted tells it from the next one of its name.
type doneKey struct {
	partition *partition
	recordID  string
	accepted  int64 // ms of the node's clock
}

// maxDone bounds what is remembered as done.
const maxDone = 4096

// remember keeps in mind that a message was delivered, though its node does not
// know: should it come back to this process, it is acked without a second delivery.
func (o *outgoing) remember(k doneKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done == nil {
		o.done = map[doneKey]struct{}{}
	}
	if _, ok := o.done[k]; ok {
		return
	}
	if len(o.order) == maxDone {
		delete(o.done, o.order[0])
		o.order = o.order[1:]
	}
	o.done[k] = struct{}{}
	o.order = append(o.order, k)
}

// wasDone reports whether a message is remembered as done.
func (o *outgoing) wasDone(k doneKey) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.done[k]
	return ok
}

// taken is what the workers of a client share of a partition. Its zero value is
// ready.
type taken struct {
	old    atomic.Bool // the server knows no script flags
	paused atomic.Bool // as it was last seen
	told   atomic.Bool // whether it is paused was asked, and answered, once at least
	turns  atomic.Bool // there may be turns or counters; or it is paused

	mu       sync.Mutex // guards all below
	looked   time.Time  // when somebody last looked at what is due
	due      time.Time  // when something is due that this process knows of; zero: nothing
	wake     chan struct{}
	shown    time.Time // by the node's clock when it was last asked
	asked    time.Time // when that was by this process's, whose wall clock may be set; zero: never
	measured time.Time // asked, or zero: it is in doubt

	nextPause, nextChores, nextLanes time.Time // when somebody is to look at these again

	heard time.Time // when the node last answered a look; zero: no look was taken

	orders []string // order keys that had turns when they were last looked for

	mending mending
}

// dueIn says that something on the partition is due in d, so that this process
// looks at it then and not somewhat later.
func (t *taken) dueIn(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now().Add(d)
	if !t.due.IsZero() && !at.Before(t.due) {
		return
	}
	t.due = at
	if t.wake != nil {
		close(t.wake)
		t.wake = nil
	}
}

// nextLook returns when to look at what is due: in every at the latest, or
// earlier where something is known to be due then; and a channel that is closed
// when that changes.
func (t *taken) nextLook(every time.Duration) (time.Duration, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wake == nil {
		t.wake = make(chan struct{})
	}
	at := t.looked.Add(every)
	if !t.due.IsZero() && t.due.Before(at) {
		at = t.due
	}
	return time.Until(at), t.wake
}

// looks reports whether it is time to look, and if so, that somebody does.
func (t *taken) looks(every time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.looked.Add(every)) && (t.due.IsZero() || now.Before(t.due)) {
		return false
	}
	t.looked, t.due = now, time.Time{}
	return true
}

// hear notes that the node answers.
func (t *taken) hear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard = time.Now()
}

// silentFor returns for how long the node has not answered, as far as this
// process knows: from now, if it did not ask before.
func (t *taken) silentFor() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard.IsZero() {
		t.heard = time.Now()
	}
	return time.Since(t.heard)
}

// nodeTime returns what the node's clock shows, as far as it is known here: for
// people, and to guess what may be due. What is due the node itself says. It goes on as
// time does, whatever the clock here is set to meanwhile.
func (t *taken) nodeTime() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked.IsZero() {
		return time.Now()
	}
	return t.shown.Add(time.Since(t.asked))
}

// timeScript returns the node's time in milliseconds.
//
//	KEYS[1] any of the partition's
var timeScript = newScript(luaNow + `return now()`)

// luaNow defines now(), the node's time in milliseconds.
const luaNow = `
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
`

// now asks the partition's node for its time.
func (p *partition) now(ctx context.Context) (time.Time, error) {
	asked := time.Now()
	ms, err := timeScript.run(ctx, p, []string{p.keys.delayed()}).Int64()
	if err != nil {
		return time.Time{}, err
	}
	answered := time.Now()
	t := &p.taken
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shown, t.asked = time.UnixMilli(ms), asked.Add(answered.Sub(asked)/2)
	t.measured = answered
	return time.UnixMilli(ms), nil
}

// doubtClock says that what is known of the node's clock may be of another machine's:
// the node was in trouble, or has lost its data, and may have come back elsewhere.
func (t *taken) doubtClock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.measured = time.Time{}
}

// measure sees to it that what is known here of the node's clock is of this node, and
// not old. Who tells of a message, or reckons with its times, does it before.
func (p *partition) measure(ctx context.Context) error {
	t := &p.taken
	t.mu.Lock()
	fresh := !t.measured.IsZero() && time.Since(t.measured) < measureEvery
	t.mu.Unlock()
	if fresh {
		return nil
	}
	_, err := p.now(ctx)
	return err
}

// measureEvery is how often the clocks of a node and this process are compared.
const measureEvery = 30 * time.Second
