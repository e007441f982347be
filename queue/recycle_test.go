package queue

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestFramesAreWhole has many callers, some of whom leave while their message is
// on its way: what is on the servers then is what somebody has put in, byte for
// byte, though buffers are used again.
func TestFramesAreWhole(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newRig(t, 2, Options{})
	body := func(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d ", n), 1+n%700) }
	var wg sync.WaitGroup
	for caller := range 32 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for i := range 60 {
				n := caller*60 + i
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(2) == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(random.IntN(1000))*time.Microsecond)
				}
				m := &Message{Header: map[string]string{"n": strconv.Itoa(n)}, Body: body(n)}
				if random.IntN(4) == 0 {
					r.c.EnqueueBatch(ctx, []*Message{m}) //nolint:errcheck // who leaves does not know
				} else {
					r.c.Enqueue(ctx, m) //nolint:errcheck // nor here
				}
				cancel()
			}
		})
	}
	wg.Wait()
	time.Sleep(50 * time.Millisecond) // those that were left alone
	all := 0
	for _, s := range r.servers {
		for _, m := range s.Client(t).XRange(t.Context(), r.c.partitions[0].keys.stream(""), "-", "+").Val() {
			all++
			frame, _ := m.Values[dataField].(string)
			header, got, err := parseFrame([]byte(frame))
			n, _ := strconv.Atoi(header["n"])
			if err != nil || !bytes.Equal(got, body(n)) || header["message_id"] != m.Values["i"] {
				t.Fatalf("message %s has %v, %.40q… (%v)", m.Values["i"], header, got, err)
			}
		}
	}
	if t.Logf("%d messages", all); all < 500 {
		t.Error("too few of them are there")
	}
}

func TestRecycleLeavesWhatMayStillBeSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	put := func(ctx context.Context, m *Message) *parcel {
		p, err := r.c.pack(m)
		if err != nil {
			t.Fatal(err)
		}
		p.receipt.Err = r.c.put(ctx, p)
		r.c.recycle(p)
		return p
	}
	r.enqueueN(4, "m") // by then there is a stream on each node
	if p := put(t.Context(), &Message{Body: []byte("plain")}); p.frame != nil {
		t.Error("the buffer of a plain message that is in is not recycled")
	}
	if p := put(t.Context(), &Message{Body: []byte("by a script"), Expire: time.Hour}); p.frame == nil {
		t.Error("that of a message that a script put in is")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p := put(ended, &Message{Body: []byte("left")}); p.frame == nil {
		t.Error("that of a message whose caller left is")
	}
	r.servers[0].Pause()
	defer r.servers[0].Resume()
	again := 0
	for range 8 { // one in two goes to the silent one first, until that rests
		p := put(t.Context(), &Message{Body: []byte("x")})
		if len(p.tried) == 0 {
			continue
		}
		if again++; p.frame == nil {
			t.Error("that of a message that another node was tried for first is")
		}
	}
	if again == 0 {
		t.Error("no message was tried twice")
	}
}
