package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

// keyFor returns a dedup key, or an id, whose messages go to a partition first.
func (r *rig) keyFor(index int) string {
	for n := 0; ; n++ {
		key := fmt.Sprint("key", n)
		if r.c.pick(r.c.hashOf(key), func(*partition) bool { return false }).index == index {
			return key
		}
	}
}

// A message whose enqueuing was refused, as its node did not say that it has it,
// is there nevertheless. Who comes again with its key is told that it is in: it
// must have its second copy by then, also if that was dropped when it was refused.
func TestReplayOfWhatWasRefusedHasItsCopy(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(key string) *Message{
		"dedup": func(key string) *Message {
			return &Message{DedupKey: key, DedupWindow: time.Hour, Body: []byte("x")}
		},
		"id": func(key string) *Message { return &Message{ID: key, Body: []byte("x")} },
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3, Options{Copies: 2, Visibility: time.Second})
			m := kind(r.keyFor(0))
			r.enqueueMany(10, plainOrNot) // all connected
			for i := range r.servers {
				r.servers[i].Client(t).FlushAll(t.Context())
			}
			r.servers[2].Kill()
			r.servers[0].Pause()
			if _, err := r.c.Enqueue(t.Context(), m); !errors.Is(err, ErrDurability) {
				t.Fatalf("without a node that answers: got %v, want %v", err, ErrDurability)
			}
			r.servers[0].Resume() // and it does now what it was told
			r.servers[2].Restart()
			raw, k := r.raw(), r.c.partitions[0].keys
			eventually(t, 30*time.Second, "it is in nevertheless", func() bool { return raw.XLen(t.Context(), k.stream("")).Val() == 1 })

			var receipt Receipt
			eventually(t, 30*time.Second, "it is replayed", func() (ok bool) {
				var err error
				receipt, err = r.client().Enqueue(t.Context(), m)
				return err == nil
			})
			if !receipt.Replayed || receipt.Node != "n0" {
				t.Fatalf("got %+v, want it replayed by n0", receipt)
			}
			r.servers[0].Kill()
			r.servers[0].Restart()
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{}, d.done)
			eventually(t, 30*time.Second, "it is delivered though its node has lost it", func() bool { return d.total() == 1 && r.empty() })
			drain()
			if d.deliveries()[0].ID != receipt.ID {
				t.Errorf("%s was delivered, want %s", d.deliveries()[0].ID, receipt.ID)
			}
			r.expectEmpty()
		})
	}
}

// A replay writes the second copy again where it is gone, as it was.
func TestReplayMendsTheCopy(t *testing.T) {
	r := newPatientRig(t, 10*time.Second, 3, Options{Copies: 2, Visibility: 10 * time.Second, InlineBody: 1000, Destinations: []string{"a", "b"}, Classes: []Class{{"high", 2}}})
	for name, kind := range map[string]*Message{
		"dedup":   {DedupKey: "k1", DedupWindow: time.Hour, Body: []byte("x"), Class: "high", Header: map[string]string{"a": "b"}},
		"id":      {ID: "k2", Body: []byte("x"), OrderKey: "o"},
		"both":    {ID: "k3", DedupKey: "k3", DedupWindow: time.Hour, Body: []byte("x")},
		"delayed": {ID: "k4", Body: []byte("x"), Delay: time.Hour},
		"chunks":  {DedupKey: "k5", DedupWindow: time.Hour, Body: patternOf(600_000)},
	} {
		again := func() *Message { m := *kind; return &m }
		receipt := r.enqueue(again())[0]
		rid := recordID(receipt.ID, "b")
		at := -1
		for i := range r.servers {
			if _, ok := r.seconds(i)[rid]; ok {
				at = i
			}
		}
		if at < 0 {
			t.Fatalf("%s: no second copy", name)
		}
		was, raw, p := r.seconds(at)[rid], r.servers[at].Client(t), r.c.partitions[at]
		raw.FlushAll(t.Context())
		if replayed := r.enqueue(again())[0]; !replayed.Replayed || replayed.ID != receipt.ID {
			t.Fatalf("%s: got %+v, want %s replayed", name, replayed, receipt.ID)
		}
		is, ok := r.seconds(at)[rid]
		if !ok {
			t.Errorf("%s: there is no second copy", name)
			continue
		}
		if is.id != was.id || is.lane != was.lane || is.copy != was.copy || is.order != was.order || is.size != was.size || !bytes.Equal(is.frame, was.frame) {
			t.Errorf("%s: the copy is %+v, want %+v", name, is, was)
		}
		if is.size > 0 {
			got, err := io.ReadAll(r.c.openChunks(p, rid, is.size))
			if err != nil || !bytes.Equal(got, kind.Body) || raw.PTTL(t.Context(), p.keys.chunk(rid, 0)).Val() != -1 {
				t.Errorf("%s: the copy's body has %d bytes, %v", name, len(got), err)
			}
		}
		all := 0
		for i := range r.servers {
			for id := range r.seconds(i) {
				if id == rid {
					all++
				}
			}
		}
		if all != 1 {
			t.Errorf("%s: it has %d second copies", name, all)
		}
	}
}

// Where the node that is to have the second copy is away, nobody is told that the
// message is on two; what is done needs no copy.
func TestReplayWithoutTheSecondNode(t *testing.T) {
	r := newRig(t, 3, Options{Copies: 2, Visibility: 10 * time.Second})
	m := func() *Message { return &Message{DedupKey: "k", DedupWindow: time.Hour, Body: []byte("x")} }
	receipt := r.enqueue(m())[0]
	at := -1
	for i := range r.servers {
		if len(r.seconds(i)) > 0 {
			at = i
		}
	}
	r.servers[at].Kill()
	within(t, time.Second, "refusing", func() {
		if _, err := r.client().Enqueue(t.Context(), m()); !errors.Is(err, ErrDurability) {
			t.Errorf("got %v, want %v", err, ErrDurability)
		}
	})
	d := newDiary()
	_, drain := run(t, r.client(), WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is done", func() bool { return d.total() == 1 })
	c := r.client()
	eventually(t, 30*time.Second, "and replayed as such", func() bool {
		again, err := c.Enqueue(context.Background(), m())
		return err == nil && again.Replayed && again.ID == receipt.ID
	})
	drain()
	if d.total() != 1 {
		t.Errorf("%d deliveries, want 1", d.total())
	}
}

// An enqueuing that is refused leaves the copy alone of which another one was told
// meanwhile that it is there.
func TestCopyThatWasPromisedStays(t *testing.T) {
	r := newRig(t, 2, Options{Copies: 2, Visibility: 10 * time.Second})
	m := func() *Message { return &Message{DedupKey: "k", DedupWindow: time.Hour, Body: []byte("x")} }
	receipt := r.enqueue(m())[0]
	_, at := r.withTheFirst()
	late := &parcel{m: m(), id: receipt.ID, second: r.c.partitions[at]} // has not heard that its message is in
	if !r.enqueue(m())[0].Replayed {
		t.Fatal("not replayed")
	}
	r.c.dropSecond(t.Context(), late)
	if len(r.seconds(at)) != 1 {
		t.Error("the copy is gone")
	}
	d := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "it is done", func() bool { return d.total() == 1 && r.empty() && r.noCopies() })
	drain()
	r.expectEmpty()
}

// TestReplayedIsDurable: Q1. Who comes with a key or an id that is in already is
// told so when it is as durable as asked; and then whoever put it in, for whom it
// was not durable enough, leaves it.
func TestReplayedIsDurable(t *testing.T) {
	kinds := map[string]func() *Message{
		"dedup": func() *Message { return &Message{DedupKey: "key", DedupWindow: time.Minute} },
		"id":    func() *Message { return &Message{ID: "01M8127VZGV9HWY2A4HBTSERF6"} },
		"order": func() *Message { return &Message{DedupKey: "key", DedupWindow: time.Minute, OrderKey: "o"} },
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, time.Second, 1, Options{Ack: Ack{Replicas: 1}})
			replica := follow(t, r.servers[0])
			// It waits in vain for as long as a slow machine needs to see it waiting.
			r.o.Ack.Replicas = 2
			asksTwo := r.client()
			put := func() (done chan error) {
				done = make(chan error, 1)
				go func() {
					_, err := asksTwo.Enqueue(context.Background(), kind())
					done <- err
				}()
				eventually(t, 30*time.Second, "it is in", func() bool { return len(r.keys()) > 0 })
				return done
			}

			refused := put()
			replica.Pause()
			if receipt, err := r.c.Enqueue(t.Context(), kind()); !errors.Is(err, ErrDurability) {
				t.Errorf("replayed without a replica: got %+v, %v; want %v", receipt, err, ErrDurability)
			}
			replica.Resume()
			if err := <-refused; !errors.Is(err, ErrDurability) {
				t.Fatalf("with one replica of two: got %v, want %v", err, ErrDurability)
			}
			r.raw().FlushAll(t.Context()) // it may have been promised, in vain

			eventually(t, 30*time.Second, "the replica follows again", func() bool {
				return r.raw().Do(t.Context(), "wait", 1, 100).Val() == int64(1) && len(replica.Client(t).Keys(t.Context(), "*").Val()) == 0
			})
			refused = put()
			receipt, err := r.c.Enqueue(t.Context(), kind())
			if err != nil || !receipt.Replayed {
				t.Fatalf("replayed: got %+v, %v; want no error", receipt, err)
			}
			if err := <-refused; !errors.Is(err, ErrDurability) {
				t.Fatalf("with one replica of two: got %v, want %v", err, ErrDurability)
			}
			r.expectDelivered(map[string]bool{receipt.ID: true}, nil)
		})
	}
}

// TestAllWhoAskAreRefused: Q2. Nobody promises a message that is not as durable as asked:
// if all who came with its key or id are refused, it is not there.
func TestAllWhoAskAreRefused(t *testing.T) {
	kinds := map[string]*Message{
		"dedup": {DedupKey: "key", DedupWindow: time.Minute},
		"id":    {ID: "id"},
		"order": {DedupKey: "key", DedupWindow: time.Minute, OrderKey: "o"},
	}
	for name, m := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, 3*time.Second, 1, Options{Ack: Ack{Replicas: 1}, Destinations: []string{"a", "b"}})
			if err := r.c.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			receipts, _ := r.c.EnqueueBatch(t.Context(), []*Message{m, m, m})
			for i, receipt := range receipts {
				if !errors.Is(receipt.Err, ErrDurability) {
					t.Errorf("%d: got %v, want %v", i, receipt.Err, ErrDurability)
				}
			}
			if keys := r.keys(); len(keys) > 0 {
				t.Errorf("there is still %q", keys)
			}
		})
	}
}

// Who is told that a message is in, which is not durable and was taken out meanwhile,
// puts it in elsewhere.
func TestReplayOfWhatWasTakenOut(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Ack: Ack{Replicas: 1}})
	key := r.c.partitions[0].keys.dedup("key")
	settle := func() (*parcel, bool, error) {
		p, err := r.c.pack(&Message{DedupKey: "key", DedupWindow: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		p.partition = r.c.partitions[0]
		s := r.c.sending(t.Context(), p, noBounds, false)
		s.durable = true
		s.cmds[0].(once).SetVal([]any{"replayed", "other", int64(-1), int64(-1), int64(-1)})
		over, err := r.c.settle(t.Context(), p, s, noBounds)
		return p, over, err
	}
	for _, is := range []string{"", "another digest"} {
		r.raw().Set(t.Context(), key, is, time.Minute)
		if p, over, err := settle(); over || !errors.Is(err, ErrDurability) || p.receipt.Replayed || p.receipt.ID != p.id {
			t.Errorf("with %q: got %v, %v, %+v; want it not decided", is, over, err, p.receipt)
		}
	}
	for range 2 {
		if is := r.raw().Get(t.Context(), key).Val(); is != "other digest+" {
			r.raw().Set(t.Context(), key, "other digest", time.Minute)
		}
		if p, over, err := settle(); !over || err != nil || !p.receipt.Replayed || p.receipt.ID != "other" {
			t.Errorf("where it is: got %v, %v, %+v; want it replayed", over, err, p.receipt)
		}
		if is, ttl := r.raw().Get(t.Context(), key).Val(), r.raw().PTTL(t.Context(), key).Val(); is != "other digest+" || ttl <= 0 {
			t.Errorf("the key is %q for %v, want it promised, and to end", is, ttl)
		}
	}
}
