package queue

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestEnqueueOfOneDedupKeyAtOnceIsOneMessage(t *testing.T) {
	r := newRig(t, 2, Options{})
	other := r.client()
	for round := range 5 {
		key := fmt.Sprint("key ", round)
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids, replayed := map[string]int{}, 0
		for i := range 50 {
			c := []*Client{r.c, other}[i%2]
			wg.Go(func() {
				receipt, err := c.Enqueue(t.Context(), &Message{DedupKey: key, DedupWindow: time.Minute, Body: []byte("same")})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				ids[receipt.ID]++
				if receipt.Replayed {
					replayed++
				}
			})
		}
		wg.Wait()
		if len(ids) != 1 || replayed != 49 {
			t.Errorf("%d ids, %d replayed, want 1 and 49", len(ids), replayed)
		}
	}
	if n := len(r.entries("")); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
}

func TestEnqueueDedup(t *testing.T) {
	r := newRig(t, 2, Options{})
	m := func(body string, window time.Duration) *Message {
		return &Message{DedupKey: "k", DedupWindow: window, Body: []byte(body)}
	}
	first := r.enqueue(m("a", 300*time.Millisecond))[0]
	for i, server := range r.servers {
		if ttl := server.Client(t).PTTL(t.Context(), r.c.partitions[i].keys.dedup("k")).Val(); ttl > 0 && ttl < 100*time.Millisecond || ttl > 300*time.Millisecond {
			t.Errorf("the key stands for %v, want 300ms", ttl)
		}
	}
	if again := r.enqueue(m("a", time.Hour))[0]; !again.Replayed || again.ID != first.ID || again.Node != first.Node {
		t.Errorf("the same again: got %+v, want %+v replayed", again, first)
	}
	if _, err := r.c.Enqueue(t.Context(), m("b", time.Hour)); !errors.Is(err, ErrMismatch) {
		t.Errorf("with another body: got %v, want %v", err, ErrMismatch)
	}
	if other := r.enqueue(&Message{DedupKey: "K", DedupWindow: time.Hour, Body: []byte("b")})[0]; other.Replayed {
		t.Error("another key is replayed")
	}
	eventually(t, 30*time.Second, "the window is over", func() bool {
		return !r.enqueue(m("a", 100*time.Millisecond))[0].Replayed
	})
	r.enqueue(m("a", time.Hour))
}

func TestEnqueueOfAnIDThatIsIn(t *testing.T) {
	r := newRig(t, 1, Options{KeepResult: 100 * time.Millisecond, Destinations: []string{"a", "b"}})
	m := func(body string) *Message { return &Message{ID: "my id", Body: []byte(body)} }
	if first := r.enqueue(m("a"))[0]; first.Replayed || first.ID != "my id" {
		t.Errorf("got %+v", first)
	}
	if again := r.enqueue(m("a"))[0]; !again.Replayed {
		t.Error("the same again is not replayed")
	}
	if _, err := r.c.Enqueue(t.Context(), m("b")); !errors.Is(err, ErrMismatch) {
		t.Errorf("with another body: got %v, want %v", err, ErrMismatch)
	}
	if n := len(r.entries("a/")) + len(r.entries("b/")); n != 2 {
		t.Errorf("%d entries, want one for each destination", n)
	}
	for _, destination := range []string{"a", "b"} {
		run(t, r.c, WorkerOptions{Destination: destination}, newDiary().done)
	}
	eventually(t, 30*time.Second, "it is done and forgotten", func() bool {
		_, err := r.c.Enqueue(t.Context(), m("b"))
		return err == nil
	})
}
