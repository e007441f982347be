// Package soak lets very many different URLs through a Caddy with a small near
// cache, and looks whether anything grows but what may: memory, goroutines, what
// an idle process does.
//
//	go test ./internal/soak              some seconds
//	go test ./internal/soak -for 10m -v  as make soak SOAK=10m
package soak

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

var length = flag.Duration("for", 0, "how long all takes; 0 is a short form of some seconds")

// TestMain lets the test run this binary as Caddy itself.
func TestMain(m *testing.M) {
	caddytest.MainIfChild()
	os.Exit(m.Run())
}

const (
	near   = 16 << 20   // of memory that the near cache may take
	beside = 64 << 20   // what all else may grow by
	urls   = 10_000_000 // at most
	asking = 16         // connections
)

// TestSoak: C5. Memory stays within the near cache and 64 MiB, no goroutine is
// there for what was stored, and an idle process takes less than 1 % of a core.
func TestSoak(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { soak(t, "") })
	t.Run("with a node", func(t *testing.T) {
		server := redistest.Start(t, "--maxmemory", "64mb", "--maxmemory-policy", "volatile-lfu")
		soak(t, "nodes "+server.URL())
	})
}

func soak(t *testing.T, nodes string) {
	// In the short form bodies are long, so that some thousands are more than
	// there is room for, and a hundredth of the time is less than a tick.
	body, load, idle, share := 60<<10, 2*time.Second, time.Second, 0.05
	if *length > 0 {
		body, load, idle, share = 1<<10, *length/2-20*time.Second, 10*time.Second, 0.01
	}
	c := caddytest.StartQuiet(t, fmt.Sprintf("fluster {\n near %d\n %s\n}", near, nodes), fmt.Sprintf(
		"route {\n fluster_cache\n header Cache-Control max-age=3600\n header Content-Length %d\n respond %q\n}", body, strings.Repeat("x", body)))
	for range 3 {
		c.Get("/warm")
	}
	before := settle(t, c)
	done := make(chan error, 1)
	go func() { done <- drive(c.Addr, load, "soak") }()
	peak := before
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			running = false
		case <-time.After(100 * time.Millisecond):
			peak = peak.max(look(t, c))
		}
	}
	after := settle(t, c)
	t.Logf("%d URLs\nbefore: %v\nmost:   %v\nafter:  %v", after.stored-before.stored, before, peak, after)
	if after.stored-before.stored < 1000 {
		t.Errorf("%d URLs were stored, want many", after.stored-before.stored)
	}
	if grown := peak.memory - before.memory; grown > near+beside {
		t.Errorf("memory has grown by %d MiB, want at most %d", grown>>20, (near+beside)>>20)
	}
	// Each connection has a few in Caddy's server; the writer and the reader of a
	// node are there before.
	if more := peak.goroutines - before.goroutines; more > 6*asking {
		t.Errorf("%d more goroutines under load of %d connections, want a few each", more, asking)
	}
	if more := after.goroutines - before.goroutines; more > 2 {
		t.Errorf("%d more goroutines are left", more)
	}
	began := look(t, c)
	time.Sleep(idle)
	if got := (look(t, c).cpu - began.cpu) / idle.Seconds(); got > share*slower {
		t.Errorf("the idle process takes %.1f %% of a core, want less than %.0f %%", 100*got, 100*share)
	}
}
