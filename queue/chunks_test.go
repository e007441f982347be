package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// patternOf returns n bytes that differ from place to place.
func patternOf(n int) []byte {
	block := make([]byte, min(n, 10_007)) // a prime: no two chunks are equal
	r := rand.New(rand.NewPCG(uint64(n), 0))
	for i := range block {
		block[i] = byte(r.Uint32())
	}
	return bytes.Repeat(block, 1+n/max(len(block), 1))[:n]
}

func TestBodiesOfAllLengths(t *testing.T) {
	const inline = 1000
	r := newRig(t, 2, Options{InlineBody: inline, MaxBody: 21 << 20, Destinations: []string{"a", "b"}})
	lengths := []int{0, 1, inline - 1, inline, inline + 1, chunkSize - 1, chunkSize, chunkSize + 1, 2*chunkSize + 7,
		maxKept, maxKept + 1, 20 << 20, 21 << 20}
	want := map[string][]byte{}
	for _, n := range lengths {
		body := patternOf(n)
		if n > 2 {
			copy(body, []byte{0, 0})
		}
		want[r.enqueue(&Message{Reader: iotest.HalfReader(bytes.NewReader(body))})[0].ID] = body
		if n < 1<<20 {
			want[r.enqueue(&Message{Body: body})[0].ID] = body
		}
	}
	for _, destination := range []string{"a", "b"} {
		got := make(chan *Delivery, len(want))
		_, drain := run(t, r.c, WorkerOptions{Destination: destination, Concurrency: 2}, func(_ context.Context, d *Delivery) Result {
			body, err := io.ReadAll(d.Open())
			if err != nil || !bytes.Equal(body, want[d.ID]) || d.Size != int64(len(body)) {
				t.Errorf("a body of %d bytes came as %d, size %d, %v", len(want[d.ID]), len(body), d.Size, err)
			}
			got <- d
			return Result{Outcome: Done}
		})
		for range want {
			select {
			case <-got:
			case <-time.After(30 * time.Second):
				t.Fatal("not all are delivered")
			}
		}
		drain()
	}
	r.expectEmpty()
}

func TestBodyThatComesSlowly(t *testing.T) {
	r := newRig(t, 2, Options{InlineBody: 1000, MaxBody: 30 << 20, Copies: 2})
	for _, n := range []int{100, 5000, maxKept + 5*chunkSize} {
		body := patternOf(n)
		read, slow := bytes.NewReader(body), 3
		m := &Message{Reader: readerFunc(func(b []byte) (int, error) {
			if left := read.Len(); slow > 0 && left < chunkSize*slow {
				slow--
				time.Sleep(400 * time.Millisecond)
			}
			return read.Read(b)
		})}
		receipt := r.enqueue(m)[0]
		if n <= 1000 {
			continue
		}
		got, err := io.ReadAll(r.c.openChunks(r.c.byRef(receipt.Node+"/0"), receipt.ID, int64(n)))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("of %d bytes %d are in, %v", n, len(got), err)
		}
	}
}

func TestBodyThatIsOneTooLong(t *testing.T) {
	for _, most := range []int64{1, 2000, chunkSize, maxKept, maxKept + 1, maxKept + 3*chunkSize} {
		r := newRig(t, 1, Options{InlineBody: 1000, MaxBody: most})
		if _, err := r.c.Enqueue(t.Context(), &Message{Reader: bytes.NewReader(make([]byte, most))}); err != nil {
			t.Errorf("%d of %d bytes: %v", most, most, err)
		}
		if err := r.raw().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.c.Enqueue(t.Context(), &Message{Reader: bytes.NewReader(make([]byte, most+1))}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d of %d bytes: got %v, want %v", most+1, most, err, ErrTooLarge)
		}
		if keys := r.keys(); len(keys) > 0 {
			t.Errorf("after a body of %d bytes was refused there is %q", most+1, keys)
		}
	}
}

func TestBodyThatBreaksOffIsNotIn(t *testing.T) {
	r := newRig(t, 1, Options{InlineBody: 1000, MaxBody: 30 << 20})
	for _, n := range []int64{10, 2000, 2 * chunkSize, maxKept + 2*chunkSize + 5} {
		body := io.MultiReader(io.LimitReader(zeros{}, n), brokenReader{})
		if _, err := r.c.Enqueue(t.Context(), &Message{Reader: body}); !errors.Is(err, errBroken) {
			t.Errorf("after %d bytes: got %v, want %v", n, err, errBroken)
		}
		if keys := r.keys(); len(keys) > 0 {
			t.Errorf("after %d bytes there is %q, want nothing", n, keys)
		}
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A request of which the connection ends early ends with io.ErrUnexpectedEOF, which
// is not the end of its body, however much of it has come.
func TestLongBodyThatBreaksOffIsNotIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{MaxBody: 32 << 20})
	for _, n := range []int{1, maxKept - 1, maxKept, maxKept + 1, maxKept + chunkSize, maxKept + chunkSize + 1} {
		for _, end := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
			half := io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(end))
			if _, err := r.c.Enqueue(t.Context(), &Message{Reader: half}); !errors.Is(err, end) {
				t.Errorf("%d bytes that end with %v: got %v", n, end, err)
			}
		}
	}
	r.expectEmpty()
}

func TestBodyInChunksGoesToTheOtherNode(t *testing.T) {
	r := newRig(t, 2, Options{InlineBody: 1000, MaxBody: 30 << 20})
	body := patternOf(3 * chunkSize)
	r.servers[0].Kill()
	for range 4 {
		r.enqueue(&Message{Reader: bytes.NewReader(body)}, &Message{Body: body})
	}
	r.servers[0].Restart()
	if n := len(r.servers[1].Client(t).Keys(t.Context(), "*:b:*").Val()); n != 8*3 {
		t.Errorf("%d chunks, want 24", n)
	}
	for _, key := range r.keys() {
		if strings.Contains(key, ":b:") && r.servers[1].Client(t).PTTL(t.Context(), key).Val() != -1 {
			t.Errorf("%s has a time to live, although its message is in", key)
		}
	}
}

func TestNodeThatFailsInTheMiddleOfALongBody(t *testing.T) {
	r := newRig(t, 2, Options{InlineBody: 1000, MaxBody: 30 << 20})
	r.servers[1].Kill()
	r.enqueue(&Message{})
	killed := false
	body := readerFunc(func(b []byte) (int, error) {
		clear(b)
		return len(b), nil
	})
	read := 0
	failing := readerFunc(func(b []byte) (int, error) {
		if read += len(b); read > maxKept+2*chunkSize && !killed {
			killed = true
			r.servers[1].Restart()
			r.servers[0].Kill()
		}
		return body(b)
	})
	_, err := r.c.Enqueue(t.Context(), &Message{Reader: io.LimitReader(failing, 20<<20)})
	if !errors.Is(err, ErrNoNode) {
		t.Errorf("got %v, want %v", err, ErrNoNode)
	}
	if got := r.servers[1].Client(t).DBSize(t.Context()).Val(); got != 0 {
		t.Errorf("the other node has %d keys", got)
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestReplayedMessageLeavesNoChunks(t *testing.T) {
	r := newRig(t, 1, Options{InlineBody: 1000})
	m := func() *Message {
		return &Message{Body: patternOf(5000), DedupKey: "k", DedupWindow: time.Hour}
	}
	first := r.enqueue(m())[0]
	before := len(r.keys())
	if again := r.enqueue(m())[0]; !again.Replayed || again.ID != first.ID {
		t.Errorf("got %+v", again)
	}
	if after := r.keys(); len(after) != before {
		t.Errorf("there is %q", after)
	}
	// The same id again must not touch the chunks of the one that is in.
	named := func() *Message { return &Message{ID: "mine", Body: patternOf(5000)} }
	r.enqueue(named())
	if again := r.enqueue(named())[0]; !again.Replayed {
		t.Errorf("got %+v", again)
	}
	if _, err := r.c.Enqueue(t.Context(), &Message{ID: "mine", Body: patternOf(5001)}); !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v, want %v", err, ErrMismatch)
	}
	seen := newDiary()
	_, drain := run(t, r.c, WorkerOptions{}, seen.done)
	eventually(t, 30*time.Second, "both are delivered", func() bool { return seen.total() == 2 })
	drain()
	if seen.times[string(patternOf(5000))] != 2 {
		t.Error("a body is not what was put in")
	}
}

func TestChunkThatIsMissingIsAnError(t *testing.T) {
	r := newRig(t, 1, Options{InlineBody: 1000})
	receipt := r.enqueue(&Message{Body: patternOf(2*chunkSize + 1)})[0]
	p := r.c.partitions[0]
	if got, err := io.ReadAll(r.c.openChunks(p, receipt.ID, 2*chunkSize+1)); err != nil || !bytes.Equal(got, patternOf(2*chunkSize+1)) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if _, err := io.ReadAll(r.c.openChunks(p, receipt.ID, 2*chunkSize+2)); !errors.Is(err, ErrTorn) {
		t.Errorf("of a chunk that is too short: got %v, want %v", err, ErrTorn)
	}
	r.raw().Del(t.Context(), p.keys.chunk(receipt.ID, 1))
	if _, err := io.ReadAll(r.c.openChunks(p, receipt.ID, 2*chunkSize+1)); !errors.Is(err, ErrTorn) {
		t.Errorf("of one that is missing: got %v, want %v", err, ErrTorn)
	}
	body := r.c.openChunks(p, receipt.ID, 10)
	body.Close()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after Close: got %v", err)
	}
}

// A message whose body lies in chunks is not put a second time where it may be in
// already: both would have the same chunks, and the first that is done takes them
// along.
func TestBodyInChunksIsThereOnce(t *testing.T) {
	r := newRig(t, 1, Options{InlineBody: 1000})
	proxy := newLossyProxy(t, r.servers[0])
	a, err := shard.ParseAddress("redis://" + proxy.addr + "?name=n0")
	if err != nil {
		t.Fatal(err)
	}
	node, err := shard.NewNode(a, shard.Options{Timeout: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	o := r.c.Options()
	o.Partitions = OnNodes(node)
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enqueue(t.Context(), &Message{Body: patternOf(5000)}); err != nil {
		t.Fatal(err)
	}
	proxy.loses.Store(true)
	if receipt, err := c.Enqueue(t.Context(), &Message{Body: patternOf(6000)}); !errors.Is(err, ErrNoNode) {
		t.Errorf("without a word of whether it is in: got %+v, %v; want %v", receipt, err, ErrNoNode)
	}
	if proxy.lost.Load() != 1 {
		t.Fatal("no reply was lost")
	}
	if n := r.raw().XLen(t.Context(), r.c.partitions[0].keys.stream("")).Val(); n != 2 {
		t.Fatalf("%d entries, want 2", n)
	}
	d, seen := newDiary(), &watcher{}
	_, drain := run(t, r.c, WorkerOptions{Observe: seen}, func(_ context.Context, m *Delivery) Result {
		body := m.Open()
		defer body.Close()
		if _, err := io.ReadAll(body); err != nil {
			return Result{Outcome: Retry, Reason: err.Error()}
		}
		d.note(m)
		return Result{Outcome: Done}
	})
	eventually(t, 30*time.Second, "both are delivered", func() bool { return d.total() == 2 && r.empty() })
	drain()
	if seen.count(stateDelayed) > 0 {
		t.Errorf("%d deliveries had no body", seen.count(stateDelayed))
	}
	r.expectEmpty()

	// What is short goes there again, under the same id.
	proxy.loses.Store(true)
	o.InlineBody = 10_000
	o.Partitions = OnNodes(node)
	if c, err = NewClient(o); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Enqueue(t.Context(), &Message{Body: patternOf(6000), Track: true}); err != nil {
		t.Errorf("a short one: %v", err)
	}
}

// A transport may still read the body of a request when that is closed: an upstream
// that refuses answers before it has read all. The race detector judges.
func TestChunksAreClosedWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, Options{InlineBody: 10})
	r.enqueue(&Message{ID: "long", Body: patternOf(1000)})
	p := r.c.partitions[0]
	for range 50 {
		body := r.c.openChunks(p, "long", 1000)
		begun, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			b := make([]byte, 1)
			_, err := body.Read(b)
			for close(begun); err == nil; {
				_, err = body.Read(b)
			}
			ended <- err
		}()
		<-begun
		body.Close()
		if err := <-ended; err == nil {
			t.Fatal("no error after the end")
		}
		if _, err := body.Read(make([]byte, 1)); err == nil {
			t.Fatal("it is read after it was closed")
		}
	}
}
