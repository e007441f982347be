package fluster

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

func shortWrite(key, data string) write {
	return write{values: []value{{key: key, data: []byte(data)}}, ttl: time.Minute, short: true}
}

// TestPopMore: short writes go together, in their order, up to a bound, with the
// first that is not short as the last.
func TestPopMore(t *testing.T) {
	tests := []struct {
		name string
		all  []write
		want []int // how long the batches are
	}{
		{"one", []write{shortWrite("a", "")}, []int{1}},
		{"short ones", []write{shortWrite("a", ""), shortWrite("b", ""), shortWrite("c", "")}, []int{3}},
		{"long ones", []write{writeOf(1), writeOf(1), writeOf(1)}, []int{1, 1, 1}},
		{"one that is not short ends a batch", []write{shortWrite("a", ""), writeOf(1), shortWrite("b", "")}, []int{2, 1}},
		{"many", slices.Repeat([]write{shortWrite("a", "")}, 2*batchWrites+1), []int{batchWrites, batchWrites, 1}},
		{"many bytes", slices.Repeat([]write{shortWrite("a", string(make([]byte, batchBytes/2)))}, 3), []int{2, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newWriteQueue()
			for i, w := range tt.all {
				w.values[0].key = fmt.Sprint(i)
				w.values = slices.Clone(w.values)
				q.push(w)
			}
			next := 0
			for _, want := range tt.want {
				w, ok := q.pop(t.Context())
				if !ok {
					t.Fatal("pop: nothing, want a write")
				}
				batch := q.popMore([]write{w})
				if len(batch) != want {
					t.Fatalf("got a batch of %d, want %v in turn", len(batch), tt.want)
				}
				for _, w := range batch {
					if got := w.values[0].key; got != fmt.Sprint(next) {
						t.Errorf("write %s came as number %d", got, next)
					}
					next++
				}
			}
			if q.bytes != 0 || q.lenLocked() != 0 {
				t.Errorf("%d writes and %d bytes are left, want none", q.lenLocked(), q.bytes)
			}
		})
	}
}

// TestGather: behind a batch of many writes the writer waits for more, but not where
// as many wait already, nor when it is to end.
func TestGather(t *testing.T) {
	for _, tt := range []struct {
		last, waiting int
		endAfter      time.Duration
		want          time.Duration
	}{
		{1, 0, time.Hour, 0},
		{manyWrites - 1, manyWrites, time.Hour, 0},
		{manyWrites, 0, time.Hour, gatherFor},
		{batchWrites, batchWrites/2 - 1, time.Hour, gatherFor},
		{batchWrites, batchWrites / 2, time.Hour, 0},
		{batchWrites, 0, time.Millisecond, time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := newWriteQueue()
			ctx, cancel := context.WithTimeout(t.Context(), tt.endAfter)
			defer cancel()
			for range tt.waiting {
				q.push(shortWrite("a", ""))
			}
			since := time.Now()
			if q.gather(ctx, tt.last); time.Since(since) != tt.want {
				t.Errorf("behind %d writes, while %d wait: waited for %v, want %v", tt.last, tt.waiting, time.Since(since), tt.want)
			}
		})
	}
}

// TestWritesInBatches: what waits together is stored, in the order in which it
// came, and lives for its time.
func TestWritesInBatches(t *testing.T) {
	server := redistest.Start(t)
	p, err := newPool("", PoolConfig{Nodes: []string{server.URL()}}, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	n, client := p.nodes[0], server.Client(t)
	n.seat.available.Store(true) // but its goroutines are not started
	for _, w := range []write{
		shortWrite("a", "1"), shortWrite("a", "2"), shortWrite("gone", "1"),
		{forget: []string{"gone"}}, shortWrite("b", "3"), shortWrite("last", "4"),
	} {
		n.writes.push(w)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { n.write(ctx); close(done) }()
	for range 1000 {
		if client.Exists(t.Context(), "last").Val() == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	end()
	<-done
	for key, want := range map[string]string{"a": "2", "b": "3", "last": "4", "gone": ""} {
		if got := client.Get(t.Context(), key).Val(); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if ttl := client.TTL(t.Context(), "b").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("what is stored has the time to live %v, want a minute (C5)", ttl)
	}
}

// TestEncodedTogether: the responses of a batch are encoded one behind the other
// in memory that grows meanwhile, and each is whole.
func TestEncodedTogether(t *testing.T) {
	buf := new([]byte)
	for round := range 2 { // the second in the memory of the first
		*buf = (*buf)[:0]
		var encoded [][]byte
		for i := range 20 {
			body := bytes.Repeat([]byte{byte(round), byte(i)}, 1000*i)
			encoded = append(encoded, value{resp: &stored.Response{Key: fmt.Sprint(i), Status: 200, Body: body}}.appendTo(buf))
		}
		for i, data := range encoded {
			r, _, err := stored.Decode(data)
			if err != nil {
				t.Fatalf("round %d, response %d: %v", round, i, err)
			}
			if want := bytes.Repeat([]byte{byte(round), byte(i)}, 1000*i); r.Key != fmt.Sprint(i) || !bytes.Equal(r.Body, want) {
				t.Errorf("round %d, response %d: got key %s and %d bytes, want its own", round, i, r.Key, len(r.Body))
			}
		}
	}
}
