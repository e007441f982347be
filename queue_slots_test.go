package fluster

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlots: no more are taken than there are, also while the limit changes, and
// nobody waits for a free one.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slots
		var mu sync.Mutex // guards now and most
		var now, most int
		count := func(n int) (int, int) {
			mu.Lock()
			defer mu.Unlock()
			now += n
			most = max(most, now)
			return now, most
		}
		s.setLimit(3)
		work := func() {
			if !s.take(t.Context()) {
				t.Error("no slot")
			}
			count(1)
			time.Sleep(time.Second)
			count(-1)
			s.give()
		}
		for range 12 {
			go work()
		}
		time.Sleep(3500 * time.Millisecond) // three rounds are over
		if _, most := count(0); most != 3 {
			t.Errorf("%d at a time, want 3", most)
		}
		s.setLimit(1) // while three are at work
		time.Sleep(time.Second)
		for range 2 {
			go work()
		}
		time.Sleep(500 * time.Millisecond)
		if now, _ := count(0); now != 1 {
			t.Errorf("%d at a time, want 1", now)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if s.take(ctx) {
			t.Error("a slot was taken that there is not")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s.used != 0 {
			t.Errorf("%d slots are taken in the end", s.used)
		}
	})
}
