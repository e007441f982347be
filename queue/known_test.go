package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// An id is still in the queue as long as one of its destinations has it: what that one
// waits for is not written over by another message.
func TestIDIsKnownForAllDestinations(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{Destinations: []string{"a", "b"}, KeepResult: 100 * time.Millisecond})
	r.enqueue(&Message{ID: "x", Body: []byte("first")})
	a, b := newDiary(), newDiary()
	_, drainA := run(t, r.c, WorkerOptions{Destination: "a"}, a.done)
	_, drainB := run(t, r.c, WorkerOptions{Destination: "b"}, func(_ context.Context, m *Delivery) Result {
		b.note(m)
		return Result{After: time.Hour}
	})
	raw, k := r.raw(), r.c.partitions[0].keys
	eventually(t, 30*time.Second, "a is done, and b waits", func() bool {
		return a.total() == 1 && raw.Exists(t.Context(), k.record("x~a")).Val() == 0 && raw.ZCard(t.Context(), k.delayed()).Val() == 1
	})
	if receipt, err := r.c.Enqueue(t.Context(), &Message{ID: "x", Body: []byte("first")}); err != nil || !receipt.Replayed {
		t.Errorf("the same again: got %+v, %v; want it replayed", receipt, err)
	}
	if _, err := r.c.Enqueue(t.Context(), &Message{ID: "x", Body: []byte("second")}); !errors.Is(err, ErrMismatch) {
		t.Errorf("with another body: got %v, want %v", err, ErrMismatch)
	}
	drainA()
	drainB()
	infos, err := r.c.Find(t.Context(), "x")
	if err != nil || len(infos) != 1 || string(infos[0].Body) != "first" || infos[0].State != stateDelayed {
		t.Errorf("got %+v, %v; want the first message, delayed for b alone", infos, err)
	}
	if a.total() != 1 || b.total() != 1 {
		t.Errorf("got %v and %v delivered, want each once", a.bodies(), b.bodies())
	}
}

// A dead letter that was dropped is gone, also where its second copy could not be
// reached just then.
func TestDropWhileTheCopyIsAway(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: time.Second})
	key := r.keyFor(0)
	eventually(t, 30*time.Second, "it is in", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{ID: key})
		return err == nil
	})
	raw, k := r.raw(), r.c.partitions[0].keys
	_, drain := run(t, r.c, WorkerOptions{}, func(context.Context, *Delivery) Result { return Result{Outcome: Dead} })
	eventually(t, 30*time.Second, "it is dead", func() bool { return raw.ZCard(t.Context(), k.dead()).Val() == 1 })
	drain()
	other := r.servers[1].Client(t)
	other.SlaveOf(t.Context(), "127.0.0.1", "1") // it takes no writes, and keeps what it has
	if n, err := r.c.Drop(t.Context(), nil, nil); n != 1 || err == nil {
		t.Errorf("dropped %d, %v; want 1, and an error of the other node", n, err)
	}
	other.SlaveOf(t.Context(), "NO", "ONE")
	if n := len(r.seconds(1)); n != 1 {
		t.Fatalf("%d second copies, want 1 still", n)
	}
	other.ZAdd(t.Context(), r.c.partitions[1].keys.seconds(), z(0, key))
	d := newDiary()
	_, drain = run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 30*time.Second, "the copy is seen to", func() bool {
		return len(r.seconds(1)) == 0 && raw.Exists(t.Context(), k.tombstone(key)).Val() == 0
	})
	drain()
	infos, _, err := r.c.Dead(t.Context(), 10, "")
	if err != nil || len(infos) > 0 || d.total() > 0 {
		t.Errorf("it came back: dead letters %v (%v), %d deliveries", infos, err, d.total())
	}
	r.expectEmpty()
}

// A message that is sent twice, as the first answer did not come, counts once where it
// waits: its order key is free when it is done.
func TestDelayedThatIsSentTwice(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 1, Options{PerKey: 2, Backlog: Backlog{Bytes: 1 << 20}, Destinations: []string{"a", "b"}})
	p, err := r.c.pack(&Message{OrderKey: "o", Delay: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p.partition = r.c.partitions[0]
	for range 2 {
		if over, err := r.c.send(t.Context(), p, noBounds); !over || err != nil {
			t.Fatalf("sending: %v, %v", over, err)
		}
	}
	d := newDiary()
	_, drainA := run(t, r.c, WorkerOptions{Destination: "a"}, d.done)
	_, drainB := run(t, r.c, WorkerOptions{Destination: "b"}, d.done)
	eventually(t, 30*time.Second, "it is done", func() bool { return d.total() >= 2 && r.empty() })
	drainA()
	drainB()
	r.expectEmpty()
}

// A message that is in twice, as the first answer did not come, and is tried again, leaves
// nothing behind either.
func TestReadyThatIsSentTwice(t *testing.T) {
	for name, fails := range map[string]int64{"one fails": 1, "both fail": 2, "both fail twice": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, 10*time.Second, 1, Options{PerKey: 2, Visibility: time.Second, Backlog: Backlog{Bytes: 1 << 20}})
			p, err := r.c.pack(&Message{OrderKey: "o"})
			if err != nil {
				t.Fatal(err)
			}
			p.partition = r.c.partitions[0]
			for range 2 {
				if over, err := r.c.send(t.Context(), p, noBounds); !over || err != nil {
					t.Fatalf("sending: %v, %v", over, err)
				}
			}
			var tries, under atomic.Int64
			d := newDiary()
			_, drain := run(t, r.c, WorkerOptions{}, func(ctx context.Context, m *Delivery) Result {
				under.Add(1)
				for end := time.Now().Add(2 * time.Second); under.Load() < 2 && time.Now().Before(end); {
					sleep(ctx, time.Millisecond) // both are under way
				}
				if n := tries.Add(1); n <= fails {
					return Result{After: 300 * time.Millisecond}
				}
				return d.done(ctx, m)
			})
			eventually(t, 60*time.Second, "it is done", func() bool { return d.total() >= 1 && r.empty() })
			drain()
			r.expectEmpty()
		})
	}
}

// The second copy of an earlier message of the same id, here of a dead letter that was
// dropped, leaves nothing in that of one which is put in later.
func TestCopyOfAnEarlierMessage(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: 10 * time.Second})
	key := r.keyFor(0)
	other, k := r.servers[1].Client(t), r.c.partitions[1].keys
	other.HSet(t.Context(), k.second(key), "i", key, "s", stateDead, "r", "bad", "x", "1", "a", "10", "c", "n0/0", "p", "1", dataField, "old")
	other.ZAdd(t.Context(), k.seconds(), z(1, key))
	eventually(t, 30*time.Second, "it is in", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{ID: key, Body: []byte("new")})
		return err == nil
	})
	is := r.seconds(1)[key]
	if is.state != "" || is.reason != "" || is.expires != 0 || is.attempts != 0 || !bytes.HasSuffix(is.frame, []byte("new")) {
		t.Errorf("the copy is %+v", is)
	}
	if other.HGet(t.Context(), k.second(key), "p").Val() != "1" {
		t.Error("it was promised, and is no more")
	}
}

// A message whose second copy cannot take the place of an earlier message's has it on
// another node; where there is none, it is refused: what is on one node only was
// promised to nobody.
func TestCopyOfAnEarlierMessageThatStays(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{2, 3} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			t.Parallel()
			r := newPatientRig(t, 10*time.Second, nodes, Options{Copies: 2, Visibility: 10 * time.Second})
			key := r.keyFor(0)
			second := r.c.pick(r.c.hashOf(key), func(p *partition) bool { return p.index == 0 })
			enqueue := func() error {
				for _, server := range r.servers {
					server.Client(t).FlushAll(t.Context())
				}
				other, k := r.servers[second.index].Client(t), second.keys
				other.HSet(t.Context(), k.second(key), "i", key, "c", "n0/0", dataField, "old")
				other.Set(t.Context(), k.seconds(), "no sorted set", 0)
				_, err := r.c.Enqueue(t.Context(), &Message{ID: key, Body: []byte("new")})
				return err
			}
			if nodes == 2 {
				eventually(t, 30*time.Second, "it is refused", func() bool {
					err := enqueue()
					if err == nil {
						t.Fatal("it was accepted without a second copy")
					}
					return errors.Is(err, ErrDurability) && r.raw().Exists(t.Context(), r.c.partitions[0].keys.stream("")).Val() == 1
				})
				return
			}
			eventually(t, 30*time.Second, "it is in", func() bool { return enqueue() == nil })
			for i := range r.servers {
				if i != second.index {
					if is, ok := r.seconds(i)[key]; ok && bytes.HasSuffix(is.frame, []byte("new")) {
						return
					}
				}
			}
			t.Error("it was accepted, and has no second copy")
		})
	}
}

// What says that an earlier message of the same id is done is no word about one that lives.
func TestTombstoneOfAnEarlierMessage(t *testing.T) {
	t.Parallel()
	r := newPatientRig(t, 10*time.Second, 2, Options{Copies: 2, Visibility: time.Second})
	key := r.keyFor(0)
	eventually(t, 30*time.Second, "it is in", func() bool {
		_, err := r.c.Enqueue(t.Context(), &Message{ID: key, Delay: time.Hour})
		return err == nil
	})
	other, seconds := r.servers[1].Client(t), r.c.partitions[1].keys.seconds()
	r.raw().Set(t.Context(), r.c.partitions[0].keys.tombstone(key), "1", time.Hour)
	other.ZAdd(t.Context(), seconds, z(0, key))
	run(t, r.c, WorkerOptions{}, newDiary().done)
	eventually(t, 30*time.Second, "the copy is seen to", func() bool {
		score, err := other.ZScore(t.Context(), seconds, key).Result()
		return errors.Is(err, redis.Nil) || score > 0
	})
	if len(r.seconds(1)) != 1 {
		t.Error("the second copy is gone")
	}
}
