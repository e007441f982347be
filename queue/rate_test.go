package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func TestRateOverTwoWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	r.enqueueN(400, "m")
	var n atomic.Int32
	deliver := func(context.Context, *Delivery) Result { n.Add(1); return Result{Outcome: Done} }
	const perSec = 100
	begin := time.Now()
	_, drain := run(t, r.c, WorkerOptions{Rate: perSec}, deliver)
	_, drainOther := run(t, r.client(), WorkerOptions{Rate: perSec}, deliver)
	time.Sleep(2 * time.Second)
	got, took := float64(n.Load()), time.Since(begin).Seconds()
	if most := perSec*took + 12; got > most || got < most/3 {
		t.Errorf("got %v in %.2f s, want at most %.0f, and not much less", got, took, most)
	}
	drain()
	drainOther()
	r.raw().FlushAll(context.Background())
}

// What one process took and has no use for is another's, and does not come on top of
// what is taken later.
func TestRateUnused(t *testing.T) {
	t.Parallel()
	for _, perSec := range []float64{1, 10, 40} {
		t.Run(fmt.Sprint(perSec, " per second"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, Options{})
			var one, other rate
			c, otherC := r.c, r.client()
			one.set(perSec)
			other.set(perSec)
			take := func(of *rate, c *Client) {
				t.Helper()
				if n, err := of.take(t.Context(), c, 1); n != 1 || err != nil {
					t.Fatalf("got %d of the rate (%v), want 1", n, err)
				}
			}
			var last time.Time
			each := time.Duration(float64(time.Second) / perSec)
			for i := range 3 {
				take(&one, c)
				one.giveBack(t.Context(), c, 1)
				take(&other, otherC)
				// Half of the wait is left for a slow machine.
				if now := time.Now(); perSec <= 10 && i > 0 && now.Sub(last) > each+each/2 {
					t.Errorf("the next came after %v, want %v", now.Sub(last), each)
				} else {
					last = now
				}
			}
			time.Sleep(rateKept + 10*time.Millisecond)
			if n, ok := one.takeHere(1); ok {
				t.Errorf("got %d that were taken long ago", n)
			}
		})
	}
}

func TestRateIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	d := newDiary()
	run(t, r.c, WorkerOptions{Rate: 0.2}, d.done)
	time.Sleep(3 * claimEvery)
	r.enqueueN(1, "m")
	eventually(t, 3*time.Second, "it does not wait for what was taken for nothing", func() bool { return d.distinct() == 1 })
}

func TestRateSpoilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{})
	p := r.c.partitions[0]
	if err := p.client().Set(t.Context(), p.keys.bucket(), "what is no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	d := newDiary()
	run(t, r.c, WorkerOptions{Rate: 10}, d.done)
	r.enqueueN(1, "m")
	eventually(t, 5*time.Second, "it is delivered", func() bool { return d.distinct() == 1 })
}

func TestRateGoesOnWithoutItsNode(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	keeper := r.c.rateKeeper().index
	d := newDiary()
	run(t, r.c, WorkerOptions{Rate: 200}, d.done)
	r.enqueueN(10, "m")
	// What came of a delivery must be recorded before its node dies: at the end the
	// worker would wait for it.
	eventually(t, 30*time.Second, "the first", func() bool { return d.distinct() == 10 && r.empty() })
	r.servers[keeper].Kill()
	for i := range 20 {
		eventually(t, 30*time.Second, "it is in", func() bool {
			_, err := r.c.Enqueue(t.Context(), &Message{Body: fmt.Append(nil, "later", i)})
			return err == nil
		})
	}
	eventually(t, 30*time.Second, "the others", func() bool { return d.distinct() == 30 })
}
