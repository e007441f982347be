package fluster

import (
	"context"
	"slices"
	"sync"
)

// slots are how many deliveries to one destination may be under way in this
// process. They outlive a reload: what the old configuration still delivers
// counts for the new one, whose limit may be another.
type slots struct {
	mu     sync.Mutex // guards all below
	limits []*int     // of the workers that there are; the newest one's is in force
	used   int
	freed  chan struct{} // closed when one may be free; nil while nobody waits
}

// join puts a limit in force, until leave is called or another one joins. What
// is taken stays taken.
func (s *slots) join(limit int) (leave func()) {
	mine := new(limit)
	s.change(func() { s.limits = append(s.limits, mine) })
	return func() {
		s.change(func() { s.limits = slices.DeleteFunc(s.limits, func(l *int) bool { return l == mine }) })
	}
}

func (s *slots) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
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
	if n := len(s.limits); n > 0 && s.used < *s.limits[n-1] {
		s.used++
		return nil, true
	}
	if s.freed == nil {
		s.freed = make(chan struct{})
	}
	return s.freed, false
}

// give gives one back.
func (s *slots) give() { s.change(func() { s.used-- }) }

func (s *slots) wakeLocked() {
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}
