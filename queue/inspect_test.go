package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestCountsPeekFind(t *testing.T) {
	r := newRig(t, 2, Options{Classes: []Class{{"high", 2}}})
	r.enqueueN(10, "plain")
	r.enqueue(
		&Message{ID: "h", Class: "high", Body: []byte("urgent")},
		&Message{ID: "d", Delay: time.Hour, Body: []byte("delayed")},
		&Message{ID: "o1", OrderKey: "k", Body: []byte("first")},
		&Message{ID: "o2", OrderKey: "k", Body: []byte("second")})
	tail := r.enqueue(&Message{OrderKey: "k", Body: []byte("third")})[0]
	time.Sleep(20 * time.Millisecond)
	var sum Count
	for i, n := range r.c.Counts(t.Context()) {
		if n.Err != nil || n.Node != fmt.Sprint("n", i) {
			t.Errorf("got %+v", n)
		}
		sum.Ready, sum.InFlight, sum.Delayed, sum.Dead = sum.Ready+n.Ready, sum.InFlight+n.InFlight, sum.Delayed+n.Delayed, sum.Dead+n.Dead
		sum.Oldest = max(sum.Oldest, n.Oldest)
	}
	if sum.Ready != 14 || sum.InFlight != 0 || sum.Delayed != 1 || sum.Oldest < 20*time.Millisecond || sum.Oldest > 5*time.Second {
		t.Errorf("got %+v, want 14 ready, 1 delayed", sum)
	}
	peeked, err := r.c.Peek(t.Context(), 5)
	if err != nil || len(peeked) != 5 || peeked[0].State != stateReady || peeked[0].AcceptedAt.After(peeked[4].AcceptedAt) {
		t.Errorf("got %+v, %v", peeked, err)
	}
	expect := func(id, state, class, body string, attempts int) Info {
		t.Helper()
		infos, err := r.c.Find(t.Context(), id)
		if err != nil || len(infos) != 1 {
			t.Fatalf("%s: got %v, %v", id, infos, err)
		}
		i := infos[0]
		if i.ID != id || i.State != state || i.Class != class || string(i.Body) != body || i.Attempts != attempts || i.Node == "" || i.AcceptedAt.IsZero() {
			t.Errorf("got %+v, want %s of class %q, %d attempts, with %s", i, state, class, attempts, body)
		}
		return i
	}
	expect("h", stateReady, "high", "urgent", 0)
	if i := expect("d", stateDelayed, "", "delayed", 0); time.Until(i.DueAt) < 50*time.Minute {
		t.Errorf("got due at %v", i.DueAt)
	}
	expect(tail.ID, stateReady, "", "third", 0)
	expect(peeked[1].ID, stateReady, peeked[1].Class, string(peeked[1].Body), 0)
	if _, err := r.c.FindTracked(t.Context(), peeked[1].ID); len(r.enqueue()) == 0 && peeked[1].ID != "h" && peeked[1].ID != "o1" && !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v for one that is not tracked", err)
	}
	if _, err := r.c.Find(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}

	goOn := make(chan struct{})
	_, drain := run(t, r.c, WorkerOptions{Concurrency: 30}, func(_ context.Context, m *Delivery) Result {
		<-goOn
		return Result{Outcome: Done, Status: 201, Response: &Response{Header: map[string]string{"a": "b"}, Body: []byte("answer")}}
	})
	eventually(t, 30*time.Second, "12 are in flight", func() bool {
		n := int64(0)
		for _, c := range r.c.Counts(t.Context()) {
			n += c.InFlight
		}
		return n == 12
	})
	expect("h", stateInFlight, "high", "urgent", 1)
	expect("o1", stateInFlight, "", "first", 1)
	close(goOn)
	eventually(t, 30*time.Second, "the tracked ones are done", func() bool {
		infos, _ := r.c.Find(t.Context(), "o2")
		return len(infos) == 1 && infos[0].State == stateDone
	})
	if i := expect("h", stateDone, "high", "", 1); i.Response == nil || string(i.Response.Body) != "answer" || i.Response.Header["a"] != "b" || i.LastStatus != 201 {
		t.Errorf("got %+v", i)
	}
	drain()
	r.servers[1].Kill()
	if _, err := r.c.Find(t.Context(), "nobody"); !errors.Is(err, ErrNoNode) {
		t.Errorf("got %v with a node away, want ErrNoNode", err)
	}
	r.raw().Del(t.Context(), r.c.partitions[0].keys.stream(""))
	r.servers[0].Client(t).Do(t.Context(), "XADD", r.c.partitions[0].keys.stream(""), "*", "i", "given back", dataField, "x")
	id := r.takeAway(1)[0]
	if n := r.c.Counts(t.Context()); n[0].InFlight != 1 || n[0].Ready != 0 {
		t.Errorf("got %+v with one in flight", n[0])
	}
	r.claim(id, nobodyName, time.Hour, "RETRYCOUNT", 0, "JUSTID")
	if n := r.c.Counts(t.Context()); n[0].InFlight != 0 || n[0].Ready != 1 {
		t.Errorf("got %+v with one given back", n[0])
	}
	if n := r.c.Counts(t.Context()); n[0].Err != nil || n[1].Err == nil {
		t.Errorf("got %+v with the second node away", n)
	}
}

// An ordered, tracked message that has waited for its turn is found in flight.
// A message is found wherever it waits for its order key, and one that does not is not.
func TestFindInALongList(t *testing.T) {
	r := newRig(t, 1, Options{})
	var messages []*Message
	for i := range 2*findPage + 2 {
		messages = append(messages, &Message{OrderKey: "k", Body: fmt.Append(nil, i)})
	}
	receipts, err := r.c.EnqueueBatch(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 1, 2, findPage, findPage + 1, findPage + 2, 2 * findPage, 2*findPage + 1} {
		infos, err := r.c.Find(t.Context(), receipts[at].ID)
		if err != nil || len(infos) != 1 || infos[0].ID != receipts[at].ID || infos[0].State != stateReady {
			t.Errorf("message %d: got %+v, %v", at, infos, err)
		}
	}
	if infos, err := r.c.Find(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v, %v, want %v", infos, err, ErrNotFound)
	}
}

func TestFindOrderedInFlight(t *testing.T) {
	r := newPatientRig(t, 10*time.Second, 1, Options{}) // where a message is is told once
	r.enqueue(&Message{ID: "a", OrderKey: "k"}, &Message{ID: "b", OrderKey: "k"})
	second, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		if m.ID == "b" {
			close(second)
			<-goOn
		}
		return Result{Outcome: Done}
	})
	t.Cleanup(release) // before the worker is drained
	<-second
	eventually(t, 30*time.Second, "b is in flight", func() bool {
		infos, err := r.c.FindTracked(t.Context(), "b")
		return err == nil && infos[0].State == stateInFlight && infos[0].Attempts == 1
	})
	release()
	eventually(t, 30*time.Second, "all is done", r.empty)
}

func TestDestinationsAreIndependent(t *testing.T) {
	r := newRig(t, 1, Options{Destinations: []string{"mail", "crm"}})
	r.enqueue(&Message{ID: "a", Body: []byte("to both")}, &Message{Body: []byte("plain")})
	mail, crm := newDiary(), newDiary()
	_, drainMail := run(t, r.c, WorkerOptions{Destination: "mail"}, mail.done)
	_, drainCRM := run(t, r.c, WorkerOptions{Destination: "crm", Attempts: 2}, func(_ context.Context, m *Delivery) Result {
		crm.note(m)
		return Result{}
	})
	eventually(t, 30*time.Second, "both are through", r.empty)
	drainMail()
	drainCRM()
	if mail.total() != 2 || crm.total() != 4 || mail.deliveries()[0].Destination != "mail" {
		t.Errorf("got %v and %v", mail.bodies(), crm.bodies())
	}
	infos, err := r.c.Find(t.Context(), "a")
	if err != nil || len(infos) != 2 || infos[0].State == infos[1].State {
		t.Errorf("got %+v, %v; want one done and one dead", infos, err)
	}
	if n, err := r.c.Drop(t.Context(), nil, nil); n != 2 || err != nil {
		t.Errorf("dropping: got %d, %v", n, err)
	}
	r.expectEmpty()
}
