package queue

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commands returns how many commands a server has processed.
func (r *rig) commands(server int) int {
	r.t.Helper()
	text := r.servers[server].Client(r.t).Info(context.Background(), "stats").Val()
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "total_commands_processed:"); ok {
			out, _ := strconv.Atoi(n)
			return out
		}
	}
	r.t.Fatal("no statistics")
	return 0
}

// An idle worker asks each node for less than ten things a second, also where
// several destinations share it.
func TestIdleBudget(t *testing.T) {
	t.Parallel()
	for _, destinations := range [][]string{nil, {"a", "b"}} {
		r := newRig(t, 1, Options{Destinations: destinations})
		d := newDiary()
		for _, name := range r.c.o.Destinations {
			run(t, r.c, WorkerOptions{Destination: name}, d.done)
		}
		r.enqueueN(1, "m")
		eventually(t, 30*time.Second, "it is delivered", func() bool { return d.total() == len(r.c.o.Destinations) })
		time.Sleep(300 * time.Millisecond)
		before, began := r.commands(0), time.Now()
		time.Sleep(2 * time.Second)
		// Dialing and asking for the statistics are a few; and it may have slept for longer.
		if got := float64(r.commands(0)-before-3) / time.Since(began).Seconds(); got >= 10 {
			t.Errorf("got %.1f commands a second with destinations %q, want less than 10", got, destinations)
		} else {
			t.Logf("%.1f commands a second with destinations %q", got, destinations)
		}
	}
}

// BenchmarkIdle is what workers that have nothing to do on five nodes cost.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b, 5, Options{})
	run(b, r.c, WorkerOptions{}, newDiary().done)
	time.Sleep(time.Second)
	b.ResetTimer()
	own, commands := cpuOfProcess(b), r.commands(0)
	begin := time.Now()
	time.Sleep(time.Duration(b.N) * 100 * time.Millisecond)
	b.ReportMetric((cpuOfProcess(b)-own).Seconds()/time.Since(begin).Seconds()*100, "%core")
	b.ReportMetric(float64(r.commands(0)-commands)/time.Since(begin).Seconds(), "commands/s/node")
}
