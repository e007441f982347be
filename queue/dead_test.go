package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// makeDead makes dead letters of messages.
func (r *rig) makeDead(ms ...*Message) {
	r.t.Helper()
	r.enqueue(ms...)
	_, drain := run(r.t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result {
		return Result{Outcome: Dead, Status: 400, Reason: "bad"}
	})
	eventually(r.t, 20*time.Second, "all are dead", r.empty)
	drain()
}

func TestDeadLettersAreListedReplayedDropped(t *testing.T) {
	r := newRig(t, 3, Options{})
	const n = 250
	var ms []*Message
	for i := range n {
		ms = append(ms, &Message{ID: fmt.Sprint("id", i), Body: fmt.Append(nil, "body", i), Header: map[string]string{"content-type": "text/x"}})
	}
	r.makeDead(ms...)

	seen := map[string]bool{}
	var last time.Time
	pages := 0
	for cursor := ""; ; pages++ {
		infos, next, err := r.c.Dead(t.Context(), 40, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if seen[i.ID] || i.DiedAt.Before(last) || i.Header["content-type"] != "text/x" || i.Attempts != 1 ||
				string(i.Body) != strings.Replace(i.ID, "id", "body", 1) || i.LastStatus != 400 || i.Reason != "bad" {
				t.Errorf("got %+v after %v", i, last)
			}
			seen[i.ID], last = true, i.DiedAt
		}
		if next == "" {
			break
		}
		cursor = next
	}
	if len(seen) != n || pages != 6 {
		t.Errorf("got %d in %d pages, want %d in 7", len(seen), pages+1, n)
	}
	if _, _, err := r.c.Dead(t.Context(), 10, "nonsense"); !errors.Is(err, ErrCursor) {
		t.Errorf("got %v for nonsense, want ErrCursor", err)
	}

	if got, err := r.c.Drop(t.Context(), []string{"id7", "id8", "no such"}, nil); got != 2 || err != nil {
		t.Errorf("dropping two: got %d, %v", got, err)
	}
	if got, err := r.c.Replay(t.Context(), []string{"id0"}, nil); got != 1 || err != nil {
		t.Errorf("replaying one: got %d, %v", got, err)
	}
	var progress []int
	if got, err := r.c.Replay(t.Context(), nil, func(n int) { progress = append(progress, n) }); got != n-3 || err != nil {
		t.Errorf("replaying all: got %d, %v", got, err)
	}
	if len(progress) < 3 || !slices.IsSorted(progress) || progress[len(progress)-1] != n-3 {
		t.Errorf("got progress %v", progress)
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == n-2 && r.empty() })
	drain()
	for _, m := range d.deliveries() {
		if m.Attempt != 1 || m.ID != strings.Replace(string(m.Body), "body", "id", 1) {
			t.Errorf("got attempt %d of %s, %s", m.Attempt, m.ID, m.Body)
		}
	}
	r.expectEmpty()
}

// A letter that dies again while all are replayed is not replayed again.
func TestReplayAllEnds(t *testing.T) {
	r := newRig(t, 1, Options{})
	var ms []*Message
	for i := range 150 {
		ms = append(ms, &Message{Body: fmt.Append(nil, i)})
	}
	r.makeDead(ms...)
	run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead} })
	if n, err := r.c.Replay(t.Context(), nil, nil); n != 150 || err != nil {
		t.Errorf("got %d, %v, want 150", n, err)
	}
}

func TestReplayKeepsOrder(t *testing.T) {
	r := newRig(t, 1, Options{})
	var ms []*Message
	for i := range 5 {
		ms = append(ms, &Message{OrderKey: "k", Body: fmt.Append(nil, i)})
	}
	r.makeDead(ms...)
	if n, err := r.c.Replay(t.Context(), nil, nil); n != 5 || err != nil {
		t.Errorf("got %d, %v, want 5", n, err)
	}
	var now, most atomic.Int32
	_, drain := run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "all are delivered", r.empty)
	drain()
	if most.Load() != 1 {
		t.Errorf("got %d of one key at once", most.Load())
	}
	r.expectEmpty()
}

func TestDeadLetterInChunks(t *testing.T) {
	r := newRig(t, 1, Options{InlineBody: 1000})
	body := strings.Repeat("0123456789", 60_000) // three chunks
	r.makeDead(&Message{ID: "large", Body: []byte(body)}, &Message{ID: "other", Body: []byte(body)})
	infos, _, err := r.c.Dead(t.Context(), 10, "")
	if err != nil || len(infos) != 2 {
		t.Fatalf("got %v, %v", infos, err)
	}
	got, err := io.ReadAll(r.c.Open(t.Context(), infos[0]))
	if string(got) != body || err != nil || infos[0].Size != int64(len(body)) {
		t.Errorf("got %d bytes, %v, size %d; want %d", len(got), err, infos[0].Size, len(body))
	}
	if n, err := r.c.Replay(t.Context(), []string{"other"}, nil); n != 1 || err != nil {
		t.Errorf("replaying: got %d, %v", n, err)
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is delivered", func() bool { return d.of(body) == 1 && r.empty() })
	drain()
	if n, err := r.c.Drop(t.Context(), []string{"large"}, nil); n != 1 || err != nil {
		t.Errorf("dropping: got %d, %v", n, err)
	}
	r.expectEmpty()
}

func TestDeadLettersAreBounded(t *testing.T) {
	r := newRig(t, 1, Options{DeadLetters: 5, InlineBody: 10})
	var ms []*Message
	for i := range 30 {
		ms = append(ms, &Message{Body: fmt.Appendf(nil, "body %d in a chunk", i)})
	}
	r.makeDead(ms...)
	s := newSource(&Worker{client: r.c}, r.c.partitions[0])
	if err := s.boundDead(t.Context()); err != nil {
		t.Fatal(err)
	}
	infos, _, _ := r.c.Dead(t.Context(), 100, "")
	if len(infos) != 5 {
		t.Errorf("got %d, want 5", len(infos))
	}
	r.c.o.DeadLetters, r.c.o.DeadLetterAge = 0, time.Millisecond
	time.Sleep(5 * time.Millisecond)
	if err := s.boundDead(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectEmpty()
}

func TestBury(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Visibility: time.Second})
	r.enqueue(&Message{Body: []byte("x")}, &Message{Body: []byte("late"), Expire: time.Millisecond})
	r.raw().Do(t.Context(), "XADD", r.c.partitions[0].keys.stream(""), "*", "a", "garbage", dataField, "torn")
	time.Sleep(10 * time.Millisecond)
	buried := newDiary()
	var refused atomic.Bool
	_, drain := run(t, r.c, WorkerOptions{Attempts: 5, Bury: func(_ context.Context, d *Delivery, res Result) error {
		if string(d.Body) == "x" && !refused.Swap(true) {
			return errTest
		}
		buried.note(d)
		if want := map[string]int{"late": 0, "torn": 0}[string(d.Body)]; string(d.Body) != "x" && d.Attempt != want {
			t.Errorf("%s is buried after attempt %d, want %d", d.Body, d.Attempt, want)
		}
		return nil
	}}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead, Reason: "bad"} })
	eventually(t, 30*time.Second, "all are buried", func() bool { return buried.total() == 3 && r.empty() })
	drain()
	if infos, _, _ := r.c.Dead(t.Context(), 10, ""); len(infos) != 3 {
		t.Errorf("got dead letters %v, want 3", infos)
	}
	if buried.of("x") != 1 || buried.of("late") != 1 || buried.of("torn") != 1 {
		t.Errorf("got %v buried", buried.bodies())
	}
}

// What was delivered and cannot be buried is not delivered again for that, until it is replayed.
func TestBuryIsTriedAgainAlone(t *testing.T) {
	kinds := map[string]*Message{
		"plain": {Body: []byte("x")}, "id": {ID: "x", Body: []byte("x")}, "ordered": {OrderKey: "o", Body: []byte("x")},
		"chunks": {Body: []byte("a body that is longer")},
	}
	for name, m := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, 10*time.Second, 1, Options{Visibility: time.Second, InlineBody: 10})
			answers := r.raw().Subscribe(t.Context(), "answers")
			defer answers.Close()
			if _, err := answers.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.Header = map[string]string{headerReplyTo: "answers"}
			r.enqueue(m)
			var told, deliveries atomic.Int64
			var replayed atomic.Bool
			bury := func(_ context.Context, d *Delivery, res Result) error {
				if told.Add(1) < 3 {
					return errTest
				}
				if d.Attempt != 1 || res.Status != 400 || res.Reason != "bad" {
					t.Errorf("told of attempt %d and %+v", d.Attempt, res)
				}
				return nil
			}
			_, drain := run(t, r.c, WorkerOptions{Attempts: 1, Bury: bury}, func(context.Context, *Delivery) Result {
				deliveries.Add(1)
				if replayed.Load() {
					return Result{Outcome: Done}
				}
				return Result{Outcome: Dead, Status: 400, Reason: "bad", Response: &Response{Body: []byte("no")}}
			})
			raw, dead := r.raw(), r.c.partitions[0].keys.dead()
			eventually(t, 60*time.Second, "it is a dead letter", func() bool { return raw.ZCard(t.Context(), dead).Val() == 1 })
			if told.Load() != 3 || deliveries.Load() != 1 {
				t.Errorf("told %d times, and %d deliveries, want 3 and 1", told.Load(), deliveries.Load())
			}
			if infos, _, _ := r.c.Dead(t.Context(), 10, ""); len(infos) != 1 || infos[0].Reason != "bad" || infos[0].LastStatus != 400 || infos[0].Attempts != 1 {
				t.Errorf("got dead letters %+v", infos)
			}
			if _, err := answers.ReceiveTimeout(t.Context(), 20*time.Second); err != nil {
				t.Errorf("whoever waits for the answer has none: %v", err)
			}
			replayed.Store(true)
			if n, err := r.c.Replay(t.Context(), nil, nil); n != 1 || err != nil {
				t.Fatalf("replayed %d, %v", n, err)
			}
			eventually(t, 60*time.Second, "it is delivered", func() bool { return deliveries.Load() == 2 && r.empty() })
			drain()
			r.expectEmpty()
		})
	}
}

func TestDeadWithANodeAway(t *testing.T) {
	r := newRig(t, 2, Options{})
	var ms []*Message
	for i := range 20 {
		ms = append(ms, &Message{Body: fmt.Append(nil, i)})
	}
	r.makeDead(ms...)
	r.servers[0].Kill()
	infos, _, err := r.c.Dead(t.Context(), 100, "")
	if !errors.Is(err, ErrNoNode) || len(infos) == 0 || len(infos) == 20 {
		t.Errorf("got %d letters, %v; want those of the other node, and ErrNoNode", len(infos), err)
	}
	n, err := r.c.Drop(t.Context(), nil, nil)
	if !errors.Is(err, ErrNoNode) || n != len(infos) {
		t.Errorf("dropped %d, %v; want %d and ErrNoNode", n, err, len(infos))
	}
}
