package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// benchBody is what a message of 1 KB has.
var benchBody = make([]byte, 1024)

// benchCallers is how many put messages in at once.
const benchCallers = 64

// BenchmarkEnqueue compares what 64 callers at once put in with what one does who
// puts the same entries in bare, 64 to a pipeline: vs-bare is the ratio.
func BenchmarkEnqueue(b *testing.B) {
	header := map[string]string{"content-type": "application/json"}
	kinds := map[string]func() *Message{
		"plain":    func() *Message { return &Message{Header: header, Body: benchBody} },
		"scripted": func() *Message { return &Message{Header: header, Body: benchBody, Expire: time.Hour} },
		"dedup": func() *Message {
			return &Message{Header: header, Body: benchBody, DedupKey: newID(), DedupWindow: time.Minute}
		},
	}
	for _, nodes := range []int{1, 2} {
		for _, kind := range []string{"plain", "scripted", "dedup"} {
			b.Run(fmt.Sprintf("%s/nodes=%d", kind, nodes), func(b *testing.B) {
				r := newRig(b, nodes, Options{})
				bare := r.bareRate(b)
				r.trim(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				began := time.Now()
				var wg sync.WaitGroup
				for range benchCallers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := r.c.Enqueue(b.Context(), kinds[kind]()); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				rate := float64(b.N) / time.Since(began).Seconds()
				b.ReportMetric(rate/1000, "k/s")
				b.ReportMetric(rate/bare, "vs-bare")
			})
		}
	}
}

// BenchmarkEnqueueBatch is BenchmarkEnqueue with one caller and batches of 1000.
func BenchmarkEnqueueBatch(b *testing.B) {
	for _, nodes := range []int{1, 2} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRig(b, nodes, Options{})
			bare := r.bareRate(b)
			r.trim(b)
			ms := make([]*Message, 1000)
			for i := range ms {
				ms[i] = &Message{Header: map[string]string{"content-type": "application/json"}, Body: benchBody}
			}
			b.ReportAllocs()
			n := 0
			began := time.Now()
			for b.Loop() {
				if _, err := r.c.EnqueueBatch(b.Context(), ms); err != nil {
					b.Fatal(err)
				}
				n += len(ms)
			}
			rate := float64(n) / time.Since(began).Seconds()
			b.ReportMetric(rate/1000, "k/s")
			b.ReportMetric(rate/bare, "vs-bare")
		})
	}
}

// bareRate returns how many entries a second one caller puts in, 64 to a
// pipeline, one pipeline after the other, on the first server.
func (r *rig) bareRate(b *testing.B) float64 {
	client := r.servers[0].Client(b)
	frame := mustFrame(b, map[string]string{"correlation_id": newID(), "message_id": newID(), "content-type": "application/json"}, benchBody)
	const rounds = 300
	began := time.Now()
	for range rounds {
		pipe := client.Pipeline()
		for range benchCallers {
			pipe.XAdd(b.Context(), &redis.XAddArgs{Stream: "bare", Values: []any{"i", newID(), dataField, frame}})
		}
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return rounds * benchCallers / time.Since(began).Seconds()
}

// trim keeps the servers' memory bounded while the benchmark runs.
func (r *rig) trim(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range r.servers {
		client := s.Client(b)
		client.Del(ctx, "bare")
		wg.Go(func() {
			for sleep(ctx, 200*time.Millisecond) {
				client.XTrimMaxLenApprox(ctx, r.c.partitions[0].keys.stream(""), 1000, 0)
			}
		})
	}
	b.Cleanup(func() { cancel(); wg.Wait() })
}
