package queue

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLatency is how long it takes from calling Enqueue until the worker's
// function has the message: one message at a time into an idle queue, and a
// steady stream at half of what the machine can do. Percentiles are in µs.
func BenchmarkLatency(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("idle/nodes=%d", nodes), func(b *testing.B) {
			l := newLatency(b, nodes)
			for b.Loop() {
				l.send()
				time.Sleep(2 * time.Millisecond) // it has been taken, and the worker waits again
			}
			l.report()
		})
		b.Run(fmt.Sprintf("steady/nodes=%d", nodes), func(b *testing.B) {
			l := newLatency(b, nodes)
			const each = 500 * time.Millisecond
			rate := l.capacity() / 2
			l.forget()
			for b.Loop() {
				l.stream(rate, each)
			}
			b.ReportMetric(rate, "sent/s")
			l.report()
		})
	}
}

// A latency is a queue with a worker that notes how old messages are.
type latency struct {
	*rig
	b       *testing.B
	began   time.Time
	senders sync.WaitGroup
	sent    atomic.Int64

	mu   sync.Mutex // guards took
	took []time.Duration
}

func newLatency(b *testing.B, nodes int) *latency {
	l := &latency{rig: newRig(b, nodes, Options{}), b: b, began: time.Now()}
	run(b, l.c, WorkerOptions{}, func(_ context.Context, d *Delivery) Result {
		age := time.Since(l.began) - time.Duration(binary.BigEndian.Uint64(d.Body))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.took = append(l.took, age)
		return Result{Outcome: Done}
	})
	l.send()
	time.Sleep(300 * time.Millisecond)
	l.forget()
	return l
}

// send puts one message in.
func (l *latency) send() {
	body := make([]byte, len(benchBody))
	binary.BigEndian.PutUint64(body, uint64(time.Since(l.began)))
	if _, err := l.c.Enqueue(context.Background(), &Message{Body: body}); err != nil {
		l.b.Error(err)
	}
	l.sent.Add(1)
}

// stream sends messages at a rate, whether or not those before have arrived.
func (l *latency) stream(rate float64, length time.Duration) {
	began := time.Now()
	for n := 0.0; ; n++ {
		at := time.Duration(n / rate * float64(time.Second))
		if at > length {
			break
		}
		time.Sleep(time.Until(began.Add(at)))
		l.senders.Go(l.send)
	}
	l.settle()
}

// settle waits until all has arrived.
func (l *latency) settle() {
	l.senders.Wait()
	eventually(l.b, time.Minute, "all arrive", func() bool { return int64(l.arrived()) == l.sent.Load() })
}

func (l *latency) arrived() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

// forget begins anew.
func (l *latency) forget() {
	l.settle()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = nil
	l.sent.Store(0)
}

// capacity returns how many messages a second go through, where each of 16
// callers sends one after the other.
func (l *latency) capacity() float64 {
	began := time.Now()
	for range 16 {
		l.senders.Go(func() {
			for time.Since(began) < time.Second {
				l.send()
			}
		})
	}
	l.settle()
	return float64(l.sent.Load()) / time.Since(began).Seconds()
}

func (l *latency) report() {
	l.settle()
	slices.Sort(l.took)
	for name, at := range map[string]int{"p50-µs": len(l.took) / 2, "p99-µs": len(l.took) * 99 / 100, "max-µs": len(l.took) - 1} {
		l.b.ReportMetric(float64(l.took[at])/1e3, name)
	}
}
