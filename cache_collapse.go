package fluster

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// flights are the forwards under way whose responses others may share, by what
// they are for.
type flights struct {
	mu   sync.Mutex // guards open
	open map[string]*flight

	recorded atomic.Int64 // bytes of body that all flights hold
}

// maxRecorded bounds the bytes of body that all forwards under way hold
// together. What is beyond it is not stored.
const maxRecorded = 64 << 20

// A flight is one forward and the copy of its response that is being made. Its
// leader is the exchange that asked the origin; its followers wait for the head,
// and then take the body as it comes.
//
// Who follows is given a response that was asked for before it came itself; it
// looks whether it was invalidated since.
type flight struct {
	all *flights
	key string // "" for a flight that nobody can follow

	mu        sync.Mutex    // guards all below
	changed   chan struct{} // closed at the next change; nil while nobody waits
	state     flightState
	head      *entry // the response without its body, from shared on
	learn     uint64 // of the leader's place
	length    int64  // Content-Length, −1 if it is not known
	body      []byte // the body from base on
	base      int64
	followers map[*exchange]int64 // how much of the body each has taken; its leader too, from a while on
	evicted   map[*exchange]bool  // those that took nothing for too long
	waiting   int                 // exchanges that wait for the head
	held      bool                // the forward waits for the slowest follower
	ended     bool                // the forward is over
	cancel    context.CancelFunc  // ends the forward
	orphan    bool                // the leader's client has gone
}

type flightState uint8

const (
	undecided flightState = iota
	shared                // followers may take the response
	alone                 // each forwards for itself
	whole                 // the response has ended as it should
	broken                // it has not
)

// join returns the flight for key, and whether the caller is its leader.
func (fs *flights) join(key string) (f *flight, leads bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.open[key]; ok {
		f.mu.Lock()
		f.waiting++
		f.mu.Unlock()
		return f, false
	}
	f = fs.solo()
	f.key = key
	fs.open[key] = f
	return f, true
}

// solo returns a flight that nobody can follow.
func (fs *flights) solo() *flight {
	return &flight{all: fs, length: -1}
}

// close lets nobody join any more.
func (fs *flights) close(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.open[f.key] == f {
		delete(fs.open, f.key)
	}
}

// changeLocked returns what is closed at the next change.
func (f *flight) changeLocked() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

func (f *flight) changedLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// settle ends the state undecided or shared; only the first end counts. It
// reports whether exchanges were waiting.
func (f *flight) settle(s flightState) (waited bool) {
	if s != shared {
		f.all.close(f)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state > shared {
		return false
	}
	f.state = s
	f.changedLocked()
	return f.waiting > 0
}

// share lets the followers take the response with this head.
func (f *flight) share(head *entry, learn uint64, length int64) {
	f.mu.Lock()
	f.head, f.learn, f.length = head, learn, length
	f.mu.Unlock()
	f.settle(shared)
}

// add appends to the copy of the body, and reports whether all of it is still
// there. A body that grows beyond most bytes, or beyond what all flights may
// hold, is not kept; those who follow still get it, as fast as the slowest
// takes it.
func (f *flight) add(p []byte, most int64) bool {
	f.all.recorded.Add(int64(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body == nil {
		f.body = make([]byte, 0, max(int64(len(p)), min(f.length, firstBody)))
	}
	f.body = append(f.body, p...)
	f.changedLocked()
	if f.base == 0 && !f.overflowsLocked(most) {
		return true
	}
	f.trimLocked()
	f.holdLocked(most)
	return false
}

// overflowsLocked reports whether the copy is longer than it may be.
func (f *flight) overflowsLocked(most int64) bool {
	n := int64(len(f.body))
	return n > most || n > window && f.all.recorded.Load() > maxRecorded
}

// window is how far followers may always be behind.
const window = 256 << 10

// holdLocked waits until the slowest follower has taken enough. One that takes
// nothing for too long is cut off, unless nobody else is held up by it.
func (f *flight) holdLocked(most int64) {
	defer func() { f.held = false }()
	timeout := time.NewTimer(slowest)
	defer timeout.Stop()
	for len(f.followers) > 0 && f.overflowsLocked(most) {
		f.held = true
		least, changed := f.leastLocked(), f.changeLocked()
		f.mu.Unlock()
		late := false
		select {
		case <-changed:
		case <-timeout.C:
			late = true
		}
		f.mu.Lock()
		if late && len(f.followers) > 1 && f.leastLocked() == least {
			f.evictLocked(least)
		}
		if late || f.leastLocked() != least {
			timeout.Reset(slowest)
		}
		f.trimLocked()
	}
}

// leastLocked returns how much of the body the slowest follower has taken; all
// there is if there are none.
func (f *flight) leastLocked() int64 {
	least := f.base + int64(len(f.body))
	for _, off := range f.followers {
		least = min(least, off)
	}
	return least
}

// evictLocked cuts off the followers that have taken no more than off.
func (f *flight) evictLocked(least int64) {
	for x, off := range f.followers {
		if off <= least {
			if f.evicted == nil {
				f.evicted = map[*exchange]bool{}
			}
			f.evicted[x] = true
			delete(f.followers, x)
		}
	}
	f.changedLocked()
}

// firstBody is the most that is set aside for a body by its Content-Length,
// before it has come.
const firstBody = 256 << 10

// slowest is how long all wait for a follower that takes nothing.
const slowest = 10 * time.Second

// trimLocked drops what all followers have taken. From then on nobody can
// begin to follow.
func (f *flight) trimLocked() {
	n, length := f.leastLocked()-f.base, int64(len(f.body))
	// Copying what is left costs as much as it is long: not for every little step.
	if n == length || n >= length/4 {
		f.all.recorded.Add(-n)
		f.body = slices.Clone(f.body[n:])
		f.base += n
	}
}

// end notes that the forward is over.
func (f *flight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.releaseLocked()
}

// releaseLocked gives back what the copy took of the bound, when nobody takes
// from it any more.
func (f *flight) releaseLocked() {
	if f.ended && len(f.followers) == 0 && f.waiting == 0 {
		f.all.recorded.Add(-int64(len(f.body)))
		f.body = nil
	}
}

// leave notes that an exchange goes on without the response. The forward ends
// when nobody is left who wants it.
func (f *flight) leave(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, x)
	delete(f.evicted, x)
	f.changedLocked()
	f.endIfUnwantedLocked()
	f.releaseLocked()
}

// leaderGone notes that the leader's client has gone.
func (f *flight) leaderGone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orphan = true
	f.endIfUnwantedLocked()
}

func (f *flight) endIfUnwantedLocked() {
	if f.orphan && len(f.followers) == 0 && f.waiting == 0 && f.cancel != nil {
		f.cancel()
	}
}

// isWanted reports whether anybody takes the body from the flight.
func (f *flight) isWanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state <= shared && (len(f.followers) > 0 || f.waiting > 0)
}

// follow waits for the head of the flight's response and takes the response if
// it is for this request too; done is false if the request has to be forwarded.
func (x *exchange) follow(f *flight) (done bool, err error) {
	head, ok := x.board(f)
	if err := x.r.Context().Err(); err != nil && !ok {
		return false, caddyhttp.Error(statusClientClosed, err)
	}
	if !ok {
		return false, nil
	}
	defer f.leave(x)
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: head.resp.Status, Collapsed: true}
	metrics.requests.WithLabelValues("collapsed").Inc()
	fd := &found{entry: head}
	if x.isConditional() && httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, head.resp.Status, head.header(), x.now) {
		x.writeHead(fd, httpcache.NotModifiedHeader(head.header()))
		x.w.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	x.writeHead(fd, head.header())
	if f.length >= 0 {
		x.w.Header().Set("Content-Length", itoa(f.length))
	}
	x.w.WriteHeader(head.resp.Status)
	if !x.takeBody(f, x.w, 0) {
		// The client must not take what it has for the whole.
		panic(http.ErrAbortHandler)
	}
	return true, nil
}

// statusClientClosed is what Caddy logs for a request whose client has gone.
const statusClientClosed = 499

// board waits for the head, and makes the exchange a follower if the response
// is for it.
func (x *exchange) board(f *flight) (head *entry, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.waiting--
		if !ok {
			f.endIfUnwantedLocked()
			f.releaseLocked()
		}
	}()
	for f.state == undecided {
		changed := f.changeLocked()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-x.r.Context().Done():
		}
		f.mu.Lock()
		if x.r.Context().Err() != nil {
			return nil, false
		}
	}
	if f.state != shared && f.state != whole || f.base > 0 || !x.mayTake(f.head, f.learn) {
		return nil, false
	}
	f.followLocked(x, 0)
	return f.head, true
}

// followLocked makes the exchange a follower that has the body up to off.
func (f *flight) followLocked(x *exchange, off int64) {
	if f.followers == nil {
		f.followers = map[*exchange]int64{}
	}
	f.followers[x] = off
}

// mayTake reports whether the response of another exchange's forward, which
// began at learn number learn, answers this request.
func (x *exchange) mayTake(head *entry, learn uint64) bool {
	for _, n := range head.resp.Nominated {
		if httpcache.NominatedValue(n.Name, x.r.Header) != n.Value {
			return false
		}
	}
	if !x.pool.book.Leased(time.Now()) {
		return false
	}
	v, _ := x.pool.book.ValidNear(learn, x.selectors(head))
	return v == journal.Valid
}

// takeBody writes the body from off on to w as it comes. It returns false where
// the body broke off; a client that goes away is nobody's fault.
func (x *exchange) takeBody(f *flight, w http.ResponseWriter, off int64) bool {
	rc := http.NewResponseController(w)
	for {
		part, state, changed := f.take(x, off)
		switch {
		case state == broken:
			return false
		case len(part) > 0:
			if _, err := w.Write(part); err != nil {
				return true
			}
			off += int64(len(part))
			continue
		case state == whole:
			return true
		}
		rc.Flush() //nolint:errcheck // it only hurries
		select {
		case <-changed:
		case <-x.r.Context().Done():
			return true
		}
	}
}

// take returns what there is of the body from off on, which the follower has
// taken so far, and what is closed when there may be more.
func (f *flight) take(x *exchange, off int64) (part []byte, state flightState, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.evicted[x] {
		return nil, broken, nil
	}
	f.followers[x] = off
	if f.held {
		f.changedLocked()
	}
	if f.state != broken {
		part = f.body[off-f.base:]
	}
	return part, f.state, f.changeLocked()
}

// A pump writes a flight's body to its own leader's client, beside the forward,
// so that a client that reads slowly holds up nobody but itself.
type pump struct {
	done chan struct{}
	ok   bool // the client has got what there was
}

// startPump lets the leader's client take the rest of the body from off on.
func (x *exchange) startPump(f *flight, off int64) *pump {
	p := &pump{done: make(chan struct{})}
	f.mu.Lock()
	f.followLocked(x, off)
	f.mu.Unlock()
	go func() { // it ends with the flight, and the leader waits for it
		defer close(p.done)
		defer f.leave(x)
		p.ok = x.takeBody(f, x.w, off)
	}()
	return p
}
