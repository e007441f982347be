package fluster

import (
	"context"
	"sync"
)

// slots are how many deliveries to one destination may be under way in this
// process. They outlive a reload: what the old configuration still delivers
// counts for the new one, whose limit may be another.
type slots struct {
	mu    sync.Mutex // guards all below
	limit int
	used  int
	freed chan struct{} // closed when one may be free; nil while nobody waits
}

// setLimit changes how many there are. Those that are taken stay taken.
func (s *slots) setLimit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
	s.wakeLocked()
}

// take waits for a slot, and reports whether there was one before ctx ended.
func (s *slots) take(ctx context.Context) bool {
	for {
		freed, ok := s.tryTake()
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

// tryTake takes a slot if there is one, or returns what to wait for.
func (s *slots) tryTake() (freed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used < s.limit {
		s.used++
		return nil, true
	}
	if s.freed == nil {
		s.freed = make(chan struct{})
	}
	return s.freed, false
}

// give gives one back.
func (s *slots) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.wakeLocked()
}

func (s *slots) wakeLocked() {
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}
