package queue

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkProcess is how many messages of 1 KB a worker takes, hands to a
// function that does nothing, and acks.
func BenchmarkProcess(b *testing.B) {
	r := newRig(b, 1, Options{})
	body := make([]byte, 1024)
	frame, err := appendFrame(nil, map[string]string{"correlation_id": "x"}, body)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	raw := r.raw()
	key := r.c.partitions[0].keys.stream("")
	for left := b.N; left > 0; left -= 1000 {
		pipe := raw.Pipeline()
		for range min(left, 1000) {
			pipe.Do(ctx, "XADD", key, "*", "i", newID(), dataField, frame)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	all := make(chan struct{})
	w, err := NewWorker(r.c, WorkerOptions{Concurrency: 256}, func(context.Context, *Delivery) Result {
		if n.Add(1) == int64(b.N) {
			close(all)
		}
		return Result{Outcome: Done}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	own, node := cpuOfProcess(b), r.cpuOfNode(b)
	begin := time.Now()
	go w.Run(ctx)
	<-all
	w.Drain(ctx)
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "msg/s")
	// On a machine that others use as well, what it costs says more.
	b.ReportMetric((cpuOfProcess(b)-own).Seconds()*1e6/float64(b.N), "own-µs/msg")
	b.ReportMetric((r.cpuOfNode(b)-node).Seconds()*1e6/float64(b.N), "node-µs/msg")
	b.StopTimer()
	if keys := r.keys(); len(keys) > 0 {
		b.Errorf("left: %v", keys)
	}
}

// cpuOfProcess returns how much processor time this process has used.
func cpuOfProcess(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOfNode returns how much processor time the first server has used.
func (r *rig) cpuOfNode(tb testing.TB) (out time.Duration) {
	text, err := r.raw().Info(context.Background(), "cpu").Result()
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, _ := strconv.ParseFloat(value, 64)
			out += time.Duration(seconds * float64(time.Second))
		}
	}
	return out
}
