package queue

import (
	"context"
	"slices"
	"sync"
)

// slots are how many things may be under way at once. Who waits for one gets it
// in the order of coming, so that all read loops come to their turn. Safe for
// concurrent use.
type slots struct {
	mu      sync.Mutex // guards all below
	limit   int
	used    int
	waiters []chan struct{} // closed: the slot is the waiter's
}

// setLimit changes how many there are. What is taken beyond it stays taken.
func (s *slots) setLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
	s.serveLocked()
}

// acquire takes one, as soon as there is one. It fails only when ctx ends.
func (s *slots) acquire(ctx context.Context) error {
	s.mu.Lock()
	if s.used < s.limit && len(s.waiters) == 0 {
		s.used++
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.waiters = append(s.waiters, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiters, turn)
	if i < 0 { // it came in the same moment
		s.used--
		s.serveLocked()
		return ctx.Err()
	}
	s.waiters = slices.Delete(s.waiters, i, i+1)
	return ctx.Err()
}

// tryAcquire takes up to n of those that are free and that nobody waits for, and
// returns how many.
func (s *slots) tryAcquire(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiters) > 0 {
		return 0
	}
	n = max(0, min(n, s.limit-s.used))
	s.used += n
	return n
}

// release gives n back.
func (s *slots) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	s.serveLocked()
}

func (s *slots) serveLocked() {
	for s.used < s.limit && len(s.waiters) > 0 {
		close(s.waiters[0])
		s.waiters = slices.Delete(s.waiters, 0, 1)
		s.used++
	}
}
