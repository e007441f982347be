package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fillUp puts messages in from 32 callers until 64 in a row were refused, and
// returns how many were accepted.
func (r *rig) fillUp(c *Client, make func() *Message) int64 {
	r.t.Helper()
	var accepted, refused atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for refused.Load() < 64 {
				_, err := c.Enqueue(context.Background(), make())
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, ErrBacklog):
					refused.Add(1)
				default:
					r.t.Errorf("got %v, want nil or %v", err, ErrBacklog)
					return
				}
			}
		})
	}
	wg.Wait()
	return accepted.Load()
}

func TestBacklogIsExactWithOneClient(t *testing.T) {
	for _, most := range []int64{1, 7, 500, 3000} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			r := newRig(t, 3, Options{Backlog: Backlog{Messages: most}})
			var n atomic.Int64
			kind := func() *Message {
				m := &Message{}
				switch n.Add(1) % 4 {
				case 3:
					if most > 1 {
						m.Delay = time.Hour // counts as well
					}
				case 2:
					m.OrderKey = "o" // so does what waits
				}
				return m
			}
			if got := r.fillUp(r.c, kind); got != most {
				t.Errorf("%d are accepted, want %d", got, most)
			}
			var messages int64
			for _, count := range r.c.Counts(t.Context()) {
				messages += count.Ready + count.InFlight + count.Delayed
			}
			if messages != most {
				t.Errorf("%d are in, want %d", messages, most)
			}
			// What makes room is seen, and filled.
			seen := newDiary()
			_, drain := run(t, r.c, WorkerOptions{}, seen.done)
			eventually(t, 30*time.Second, "those that are ready are done", func() bool { return seen.total() >= int(most+1)/2 })
			drain()
			time.Sleep(2 * fullFor)
			if got := r.fillUp(r.c, kind); got != int64(seen.total()) {
				t.Errorf("after %d are done %d are accepted", seen.total(), got)
			}
		})
	}
}

func TestBacklogOfSeveralDestinationsCountsEach(t *testing.T) {
	r := newRig(t, 2, Options{Backlog: Backlog{Messages: 21}, Destinations: []string{"a", "b"}})
	if got := r.fillUp(r.c, func() *Message { return &Message{} }); got != 10 {
		t.Errorf("%d are accepted, want 10 with 20 deliveries", got)
	}
}

func TestBacklogOfBytes(t *testing.T) {
	const most = 100_000
	r := newRig(t, 2, Options{Backlog: Backlog{Bytes: most}, InlineBody: 3000})
	body := make([]byte, 5000)
	if got := r.fillUp(r.c, func() *Message { return &Message{Body: body} }); got != 19 {
		t.Errorf("%d of 5000 bytes and a header are accepted in %d, want 19", got, most)
	}
	time.Sleep(2 * fullFor)
	if got := r.fillUp(r.c, func() *Message { return &Message{Body: make([]byte, 500)} }); got == 0 || got > 8 {
		t.Errorf("%d of 500 bytes and a header are accepted in what is left", got)
	}
	seen := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, seen.done)
	eventually(t, 30*time.Second, "all are done", r.empty)
	drain()
	r.expectEmpty() // also the counters
}

// Bytes of what other programs have taken or deleted hold up nobody when nothing is left.
func TestBacklogOfBytesOfWhatOthersDeleted(t *testing.T) {
	const most = 100_000
	body := make([]byte, 5000)
	r := newRig(t, 1, Options{Backlog: Backlog{Bytes: most}})
	stream := r.c.partitions[0].keys.stream("")
	takeAll := func() error { return r.raw().XTrimMaxLen(t.Context(), stream, 0).Err() }
	for _, remove := range []func() error{takeAll, func() error { return r.raw().Del(t.Context(), stream).Err() }} {
		for range 2 {
			if got := r.fillUp(r.c, func() *Message { return &Message{Body: body} }); got != 19 {
				t.Errorf("%d of 5000 bytes and a header are accepted in %d, want 19", got, most)
			}
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * fullFor)
		}
	}
	// What no message follows is deleted by a worker.
	_, drain := run(t, r.c, WorkerOptions{}, newDiary().done)
	counters := r.c.partitions[0].keys.counters()
	eventually(t, 20*time.Second, "the counts are gone", func() bool { return r.raw().Exists(t.Context(), counters).Val() == 0 })
	drain()
	r.expectEmpty()
}

func TestBacklogOfAge(t *testing.T) {
	r := newRig(t, 2, Options{Backlog: Backlog{Age: 300 * time.Millisecond}})
	r.enqueue(&Message{Delay: time.Hour}) // it is not ready, so that its age does not matter
	time.Sleep(400 * time.Millisecond)
	r.enqueue(&Message{})
	time.Sleep(400 * time.Millisecond)
	for range 8 { // whichever node would take it
		if _, err := r.c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrBacklog) {
			t.Errorf("got %v, want %v", err, ErrBacklog)
		}
		time.Sleep(2 * fullFor)
	}
	hold := make(chan struct{})
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 1000}, func(ctx context.Context, d *Delivery) Result {
		<-hold
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "what is in flight is not too old", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{})
		return err == nil
	})
	close(hold)
	drain()
}

func TestBacklogOfTwoClientsIsNearlyExact(t *testing.T) {
	const most = 2000
	r := newRig(t, 3, Options{Backlog: Backlog{Messages: most}})
	var wg sync.WaitGroup
	var got atomic.Int64
	for _, c := range []*Client{r.c, r.client()} {
		wg.Go(func() { got.Add(r.fillUp(c, func() *Message { return &Message{} })) })
	}
	wg.Wait()
	if n := got.Load(); n < most || n > most*11/10 {
		t.Errorf("%d are accepted, want %d to %d", n, most, most*11/10)
	}
}

func TestBacklogOnOneNodeIsExactWithAnyClients(t *testing.T) {
	const most = 700
	r := newRig(t, 1, Options{Backlog: Backlog{Messages: most}})
	var wg sync.WaitGroup
	var got atomic.Int64
	for _, c := range []*Client{r.c, r.client(), r.client()} {
		wg.Go(func() { got.Add(r.fillUp(c, func() *Message { return &Message{} })) })
	}
	wg.Wait()
	if n := got.Load(); n != most || len(r.entries("")) != most {
		t.Errorf("%d are accepted, %d are in, want %d", n, len(r.entries("")), most)
	}
}

func TestBacklogOfABatch(t *testing.T) {
	r := newRig(t, 3, Options{Backlog: Backlog{Messages: 1000}})
	accepted := 0
	for range 7 {
		ms := make([]*Message, 200)
		for i := range ms {
			ms[i] = &Message{}
		}
		receipts, err := r.c.EnqueueBatch(t.Context(), ms)
		if err != nil && !errors.Is(err, ErrBacklog) {
			t.Fatal(err)
		}
		for _, receipt := range receipts {
			if receipt.Err == nil {
				accepted++
			}
		}
	}
	if accepted != 1000 || len(r.entries("")) != 1000 {
		t.Errorf("%d are accepted, %d are in, want 1000", accepted, len(r.entries("")))
	}
}

func TestBacklogCountsANodeThatIsAwayAsItWas(t *testing.T) {
	r := newRig(t, 2, Options{Backlog: Backlog{Messages: 100}})
	for range 60 {
		r.enqueue(&Message{})
	}
	before := len(r.entries(""))
	r.servers[0].Kill()
	got := r.fillUp(r.c, func() *Message { return &Message{} })
	if before != 60 || got != 40 {
		t.Errorf("60 are in, of which some are away; %d more are accepted, want 40", got)
	}
}

func TestBacklogTellsAFullQueueQuickly(t *testing.T) {
	r := newRig(t, 2, Options{Backlog: Backlog{Messages: 10}})
	r.fillUp(r.c, func() *Message { return &Message{} })
	const n = 3000
	within(t, 5*time.Second, "refusing 3000", func() {
		for range n {
			if _, err := r.c.Enqueue(t.Context(), &Message{}); !errors.Is(err, ErrBacklog) {
				t.Fatal(err)
			}
		}
	})
}
