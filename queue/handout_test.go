package queue

import (
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A reader is an Observer that reads the whole Delivery that was lost.
type reader struct {
	nobody
	seen Delivery
}

func (r *reader) Lost(d *Delivery) { r.seen = *d }

// The read loop may take an entry anew, and the renewing may lose it, while its
// delivery is being prepared. The race detector judges.
func TestTakenAnewAndLostWhilePrepared(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{})
	for range 200 {
		s := newSource(&Worker{client: r.c, name: "me", o: WorkerOptions{Observe: &reader{}}}, r.c.partitions[0])
		m := redis.XMessage{ID: "1-0", Values: map[string]any{dataField: "torn"}}
		h := &held{entryKey: entryKey{s.inlets[0], m.ID}, values: m.Values, count: 1}
		s.hold(h)
		var wg sync.WaitGroup
		wg.Go(func() {
			s.parse(h)
			s.notTried(h, 0)
		})
		wg.Go(func() {
			s.hold(&held{entryKey: h.entryKey, values: m.Values, count: 2})
			s.room.tryAcquire(1)
			s.lose(h)
		})
		wg.Wait()
		if h.d.Attempt != 0 {
			t.Fatalf("got attempt %d, want 0: it was not tried", h.d.Attempt)
		}
	}
}

// What is lost while it is in hand gives back no leave, as it had none.
func TestLostInHand(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{})
	w, err := NewWorker(r.c, WorkerOptions{}, newDiary().done)
	if err != nil {
		t.Fatal(err)
	}
	s := w.sources[0]
	h := &held{entryKey: entryKey{s.inlets[0], "1-0"}}
	s.hold(h)
	s.lose(h)
	s.forgetUncounted(h)
	if n := s.room.taken(); n != 0 {
		t.Errorf("got %d of the room taken, want none", n)
	}
}
