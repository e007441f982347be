package queue

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// Never early, by the node's clock; and soon after.
func TestDelayed(t *testing.T) {
	r := newRig(t, 2, Options{})
	d := newDiary()
	late := make(chan time.Duration, 1000)
	run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		due, _ := strconv.ParseInt(m.Header["due"], 10, 64)
		late <- time.Since(time.UnixMicro(due))
		return d.done(t.Context(), m)
	})
	const n = 200
	other := r.client() // whose worker does not know of them
	for i := range n {
		delay := time.Duration(1+i*7) * time.Millisecond
		due := time.Now().Add(delay)
		m := &Message{Delay: delay, Header: map[string]string{"due": strconv.FormatInt(due.UnixMicro(), 10)}, Body: fmt.Append(nil, i)}
		if i%3 == 0 {
			m.OrderKey = fmt.Sprint("k", i%2)
		}
		if _, err := other.Enqueue(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.total() == n })
	var worst time.Duration
	for range n {
		l := <-late
		worst = max(worst, l)
		if l < -time.Millisecond { // a millisecond is the node's unit
			t.Errorf("delivered %v early", -l)
		}
	}
	if worst > 3*time.Second {
		t.Errorf("delivered up to %v late", worst)
	}
	eventually(t, 30*time.Second, "all is done", r.empty)
	r.expectEmptyButStreams()
}

// Ten thousand that are due over five seconds: none early, all of them, and not all
// at the end.
func TestTenThousandDelayed(t *testing.T) {
	t.Parallel()
	const n, over, first = 10_000, 5 * time.Second, 2 * time.Second
	r := newPatientRig(t, 10*time.Second, 2, Options{}) // what is enqueued twice is delivered twice
	due := make([]time.Time, n)
	ms := make([]*Message, n)
	var early, total atomic.Int64
	times := make([]atomic.Int32, n)
	var half atomic.Int64 // how many were delivered before the last half began
	enqueued := make(chan struct{})
	deliver := func(_ context.Context, m *Delivery) Result {
		<-enqueued // due is written
		var i int
		fmt.Sscan(string(m.Body), &i)
		if time.Until(due[i]) > time.Millisecond { // the node's unit
			early.Add(1)
		}
		if time.Until(due[n/2]) > 0 {
			half.Add(1)
		}
		times[i].Add(1)
		total.Add(1)
		return Result{Outcome: Done}
	}
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 64}, deliver)
	_, drainOther := run(t, r.client(), WorkerOptions{Concurrency: 64}, deliver)
	for i := range ms {
		ms[i] = &Message{Delay: first + over*time.Duration(i)/n, Body: fmt.Append(nil, i)}
	}
	for part := range 20 { // all of them take less time than the first is delayed
		batch := ms[part*n/20 : (part+1)*n/20]
		began := time.Now() // and not sooner than by this
		for i, m := range batch {
			due[part*n/20+i] = began.Add(m.Delay)
		}
		if _, err := r.c.EnqueueBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	close(enqueued)
	eventually(t, 60*time.Second, "all are delivered", func() bool { return total.Load() >= n && r.empty() })
	drain()
	drainOther()
	if e := early.Load(); e > 0 {
		t.Errorf("%d were early", e)
	}
	if h := half.Load(); h < n/20 {
		t.Errorf("%d were delivered before the second half was due, want about %d", h, n/2)
	}
	for i := range times {
		if k := times[i].Load(); k != 1 {
			t.Errorf("message %d was delivered %d times", i, k)
		}
	}
	r.expectEmpty()
}

// A process that takes the node's clock for another, by ten minutes, makes
// nothing ready early.
func TestTheNodeJudgesWhatIsDue(t *testing.T) {
	r := newRig(t, 1, Options{})
	p := r.c.partitions[0]
	p.taken.shown, p.taken.asked, p.taken.measured = time.Now().Add(10*time.Minute), time.Now(), time.Now()
	d := newDiary()
	run(t, r.c, WorkerOptions{}, d.done)
	begin := time.Now()
	r.enqueue(&Message{Delay: 800 * time.Millisecond, Body: []byte("x")})
	eventually(t, 30*time.Second, "it is delivered", func() bool { return d.total() == 1 })
	if took := time.Since(begin); took < 800*time.Millisecond {
		t.Errorf("delivered after %v, want 800 ms", took)
	}
}

func TestRetryAfterIsALowerBound(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(&Message{Body: []byte("x")})
	times := make(chan time.Time, 2)
	run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result {
		times <- time.Now()
		if len(times) < 2 {
			return Result{After: 700 * time.Millisecond}
		}
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "two attempts", func() bool { return len(times) == 2 })
	first, second := <-times, <-times
	if after := second.Sub(first); after < 700*time.Millisecond || after > 3*time.Second {
		t.Errorf("tried again after %v, want 700 ms or somewhat more", after)
	}
}

func TestReleaseCostsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			r := newRig(t, 1, Options{Visibility: time.Second})
			r.enqueue(&Message{Body: []byte("x")})
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{Attempts: 2}, func(_ context.Context, m *Delivery) Result {
				d.note(m)
				if d.total() < 4 {
					return Result{Outcome: Release, After: after}
				}
				return Result{Outcome: Done}
			})
			eventually(t, 30*time.Second, "the fourth delivery", func() bool { return d.total() == 4 && r.empty() })
			drain()
			for _, m := range d.deliveries() {
				if m.Attempt != 1 {
					t.Errorf("got attempt %d, want 1", m.Attempt)
				}
			}
			r.expectEmpty()
		})
	}
}

func TestExpired(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(
		&Message{Expire: 50 * time.Millisecond, Body: []byte("too late")},
		&Message{Expire: 500 * time.Microsecond, Body: []byte("much too late")},
		&Message{Expire: time.Hour, Body: []byte("in time")})
	time.Sleep(100 * time.Millisecond)
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "all are seen to", r.empty)
	drain()
	if d.total() != 1 || d.of("in time") != 1 {
		t.Errorf("got %v delivered", d.bodies())
	}
	dead, _, _ := r.c.Dead(t.Context(), 10, "")
	if len(dead) != 2 || dead[0].Reason != "expired" || dead[0].Attempts != 0 || dead[1].Reason != "expired" {
		t.Errorf("got dead letters %+v", dead)
	}
	// Who replays it wants it delivered.
	if n, err := r.c.Replay(t.Context(), nil, nil); n != 2 || err != nil {
		t.Errorf("replaying: got %d, %v", n, err)
	}
	_, drain = run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "they are delivered after all", func() bool { return d.of("too late") == 1 && d.of("much too late") == 1 && r.empty() })
	drain()
	r.expectEmpty()
}

// What expires while it waits for its next attempt is a dead letter then, not when that
// is due.
func TestExpiredBeforeTheNextAttempt(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(&Message{Expire: time.Second, OrderKey: "k", Body: []byte("failing")}, &Message{OrderKey: "k", Body: []byte("next")})
	d := newDiary()
	run(t, r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
		res := d.done(ctx, m)
		if string(m.Body) == "failing" {
			return Result{Outcome: Retry, After: time.Hour, Status: 503}
		}
		return res
	})
	eventually(t, 10*time.Second, "all are seen to", r.empty)
	if d.of("failing") != 1 || d.of("next") != 1 {
		t.Errorf("got %v delivered, want each once", d.bodies())
	}
	dead, _, _ := r.c.Dead(t.Context(), 10, "")
	if len(dead) != 1 || dead[0].Reason != "expired" || dead[0].Attempts != 1 || dead[0].LastStatus != 503 {
		t.Errorf("got dead letters %+v", dead)
	}
}

func TestBackoffIsSpreadAndBounded(t *testing.T) {
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	for attempt := 1; attempt <= 80; attempt++ {
		ceiling := longest
		if attempt < 7 {
			ceiling = min(longest, first<<(attempt-1))
		}
		var low, high, sum time.Duration = time.Hour, 0, 0
		const n = 400
		for range n {
			b := backoff(first, longest, attempt, 0)
			low, high, sum = min(low, b), max(high, b), sum+b
		}
		if low < 0 || high > ceiling || low > ceiling/10 || high < ceiling*9/10 {
			t.Errorf("attempt %d: got %v to %v, want 0 to %v", attempt, low, high, ceiling)
		}
		if mean := sum / n; mean < ceiling*2/5 || mean > ceiling*3/5 {
			t.Errorf("attempt %d: got %v on average, want half of %v", attempt, mean, ceiling)
		}
		after := 2 * ceiling
		if b := backoff(first, longest, attempt, after); b < after || b > after+after/10 {
			t.Errorf("attempt %d: got %v after being told %v", attempt, b, after)
		}
	}
}

// What is known of the node's clock stays right when this machine's is set: else dead
// letters would be taken for old, and dropped.
func TestTheNodesClockGoesOn(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, 48 * time.Hour} {
		var p taken
		p.shown, p.asked = time.UnixMilli(1e12), set(time.Now(), by)
		if got := p.nodeTime().Sub(p.shown); got < 0 || got > time.Minute {
			t.Errorf("after a moment, in which the clock was set by %s, the node's has gone on by %s", -by, got)
		}
	}
}

// set returns t as it was read from a clock that showed more by d, and has been set
// since: with another wall clock reading, and the same monotonic one.
func set(t time.Time, d time.Duration) time.Time {
	was := t.Round(0).Add(d)
	// See package time: seconds since 1885 above 30 bits of nanoseconds, and a flag.
	wall := (*uint64)(unsafe.Pointer(&t))
	since1885 := uint64(was.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	*wall = 1<<63 | since1885<<30 | uint64(was.Nanosecond())
	return t
}
