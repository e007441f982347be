package queue

import (
	"cmp"
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

func TestCopiesLeaveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
	large := strings.Repeat("large ", 100)
	for i := range 60 {
		m := &Message{Body: fmt.Append(nil, i)}
		switch i % 4 {
		case 1:
			m.OrderKey = "k"
		case 2:
			m.Body = fmt.Append(nil, large, i)
		case 3:
			m.Delay = 100 * time.Millisecond
		}
		r.enqueue(m)
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, func(_ context.Context, m *Delivery) Result {
		if m.Attempt == 1 && m.Size%2 == 0 {
			return Result{}
		}
		time.Sleep(5 * time.Millisecond)
		d.note(m)
		return Result{Outcome: Done}
	})
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == 60 && r.empty() })
	time.Sleep(3 * time.Second) // were a copy left, it would come now
	drain()
	if d.total() != 60 {
		t.Errorf("got %d deliveries, want 60", d.total())
	}
	r.expectEmpty()
}

// A node that is gone, for good or without its data, loses nothing.
func TestCopiesSurviveTheirNode(t *testing.T) {
	t.Parallel()
	for _, returns := range []bool{true, false} {
		t.Run(fmt.Sprint("returns ", returns), func(t *testing.T) {
			r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
			large := strings.Repeat("large ", 100)
			bodies := map[string]bool{}
			for i := range 90 {
				m := &Message{Body: fmt.Append(nil, i), Track: i%5 == 0}
				switch i % 4 {
				case 1:
					m.OrderKey = fmt.Sprint(i % 3)
				case 2:
					m.Body = fmt.Append(nil, large, i)
				case 3:
					m.Delay = 200 * time.Millisecond
				}
				bodies[string(m.Body)] = true
				r.enqueue(m)
			}
			r.servers[0].Kill()
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{}, d.done)
			if returns {
				r.servers[0].Restart()
			}
			eventually(t, 30*time.Second, "all are delivered", func() bool { return d.distinct() == 90 })
			drain()
			for body := range d.times {
				if !bodies[body] {
					t.Errorf("got %.20q, which nobody sent", body)
				}
			}
			if twice := d.twice(); len(twice) > 0 {
				t.Errorf("more than once: %v", twice)
			}
		})
	}
}

// What waits for longer than its copy is hidden is not delivered twice.
func TestCopiesOfABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second})
	if err := r.c.SetPaused(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	r.enqueueN(300, "m")
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	time.Sleep(5 * time.Second)
	if n := r.raw().XLen(t.Context(), r.c.partitions[0].keys.stream("")).Val() +
		r.servers[1].Client(t).XLen(t.Context(), r.c.partitions[1].keys.stream("")).Val(); n != 300 {
		t.Errorf("got %d entries after a while, want 300", n)
	}
	if err := r.c.SetPaused(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == 300 && r.empty() })
	drain()
	if d.total() != 300 {
		t.Errorf("got %d deliveries, want 300", d.total())
	}
	r.expectEmpty()
}

// withTheFirst returns which of two servers has the only message, and which its copy.
func (r *rig) withTheFirst() (first, second int) {
	r.t.Helper()
	for i, s := range r.servers {
		if s.Client(r.t).ZCard(context.Background(), r.c.partitions[i].keys.seconds()).Val() > 0 {
			return 1 - i, i
		}
	}
	r.t.Fatal("no second copy")
	return 0, 0
}

// A second copy on a node that was away when the first was done is deleted when
// it is back.
func TestCopyThatCouldNotBeTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second})
	r.enqueue(&Message{Body: []byte("x")})
	_, second := r.withTheFirst()
	r.servers[second].Pause()
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is delivered", func() bool { return d.total() == 1 })
	time.Sleep(2500 * time.Millisecond)
	r.servers[second].Resume()
	eventually(t, 30*time.Second, "the copy is gone", func() bool {
		return r.servers[second].Client(t).Exists(t.Context(), r.c.partitions[second].keys.seconds()).Val() == 0
	})
	drain()
	if d.total() != 1 {
		t.Errorf("got %d deliveries, want 1", d.total())
	}
	r.expectEmpty()
}

// A dead letter keeps its copy until it is dropped, or done after all.
func TestCopyOfADeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second})
	r.makeDead(&Message{ID: "a", Body: []byte("x")})
	first, second := r.withTheFirst()
	seconds, raw := r.c.partitions[second].keys.seconds(), r.servers[second].Client(t)
	eventually(t, 30*time.Second, "the copy is pushed", func() bool {
		due := raw.ZScore(t.Context(), seconds, "a").Val()
		return time.Until(time.UnixMilli(int64(due))) > 50*time.Minute
	})
	if n, err := r.c.Drop(t.Context(), []string{"a"}, nil); n != 1 || err != nil {
		t.Errorf("dropping: got %d, %v", n, err)
	}
	r.expectEmpty()

	r.makeDead(&Message{ID: "b", Body: []byte("y")})
	first, second = r.withTheFirst()
	seconds, raw = r.c.partitions[second].keys.seconds(), r.servers[second].Client(t)
	raw.ZAdd(t.Context(), seconds, z(1, "b")) // as if an hour had gone
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is found dead", func() bool {
		return time.Until(time.UnixMilli(int64(raw.ZScore(t.Context(), seconds, "b").Val()))) > 50*time.Minute
	})
	if d.total() > 0 {
		t.Error("a dead letter was delivered by its copy")
	}
	r.servers[first].Client(t).FlushAll(t.Context())
	eventually(t, 30*time.Second, "it is a dead letter where its copy was, and has another copy", func() bool {
		return len(r.deadOn(second)) == 1 && len(r.seconds(first)) == 1 && len(r.seconds(second)) == 0
	})
	if copy := r.seconds(first)["b"]; copy.state != stateDead || copy.copy != r.c.partitions[second].ref {
		t.Errorf("its new copy is %+v", copy)
	}
	drain()
	if d.total() > 0 {
		t.Error("a dead letter was tried again")
	}
	if n, err := r.c.Drop(t.Context(), nil, nil); n != 1 || err != nil {
		t.Errorf("dropping: got %d, %v", n, err)
	}
	r.expectEmpty()
}

// deadOn returns the dead letters on a server, by record id.
func (r *rig) deadOn(server int) map[string]record {
	r.t.Helper()
	client, k := r.servers[server].Client(r.t), r.c.partitions[server].keys
	out := map[string]record{}
	for _, id := range client.ZRange(context.Background(), k.dead(), 0, -1).Val() {
		rec, err := parseRecord(client.HGetAll(context.Background(), k.record(id)).Val())
		if err != nil {
			r.t.Fatal(err)
		}
		out[id] = rec
	}
	return out
}

// A second copy on a node that did not say that it has it, so that another one has it
// too, is deleted: it would come back when the message is long done, or dropped.
func TestCopyThatNobodyKnowsOf(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second})
	order := []int{0, 1, 2}
	hash := r.c.hashOf("k")
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(r.c.partitions[b].draw(hash), r.c.partitions[a].draw(hash))
	})
	silent, other := order[1], order[2]
	// It has connections then, and knows the script.
	if err := errors.Join(r.c.Check(t.Context()), putSecondScript.script.Load(t.Context(), r.servers[silent].Client(t)).Err()); err != nil {
		t.Fatal(err)
	}
	r.servers[silent].Pause()
	r.enqueue(&Message{OrderKey: "k", Body: []byte("x")})
	r.servers[silent].Resume()
	eventually(t, 5*time.Second, "the silent node has a copy as well", func() bool {
		return len(r.seconds(silent)) == 1 && len(r.seconds(other)) == 1
	})
	_, drain := run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead, Status: 422} })
	eventually(t, 15*time.Second, "that one is deleted", func() bool { return len(r.seconds(silent)) == 0 })
	if len(r.seconds(other)) != 1 {
		t.Error("so is the other one")
	}
	drain()
	if n, err := r.c.Drop(t.Context(), nil, nil); n != 1 || err != nil {
		t.Errorf("got %d, %v, want one dead letter", n, err)
	}
	r.expectEmpty()
}

// What is done takes no body from a message that its second copy has become.
func TestCopyThatBecameAMessageKeepsItsBody(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second, InlineBody: 100})
	body := strings.Repeat("large ", 100)
	r.enqueue(&Message{Body: []byte(body)})
	first, second := r.withTheFirst()
	goOn, begun := make(chan struct{}), make(chan struct{})
	var attempts atomic.Int32
	_, drain := run(t, r.c, WorkerOptions{Attempts: 3}, func(_ context.Context, m *Delivery) Result {
		if m.Node == r.c.partitions[first].node.Name() {
			close(begun)
			<-goOn
			return Result{Outcome: Done}
		}
		if attempts.Add(1) == 1 {
			return Result{After: 3 * time.Second}
		}
		got, err := io.ReadAll(m.Open())
		if err != nil || string(got) != body {
			t.Errorf("got %d bytes, %v, want %d", len(got), err, len(body))
		}
		return Result{Outcome: Done}
	})
	<-begun
	r.servers[first].Pause()
	delayed := r.servers[second].Client(t)
	eventually(t, 15*time.Second, "the copy is a message that waits for its next attempt", func() bool {
		return delayed.ZCard(t.Context(), r.c.partitions[second].keys.delayed()).Val() == 1
	})
	r.servers[first].Resume()
	close(goOn)
	eventually(t, 15*time.Second, "both are done", func() bool { return attempts.Load() == 2 && r.empty() })
	drain()
	r.expectEmpty()
}
