package fluster

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// Penalty says how long a node that fails is out of use: for First, then for
// Multiplier times as long each further time, up to Longest. Up to a quarter is
// added at random, so that many Caddys do not come back at once.
type Penalty struct {
	// The first time out of use. Default: 1s.
	First caddy.Duration `json:"first,omitempty"`
	// The longest time out of use; a node that is well again is used after this at
	// the latest. Default: 60s.
	Longest caddy.Duration `json:"longest,omitempty"`
	// How much longer each further time is. Default: 1.5.
	Multiplier float64 `json:"multiplier,omitempty"`
}

// minPenalty is the shortest time out of use: in less a node that is down would be
// tried all the time.
const minPenalty = time.Millisecond

// slowInARow is how many time-outs in a row penalize a node. One alone may be
// a fork for a snapshot or a lost packet.
const slowInARow = 3

func (p *Penalty) withDefaults() Penalty {
	out := Penalty{First: caddy.Duration(time.Second), Longest: caddy.Duration(time.Minute), Multiplier: 1.5}
	if p == nil {
		return out
	}
	if p.First != 0 {
		out.First = p.First
	}
	if p.Longest != 0 {
		out.Longest = p.Longest
	} else {
		out.Longest = max(out.Longest, out.First)
	}
	if p.Multiplier != 0 {
		out.Multiplier = p.Multiplier
	}
	return out
}

// Validate checks p with its defaults filled in.
func (p *Penalty) Validate() error {
	switch {
	case time.Duration(p.First) < minPenalty:
		return fmt.Errorf("penalty.first must be at least %s, not %s", minPenalty, time.Duration(p.First))
	case p.Longest < p.First:
		return fmt.Errorf("penalty.longest must be at least penalty.first (%s), not %s", time.Duration(p.First), time.Duration(p.Longest))
	case !(p.Multiplier >= 1 && p.Multiplier <= 1000):
		return fmt.Errorf("penalty.multiplier must be from 1 to 1000, not %v", p.Multiplier)
	}
	return nil
}

// duration returns how long the level-th time out of use in a row is, from 0.
func (p *Penalty) duration(level int) time.Duration {
	d := float64(p.First) * math.Pow(p.Multiplier, float64(level)) * (1 + rand.Float64()/4)
	return time.Duration(min(d, float64(p.Longest)))
}

// A penaltyBox keeps count of which nodes sit out, and for how long. It is
// what a shard.Pool asks and tells. A node is out of use until it was first
// found well, and from its first hard failure, or its slowInARow-th time-out in
// a row, until its keeper has found it well again.
type penaltyBox struct {
	config atomic.Pointer[Penalty]
	seats  sync.Map // *shard.Node → *seat
}

// seat is one node's place in the box.
type seat struct {
	available atomic.Bool
	slow      atomic.Int32  // time-outs in a row
	leave     chan struct{} // told, without waiting, when the node was taken out of use
	doubts    atomic.Uint64 // reasons to doubt what lies there, so far
	settled   atomic.Uint64 // those of which its journal tells
	away      away          // since when others stand in for it

	mu      sync.Mutex // guards all below
	level   int        // penalties in a row
	since   time.Time  // when it last changed between in and out of use
	retryAt time.Time  // zero: in use
	reason  error      // why it is out of use, or last was
	served  time.Duration
}

func newPenaltyBox() *penaltyBox {
	b := &penaltyBox{}
	b.setConfig((*Penalty)(nil).withDefaults())
	return b
}

func (b *penaltyBox) setConfig(p Penalty) { b.config.Store(&p) }

// admit gives the node a seat; it is out of use until release.
func (b *penaltyBox) admit(n *shard.Node) *seat {
	s, _ := b.seats.LoadOrStore(n, &seat{leave: make(chan struct{}, 1), since: time.Now()})
	return s.(*seat)
}

func (b *penaltyBox) dismiss(n *shard.Node) { b.seats.Delete(n) }

func (b *penaltyBox) seat(n *shard.Node) *seat {
	if s, ok := b.seats.Load(n); ok {
		return s.(*seat)
	}
	return nil
}

// Succeeded is told when a replica answers in a node's place. What lies there may
// be older than what was served: it may lack what its master had last.
func (b *penaltyBox) Succeeded(n *shard.Node) {
	if s := b.seat(n); s != nil {
		s.doubt()
	}
}

// Available reports whether the node may be used now.
func (b *penaltyBox) Available(n *shard.Node) bool {
	s := b.seat(n)
	return s != nil && s.available.Load()
}

// Report is told how each command on the node ended.
func (b *penaltyBox) Report(n *shard.Node, o shard.Outcome, err error) {
	s := b.seat(n)
	if s == nil || !s.available.Load() {
		return // its keeper alone decides when it comes back
	}
	switch o {
	case shard.OK:
		if s.slow.Load() != 0 {
			s.slow.Store(0)
		}
	case shard.Slow:
		if s.slow.Add(1) >= slowInARow {
			s.expel(err)
		}
	case shard.Refused:
		s.expel(err)
	}
}

// expel takes the node out of use and wakes its keeper. It does both before the
// next release, which else would be taken for the time before it.
func (s *seat) expel(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.available.Load() {
		return
	}
	s.away.begin()
	s.available.Store(false)
	s.reason = err
	select {
	case s.leave <- struct{}{}:
	default:
	}
}

// doubt notes that what lies on the node may be older than what was served.
func (s *seat) doubt() { s.doubts.Add(1) }

// isDoubtful reports whether there are doubts of which the journal does not tell yet.
func (s *seat) isDoubtful() bool { return s.doubts.Load() != s.settled.Load() }

// doubtful is isDoubtful, with what settle is to be told.
func (s *seat) doubtful() (upTo uint64, ok bool) {
	upTo = s.doubts.Load()
	return upTo, upTo != s.settled.Load()
}

// settle notes that the journal tells of the doubts up to this one.
func (s *seat) settle(upTo uint64) { s.settled.Store(upTo) }

// penalize sets the next time out of use and returns how long it is. A node
// that fails again soon after its return goes on where it was.
func (b *penaltyBox) penalize(s *seat, err error, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.available.Load() {
		s.away.begin()
		s.available.Store(false)
	}
	if s.retryAt.IsZero() {
		if now.Sub(s.since) > s.served {
			s.level = 0
		}
		s.since = now
	}
	s.served = b.config.Load().duration(s.level)
	s.level++
	s.retryAt = now.Add(s.served)
	if err != nil {
		s.reason = err
	}
	return s.served
}

// inPenalty reports whether the node was told to wait since it was last in use.
func (s *seat) inPenalty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.retryAt.IsZero()
}

// release puts the node to use, and returns how long it was out.
func (s *seat) release(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := now.Sub(s.since)
	s.since, s.retryAt = now, time.Time{}
	s.slow.Store(0)
	select {
	case <-s.leave: // what it left for is over
	default:
	}
	s.available.Store(true)
	return out
}

// errBlind is the reason of a node that was not tried yet.
var errBlind = errors.New("not tried yet")

// status returns since when the node is in its state, why it is out of use,
// and when it is tried again.
func (s *seat) status() (since time.Time, reason error, retryAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil && !s.available.Load() {
		return s.since, errBlind, s.retryAt
	}
	return s.since, s.reason, s.retryAt
}

// Interface guards
var (
	_ shard.Availability = (*penaltyBox)(nil)
	_ shard.Succession   = (*penaltyBox)(nil)
)
