package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

// seconds returns the second copies on a server, by record id.
func (r *rig) seconds(server int) map[string]record {
	r.t.Helper()
	client, k := r.servers[server].Client(r.t), r.c.partitions[server].keys
	out := map[string]record{}
	for _, id := range client.ZRange(context.Background(), k.seconds(), 0, -1).Val() {
		rec, err := parseRecord(client.HGetAll(context.Background(), k.second(id)).Val())
		if err != nil {
			r.t.Fatal(err)
		}
		out[id] = rec
	}
	return out
}

func TestCopiesAreOnTwoNodes(t *testing.T) {
	r := newRig(t, 3, Options{Copies: 2, InlineBody: 1000, Visibility: 10 * time.Second, Destinations: []string{"a", "b"}, Classes: []Class{{"high", 2}}})
	for name, kind := range kinds() {
		m := kind()
		m.Class = "high"
		receipt := r.enqueue(m)[0]
		first, found := r.c.byRef(receipt.Node+"/0"), 0
		for i := range r.servers {
			for _, destination := range r.c.o.Destinations {
				rid := recordID(receipt.ID, destination)
				second, ok := r.seconds(i)[rid]
				if !ok {
					continue
				}
				found++
				if i == first.index || second.copy != first.ref || second.id != receipt.ID || second.lane != lane(destination, "high") ||
					(m.OrderKey != "") != (second.order != "") || (m.Expire > 0) != (second.expires > 0) || second.size == 0 == (len(m.Body) > 1000) {
					t.Errorf("%s: the first is on %s, and a second on %s as %+v", name, first.ref, r.c.partitions[i].ref, second)
				}
				client := r.servers[i].Client(t)
				due := int64(client.ZScore(t.Context(), r.c.partitions[i].keys.seconds(), rid).Val())
				want := time.Now().Add(m.Delay + 2*r.c.o.Visibility).UnixMilli()
				if due < want-3000 || due > want+3000 {
					t.Errorf("%s: overdue in %d ms more than wanted", name, due-want)
				}
				if second.size > 0 {
					got, err := io.ReadAll(r.c.openChunks(r.c.partitions[i], rid, second.size))
					if err != nil || !bytes.Equal(got, m.Body) {
						t.Errorf("%s: the second's body has %d bytes, %v", name, len(got), err)
					}
					if ttl := client.PTTL(t.Context(), r.c.partitions[i].keys.chunk(rid, 0)).Val(); ttl != -1 {
						t.Errorf("%s: the second's body has a time to live of %v", name, ttl)
					}
				}
			}
		}
		if found != 2 {
			t.Errorf("%s: %d second copies, want 2", name, found)
		}
	}
}

func TestCopiesOfWhatIsRefusedAreNotThere(t *testing.T) {
	r := newRig(t, 2, Options{Copies: 2, InlineBody: 1000, Backlog: Backlog{Messages: 3}})
	m := func(n int) *Message {
		return &Message{DedupKey: "k", DedupWindow: time.Hour, Body: patternOf(n)}
	}
	r.enqueue(m(5000))
	named := func(n int) *Message { return &Message{ID: "mine", Body: patternOf(n)} }
	r.enqueue(named(6000))
	check := func(what string, want int) {
		t.Helper()
		if n := len(r.seconds(0)) + len(r.seconds(1)); n != want {
			t.Errorf("%s: %d second copies, want %d", what, n, want)
		}
	}
	check("at first", 2)
	for range 5 {
		if again := r.enqueue(m(5000))[0]; !again.Replayed {
			t.Error("not replayed")
		}
		if again := r.enqueue(named(6000))[0]; !again.Replayed {
			t.Error("not replayed")
		}
		for _, wrong := range []*Message{m(5001), named(6001)} {
			if _, err := r.c.Enqueue(t.Context(), wrong); !errors.Is(err, ErrMismatch) {
				t.Errorf("got %v, want %v", err, ErrMismatch)
			}
		}
	}
	check("after replays", 2)
	r.enqueue(&Message{})
	for range 3 {
		if _, err := r.c.Enqueue(t.Context(), &Message{Body: patternOf(2000)}); !errors.Is(err, ErrBacklog) {
			t.Errorf("got %v, want %v", err, ErrBacklog)
		}
	}
	check("with a full backlog", 3)
	for i := range r.servers {
		for id, second := range r.seconds(i) {
			if second.size == 0 {
				continue
			}
			if got, err := io.ReadAll(r.c.openChunks(r.c.partitions[i], id, second.size)); err != nil || !bytes.Equal(got, patternOf(int(second.size))) {
				t.Errorf("the body of %s is not what it was, %v", id, err)
			}
		}
	}
	seen := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, seen.done)
	eventually(t, 30*time.Second, "all three are done", func() bool { return seen.total() == 3 && r.empty() })
	eventually(t, 30*time.Second, "and their copies deleted", func() bool { return len(r.seconds(0))+len(r.seconds(1)) == 0 })
	drain()
	r.expectEmpty()
}

func TestCopiesNeedASecondNode(t *testing.T) {
	r := newRig(t, 2, Options{Copies: 2, InlineBody: 1000})
	r.enqueueMany(10, plainOrNot)
	if err := r.raw().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.servers[1].Kill()
	for name, kind := range kinds() {
		within(t, time.Second, "refusing "+name, func() {
			if _, err := r.c.Enqueue(t.Context(), kind()); !errors.Is(err, ErrDurability) {
				t.Errorf("%s: got %v, want %v", name, err, ErrDurability)
			}
		})
	}
	for _, key := range r.raw().Keys(t.Context(), "*").Val() {
		if r.raw().PTTL(t.Context(), key).Val() < 0 {
			t.Errorf("the other has %s", key)
		}
	}
}

func TestCopiesFollowAFirstThatGoesElsewhere(t *testing.T) {
	r := newRig(t, 3, Options{Copies: 2})
	r.enqueueMany(10, plainOrNot)
	r.servers[0].Kill()
	for range 30 {
		receipt := r.enqueue(&Message{})[0]
		found := 0
		for _, i := range []int{1, 2} {
			if second, ok := r.seconds(i)[receipt.ID]; ok {
				found++
				if second.copy != receipt.Node+"/0" || second.copy == r.c.partitions[i].ref {
					t.Errorf("the first is on %s, and the second on n%d says %s", receipt.Node, i, second.copy)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d second copies of %s on %s", found, receipt.ID, receipt.Node)
		}
	}
}
