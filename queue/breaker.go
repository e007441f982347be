package queue

import (
	"sync"
	"time"
)

// A breaker lets a destination rest that failed several times in a row: closed
// it lets all through; open, nothing; after the rest one delivery alone, on whose
// end it depends which of the two it is next. Its zero value is always closed.
// Safe for concurrent use.
type breaker struct {
	mu       sync.Mutex // guards all below
	failures int        // in a row that open it; 0: never
	rest     time.Duration
	row      int       // failures so far
	until    time.Time // of the rest; zero: closed
	trial    bool      // one delivery tries whether the rest may end
}

// set changes what opens it, and for how long.
func (b *breaker) set(failures int, rest time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.rest = failures, rest
	if failures == 0 {
		b.row, b.until, b.trial = 0, time.Time{}, false
	}
}

// room returns how many of n deliveries may begin, and where that is none, how
// long to wait before asking again.
func (b *breaker) room(n int) (int, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return n, 0
	}
	if wait := time.Until(b.until); wait > 0 {
		return 0, wait
	}
	if b.trial {
		return 0, 20 * time.Millisecond
	}
	return min(n, 1), 0
}

// begin reports whether a delivery may begin now, and whether it is the one on
// which the end of the rest depends. One that may is to be ended.
func (b *breaker) begin() (ok, trial bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true, false
	}
	if b.trial || time.Now().Before(b.until) {
		return false, false
	}
	b.trial = true
	return true, true
}

// end says how a delivery ended that had begun. One that says nothing about the
// destination (it was lost, or released) neither counts nor ends a row.
func (b *breaker) end(o Outcome, says, trial bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trial {
		b.trial = false
	}
	switch {
	case !says:
	case o != Retry:
		b.row, b.until = 0, time.Time{}
	default:
		b.row++
		// Those that began before it opened do not prolong the rest.
		if b.failures > 0 && (trial || b.until.IsZero() && b.row >= b.failures) {
			b.until = time.Now().Add(b.rest)
		}
	}
}

// resting reports whether it is open, and until when.
func (b *breaker) resting() (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until, !b.until.IsZero() && time.Now().Before(b.until)
}
