package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func TestDeliverAll(t *testing.T) {
	r := newRig(t, 3, Options{})
	r.enqueueN(500, "early")
	d, seen := newDiary(), &watcher{}
	_, drain := run(t, r.c, WorkerOptions{Observe: seen}, d.done)
	r.enqueueN(500, "late")
	eventually(t, 30*time.Second, "all are delivered", func() bool { return d.distinct() == 1000 })
	drain()
	if twice := d.twice(); len(twice) > 0 {
		t.Errorf("delivered more than once: %v", twice)
	}
	if got := seen.count(stateDone); got != 1000 {
		t.Errorf("got %d that ended done, want 1000", got)
	}
	if more := seen.others(); len(more) > 0 {
		t.Errorf("troubles: %v", more)
	}
	if keys := r.keys(); len(keys) > 0 {
		t.Errorf("left on the nodes: %v", keys)
	}
}

func TestRetryThenDone(t *testing.T) {
	r := newRig(t, 1, Options{})
	r.enqueue(&Message{Body: []byte("x"), Header: map[string]string{"content-type": "text/plain"}})
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		d.note(m)
		if m.Attempt < 3 {
			return Result{Outcome: Retry, Status: 500 + m.Attempt, Reason: fmt.Sprint("no ", m.Attempt)}
		}
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "the third attempt", func() bool { return d.total() == 3 })
	drain()
	for i, m := range d.deliveries() {
		if m.Attempt != i+1 || m.ID != d.deliveries()[0].ID || string(m.Body) != "x" || m.Header["content-type"] != "text/plain" {
			t.Errorf("delivery %d: got attempt %d of %s with %q, %v", i, m.Attempt, m.ID, m.Body, m.Header)
		}
	}
	if m := d.deliveries()[2]; m.LastStatus != 502 || m.LastError != "no 2" {
		t.Errorf("got last status %d and error %q, want 502 and no 2", m.LastStatus, m.LastError)
	}
	if age := time.Since(d.deliveries()[2].AcceptedAt); age < 0 || age > 10*time.Second {
		t.Errorf("accepted %v ago, says the third attempt", age)
	}
	r.expectEmpty()
}

func TestAttemptsUsedUpAndDead(t *testing.T) {
	r := newRig(t, 2, Options{})
	r.enqueue(&Message{Body: []byte("fails")}, &Message{Body: []byte("refused")})
	var tries atomic.Int32
	_, drain := run(t, r.c, WorkerOptions{Attempts: 3}, func(_ context.Context, m *Delivery) Result {
		if string(m.Body) == "refused" {
			return Result{Outcome: Dead, Status: 404, Reason: "nobody there"}
		}
		tries.Add(1)
		return Result{Reason: "not today"}
	})
	var dead []Info
	eventually(t, 30*time.Second, "two dead letters", func() bool {
		dead, _, _ = r.c.Dead(t.Context(), 10, "")
		return len(dead) == 2
	})
	drain()
	if got := tries.Load(); got != 3 {
		t.Errorf("got %d attempts, want 3", got)
	}
	for _, i := range dead {
		want := Info{Reason: "not today", Attempts: 3}
		if string(i.Body) == "refused" {
			want = Info{Reason: "nobody there", Attempts: 1, LastStatus: 404}
		}
		if i.Reason != want.Reason || i.Attempts != want.Attempts || i.LastStatus != want.LastStatus || i.State != stateDead {
			t.Errorf("got dead letter %+v, want %+v", i, want)
		}
	}
	if n, err := r.c.Drop(t.Context(), nil, nil); n != 2 || err != nil {
		t.Errorf("dropping: got %d, %v, want 2", n, err)
	}
	r.expectEmpty()
}
