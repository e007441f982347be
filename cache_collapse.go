package fluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// flights are the forwards under way whose responses others may share, by what
// they are for.
type flights struct {
	mu       sync.Mutex // guards all below but recorded
	open     map[string]*flight
	watched  *flight // the first of the list
	watching bool    // a timer runs, after which they are looked at

	recorded atomic.Int64 // bytes of body that all flights hold
}

// A flight is one forward and the copy of its response that is being made. Its
// leader is the exchange that asked the origin; its followers wait for the head,
// and then take the body as it comes.
//
// Who follows is given a response that was asked for before it came itself; it
// looks whether it was invalidated since. How the body reaches the followers is
// in cache_stream.go.
type flight struct {
	all *flights
	key string // "" for a flight that nobody can follow

	isOpen atomic.Bool // others may join

	// A forward that outlives its client is one of those watched, or is told of that
	// client; guarded by all.mu.
	looked     bool            // whether that client is there
	client     context.Context // nil if it is not watched
	prev, next *flight
	untell     func() bool // nil if it is not told

	mu        sync.Mutex // guards all below
	state     flightState
	boarded   bool          // others have seen the head
	passing   bool          // the body is not kept whole
	divisible bool          // the origin can be asked for a part of it
	abandoned bool          // the leader's client went before the origin was asked
	held      bool          // the forward waits for its pace-maker
	released  release       // which of those who waited are to wait for no other forward
	ended     bool          // the forward is over
	orphan    bool          // the leader's client has gone
	changed   chan struct{} // closed at the next change; nil while nobody waits
	head      *entry        // the response without its body, from shared on
	length    int64         // Content-Length, −1 if it is not known
	blocks    []*block      // the body from base on, in blocks of unit bytes
	first     block         // the first of them, and
	list      [1]*block     // where they begin: most bodies are one block, which so allocates nothing
	room      []byte        // for a body of this length: the leader's, until the body begins
	unit      int64
	base      int64               // a multiple of unit
	have      int64               // how much of the body has come
	fill      *fill               // stores it in chunks; nil if nothing does
	followers map[*exchange]int64 // how much of the body each has taken; its leader too, from a while on
	evicted   map[*exchange]bool  // those that nobody waits for any more
	waiting   int                 // exchanges that wait for the head
	boarding  int                 // of these, those that are to take the body from its beginning
	stuck     bool                // it was ended for its leader's client, and may be whole yet
	heldUp    time.Duration       // for how long others waited while the forward was held
	cancel    context.CancelFunc  // ends the forward
}

// flightState is how far a flight is, and whom it is for.
type flightState uint8

const (
	undecided flightState = iota
	shared                // followers may take the response
	alone                 // each forwards for itself
	whole                 // the response has ended as it should
	broken                // it has not
)

// release says who forwards for itself at once when a response is for its leader
// alone. The others may wait for the next one, of which they may have more.
type release uint8

const (
	nobody     release = iota
	authorized         // those who have credentials, too, for which it is not shared
	everybody
)

// join returns the flight for key, and whether the caller is its leader.
func (fs *flights) join(key string) (f *flight, leads bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.open[key]; ok && f.awaitHead() {
		return f, false
	}
	f = fs.solo()
	f.key = key
	f.isOpen.Store(true)
	fs.open[key] = f
	return f, true
}

// awaitHead notes that an exchange waits for the head. It returns false if
// nobody who comes now can have the response.
func (f *flight) awaitHead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == alone || f.state == broken {
		return false
	}
	f.waiting++
	f.boarding++
	return true
}

// isAwaited reports whether others wait for the head.
func (f *flight) isAwaited() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting > 0
}

// solo returns a flight that nobody can follow.
func (fs *flights) solo() *flight {
	return &flight{all: fs, length: -1}
}

// leaveStuck ends the sharing, as the leader's client takes nothing: who has a part of
// the body may get the rest elsewhere.
func (f *flight) leaveStuck() {
	f.mu.Lock()
	f.stuck = true
	f.mu.Unlock()
	f.settle(broken)
}

// isShared reports whether others may take the response, or take it now.
func (f *flight) isShared() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state == shared
}

// close lets nobody join any more.
func (fs *flights) close(f *flight) {
	if !f.isOpen.Load() { // mostly, and then without the lock
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.closeLocked(f)
}

func (fs *flights) closeLocked(f *flight) {
	f.isOpen.Store(false)
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

// waitWhileLocked waits while the state is s. It returns false if the client has gone.
func (f *flight) waitWhileLocked(client context.Context, s flightState) bool {
	for f.state == s && client.Err() == nil {
		changed := f.changeLocked()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-client.Done():
		}
		f.mu.Lock()
	}
	return client.Err() == nil
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

// releaseTo is settle(alone) for a response, or a failure to get one, which says
// that those who wait will not fare better by waiting for another one's.
func (f *flight) releaseTo(who release) (waited bool) {
	f.mu.Lock()
	f.released = who
	f.mu.Unlock()
	return f.settle(alone)
}

// seal is settle(alone) for a response that nobody shares. It returns false if somebody
// does, or waits for it.
func (f *flight) seal() bool {
	f.all.mu.Lock() // nobody joins meanwhile
	defer f.all.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != shared || f.waiting > 0 || len(f.followers) > 0 || len(f.evicted) > 0 {
		return false
	}
	f.state = alone
	f.all.closeLocked(f)
	f.dropAllLocked()
	return true
}

// abandon is settle(alone) for a leader whose client has gone before the origin was
// asked: of those who wait another one leads.
func (f *flight) abandon() {
	f.mu.Lock()
	f.abandoned = true
	f.mu.Unlock()
	f.settle(alone)
}

func (f *flight) isAbandoned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.abandoned
}

// releasesLocked reports whether the exchange is to wait for no other forward.
func (f *flight) releasesLocked(x *exchange) bool {
	return f.released == everybody || f.released == authorized && x.r.Header["Authorization"] != nil
}

// share lets the followers take the response with this head.
func (f *flight) share(head *entry, length int64) {
	f.mu.Lock()
	f.head, f.length = head, length
	f.divisible = (length < 0 || length > inlineBody) && head.isDivisible() // short ones are kept whole
	f.mu.Unlock()
	f.settle(shared)
}

// entire returns the entry of the flight's response as it is when it has come whole:
// the head itself, if nobody else has seen that.
func (f *flight) entire(head *entry, r stored.Response) *entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.boarded {
		return head.whole(r)
	}
	*head.resp = r
	return head
}

// end notes that the forward is over.
func (f *flight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.releaseLocked()
}

// releaseLocked gives back what the copy took of the bound, and gives up chunks
// that will not be stored, when nobody takes from them any more.
func (f *flight) releaseLocked() {
	if !f.ended || len(f.followers) > 0 || f.waiting > 0 {
		return
	}
	f.dropAllLocked()
	f.fill.giveUp() // unless the body has come whole
	f.fill.letNodeGo()
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
	if f.orphan && f.cancel != nil && !f.goOnLocked() {
		f.cancel()
	}
}

// goOn reports whether anybody takes the body from the flight, or waits for it, or
// was sent away and does not know that yet: that one will ask for the rest when the
// forward has told how much it is. If nobody does, nobody will: the forward may end,
// and who comes now must not be left with what has come so far.
func (f *flight) goOn() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.goOnLocked()
}

func (f *flight) goOnLocked() bool {
	if f.state <= shared && len(f.followers) == 0 && len(f.evicted) == 0 && f.waiting == 0 {
		f.state = alone
	}
	return f.state <= shared
}
