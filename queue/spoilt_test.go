package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Somebody else may write to the keys of a queue. What is of no use there is passed
// over, and holds up nothing beside it.

func TestSpoiltDeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{})
	r.makeDead(&Message{Body: []byte("a")}, &Message{Body: []byte("b")})
	ctx, k := t.Context(), r.c.partitions[0].keys
	for _, name := range []string{"spoilt", "dropped"} {
		r.raw().ZAdd(ctx, k.dead(), z(1, name))
		r.raw().Set(ctx, k.record(name), "no record", 0)
	}
	infos, _, err := r.c.Dead(ctx, 10, "")
	if err != nil || len(infos) != 4 {
		t.Errorf("got %d dead letters and %v, want 4", len(infos), err)
	}
	if n, err := r.c.Drop(ctx, []string{"dropped"}, nil); n != 1 || err != nil {
		t.Errorf("got %d dropped and %v, want 1", n, err)
	}
	if n, err := r.c.Replay(ctx, nil, nil); n != 2 || err != nil {
		t.Errorf("got %d replayed and %v, want 2", n, err)
	}
	if n := r.raw().ZCard(ctx, k.dead()).Val(); n != 0 {
		t.Errorf("%d dead letters are left, want none", n)
	}
}

func TestSpoiltOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{Backlog: Backlog{Messages: 100, Bytes: 1 << 20}, Visibility: time.Second})
	d := newDiary()
	var want []string
	ctx, k := t.Context(), r.c.partitions[0].keys
	put := func(n int) {
		for range n {
			body := fmt.Sprint("m", len(want))
			want = append(want, body)
			r.enqueue(&Message{Body: []byte(body), OrderKey: "key"})
		}
	}
	put(3)
	list := k.order(orderHash("", "key"))
	for _, junk := range []string{"junk", "\xc1", "\x93\x01\x02\x03", "\x91\xa0", "\x80", "\x93\xa0\xa1i\x01"} {
		r.raw().LPush(ctx, list, junk)
	}
	r.raw().HSet(ctx, k.counters(), "w", "junk", "b", "junk")
	put(2)
	r.raw().HSet(ctx, k.orders(), orderHash("", "key"), "junk", "other", "junk")
	run(t, r.c, WorkerOptions{}, d.done)
	eventually(t, 20*time.Second, "all are delivered", func() bool { return d.distinct() == len(want) })
	if got := d.bodies(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSpoiltSecondCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{Copies: 2, Visibility: time.Second})
	ctx := t.Context()
	for i := range 6 {
		r.enqueue(&Message{Body: fmt.Append(nil, i)})
	}
	for _, p := range r.c.partitions {
		p.client().ZAdd(ctx, p.keys.seconds(), z(1, "spoilt"), z(1, "torn"))
		p.client().Set(ctx, p.keys.second("spoilt"), "no copy", 0)
		p.client().HSet(ctx, p.keys.second("torn"), "c", "nowhere/0", "n", "-1")
	}
	r.servers[0].Kill()
	d := newDiary()
	run(t, r.c, WorkerOptions{}, d.done)
	there := r.c.partitions[1]
	eventually(t, 30*time.Second, "copies of what is lost are messages", func() bool {
		return d.distinct() == 6 && there.client().ZScore(ctx, there.keys.seconds(), "spoilt").Err() != nil
	})
}
