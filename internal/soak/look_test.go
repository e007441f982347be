package soak

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// A state is what a Caddy tells of itself.
type state struct {
	memory     int64 // bytes: what the process has of the system, or with the race detector the heap
	goroutines int
	cpu        float64 // seconds
	stored     int     // responses
}

func (s state) String() string {
	return fmt.Sprintf("%d MiB, %d goroutines, %.2f s of CPU, %d stored", s.memory>>20, s.goroutines, s.cpu, s.stored)
}

func (s state) max(o state) state {
	return state{max(s.memory, o.memory), max(s.goroutines, o.goroutines), max(s.cpu, o.cpu), max(s.stored, o.stored)}
}

// look asks a Caddy for its metrics.
func look(t *testing.T, c *caddytest.Caddy) state {
	t.Helper()
	values := map[string]float64{}
	for line := range strings.Lines(string(c.AskAdmin("/metrics").Body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			values[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	memory := "process_resident_memory_bytes"
	if raced {
		memory = "go_memstats_heap_inuse_bytes"
	}
	for _, name := range []string{memory, "go_goroutines", "process_cpu_seconds_total"} {
		if values[name] == 0 {
			t.Fatalf("the metrics have no %s", name)
		}
	}
	return state{int64(values[memory]), int(values["go_goroutines"]), values["process_cpu_seconds_total"], int(values[`caddy_fluster_requests_total{result="stored"}`])}
}

// settle waits until nothing goes on that the load has begun.
func settle(t *testing.T, c *caddytest.Caddy) state {
	t.Helper()
	last := look(t, c)
	for range 60 {
		time.Sleep(250 * time.Millisecond)
		now := look(t, c)
		if now.goroutines == last.goroutines && now.cpu-last.cpu < 0.02*slower {
			return now
		}
		last = now
	}
	return last
}
