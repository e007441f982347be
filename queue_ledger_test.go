package fluster_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A ledger is an upstream that keeps book of what it was delivered, and takes its
// time.
type ledger struct {
	*caddytest.Origin

	mu    sync.Mutex // guards all below
	begun map[string]int
	done  map[string]int
	times map[string]time.Time // when it was first begun
}

func newLedger(t *testing.T, takes func(id string) time.Duration) *ledger {
	l := &ledger{begun: map[string]int{}, done: map[string]int{}, times: map[string]time.Time{}}
	l.Origin = caddytest.NewOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		id := r.Header.Get("Fluster-Message-Id")
		l.mu.Lock()
		if l.begun[id]++; l.begun[id] == 1 {
			l.times[id] = time.Now()
		}
		l.mu.Unlock()
		select {
		case <-time.After(takes(id)):
		case <-r.Context().Done():
			return
		}
		l.mu.Lock()
		l.done[id]++
		l.mu.Unlock()
	})
	return l
}

func (l *ledger) count() (begun, done int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.begun), len(l.done)
}

// postAll posts to a Caddy until it is told to stop, and returns the ids of what
// was accepted.
func postAll(t *testing.T, c *caddytest.Caddy, callers int) (stop func() map[string]bool) {
	var mu sync.Mutex
	ids := map[string]bool{}
	end := make(chan struct{})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				r := c.Do("POST", "/", "body")
				if r.Err != nil || r.Status != 202 {
					continue // it stops: not accepted
				}
				mu.Lock()
				ids[r.Header.Get("Fluster-Message-Id")] = true
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return func() map[string]bool {
		close(end)
		wg.Wait()
		return ids
	}
}

// failedOver is how many messages were tried on a node that did not answer in
// time and may have them, as on a machine under load. They may come twice.
func failedOver(c *caddytest.Caddy) int {
	return int(c.Metric("caddy_fluster_queue_failed_over_total"))
}

// check compares what was accepted with what was delivered: nothing is lost, and
// at most so many were delivered more than once.
func (l *ledger) check(t *testing.T, ids map[string]bool, mayRepeat int) {
	t.Helper()
	caddytest.Eventually(t, fmt.Sprintf("%d messages are delivered", len(ids)), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id := range ids {
			if l.done[id] == 0 {
				return false
			}
		}
		return true
	})
	time.Sleep(300 * time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	repeated := 0
	for _, n := range l.begun {
		if n > 1 {
			repeated++
		}
	}
	if repeated > mayRepeat {
		t.Errorf("%d of %d messages were delivered more than once, want at most %d", repeated, len(l.begun), mayRepeat)
	}
}

// wantEmpty waits until nothing is left on the nodes but empty streams and their names,
// and what has a time to live.
func wantEmpty(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		client := s.Client(t)
		var left []string
		defer func() {
			if t.Failed() {
				t.Logf("left on a node: %q", left)
			}
		}()
		caddytest.Eventually(t, "nothing is left on a node", func() bool {
			keys, err := client.Keys(t.Context(), "{fluster:q:*").Result()
			if err != nil {
				t.Fatal(err)
			}
			left = nil
			for _, k := range keys {
				if client.PTTL(t.Context(), k).Val() > 0 || strings.HasSuffix(k, "}:l") {
					continue
				}
				if n, err := client.XLen(t.Context(), k).Result(); err != nil || n > 0 {
					left = append(left, k)
				}
			}
			return len(left) == 0
		})
	}
}

func quickly(string) time.Duration { return 20 * time.Millisecond }
