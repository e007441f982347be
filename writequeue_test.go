package fluster

import (
	"context"
	"math/rand/v2"
	"testing"
)

func writeOf(size int) write { return write{values: []value{{key: "k", data: make([]byte, size)}}} }

// TestWriteQueueBounds: C5. What waits to be stored is bounded by bytes and by
// number; what is beyond is dropped, and nobody waits.
func TestWriteQueueBounds(t *testing.T) {
	tests := []struct {
		name  string
		size  int
		times int
		want  int
	}{
		{"few", 1000, 10, 10},
		{"many small", 0, maxWrites + 100, maxWrites},
		{"many large", 1 << 20, 100, maxWriteBytes/(1<<20) - 1}, // each with its overhead
		{"one larger than all", maxWriteBytes + 1, 3, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, w := newWriteQueue(), writeOf(tt.size)
			for range tt.times {
				q.push(w)
			}
			if got := q.lenLocked(); got != tt.want {
				t.Errorf("of %d writes of %d bytes %d wait, want %d", tt.times, tt.size, got, tt.want)
			}
			if want := int64(tt.want) * w.size(); q.bytes != want {
				t.Errorf("the queue counts %d bytes, want %d", q.bytes, want)
			}
			for range tt.want {
				if _, ok := q.pop(t.Context()); !ok {
					t.Fatal("pop: nothing, want a write")
				}
			}
			if q.bytes != 0 {
				t.Errorf("the empty queue counts %d bytes", q.bytes)
			}
			q.push(w)
			if q.lenLocked() != 1 {
				t.Error("an emptied queue takes nothing")
			}
		})
	}
}

// TestWriteQueueOrder: C5. Writes come out as they went in, however many wait, and the
// memory that they take is bounded by that.
func TestWriteQueueOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	q, in, out := newWriteQueue(), 0, 0
	for range 2000 {
		for range random.IntN(40) {
			w := write{received: int64(in)}
			if q.lenLocked() < maxWrites {
				in++
			}
			q.push(w)
		}
		for range random.IntN(40) {
			w, ok := q.take()
			if ok != (out < in) || ok && w.received != int64(out) {
				t.Fatalf("take: got %d, %v after %d of %d", w.received, ok, out, in)
			}
			if ok {
				out++
			}
		}
	}
	for q.lenLocked() > 0 {
		q.take()
	}
	if cap(q.waiting) > keptWrites {
		t.Errorf("an empty queue has room for %d writes", cap(q.waiting))
	}
	q.push(write{})
	for range maxWrites { // it is never empty
		q.push(write{})
		q.take()
	}
	if cap(q.waiting) > keptWrites {
		t.Errorf("a queue of one has room for %d writes", cap(q.waiting))
	}
}

// TestWriteQueueEnds: pop ends with its context.
func TestWriteQueueEnds(t *testing.T) {
	q := newWriteQueue()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := q.pop(ctx); ok {
		t.Error("pop with an ended context returned a write")
	}
}

// TestWriteQueueCloses: what waits when a reload ends the writer, and what requests of
// the configuration before put there later, is dropped, and its lock let go of.
func TestWriteQueueCloses(t *testing.T) {
	state := newPoolState("")
	if err := state.Destruct(); err != nil { // nothing is sent
		t.Fatal(err)
	}
	n := &node{state: state, seat: &seat{}, writes: newWriteQueue()}
	early, late := writeOf(1), writeOf(1)
	early.lock, late.lock = &lock{n: n, over: make(chan struct{})}, &lock{n: n, over: make(chan struct{})}
	n.writes.push(early)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.write(ctx)
	n.writes.push(late)
	for name, w := range map[string]write{"early": early, "late": late} {
		select {
		case <-w.lock.over:
		default:
			t.Errorf("the lock of the %s one is kept", name)
		}
	}
	if n.writes.lenLocked() != 0 || n.writes.bytes != 0 {
		t.Errorf("%d writes of %d bytes are kept, want none", n.writes.lenLocked(), n.writes.bytes)
	}
}
