package chaos

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

var stormFlag = flag.Int("storm", 3000, "how many messages wait for the upstream in TestChaosStorm")

// What the queue of the storm is allowed: by all Caddys in a second, by each at once,
// and how many failures in a row let the upstream rest for how long.
const (
	stormCaddies     = 3
	stormRate        = 1500
	stormConcurrency = 20
	stormFailures    = 5
	stormRest        = time.Second
)

// stormUpstream is away, and then comes back.
type stormUpstream struct {
	up      atomic.Bool
	open    atomic.Int64 // deliveries under way
	most    atomic.Int64 // of those
	refused atomic.Int64 // while it was away

	mu    sync.Mutex // guards all below
	taken map[string]int
	times []time.Time // of deliveries since it is back
}

func (u *stormUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began, n := time.Now(), u.open.Add(1)
	defer u.open.Add(-1)
	for most := u.most.Load(); n > most && !u.most.CompareAndSwap(most, n); most = u.most.Load() {
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if !u.up.Load() {
		u.refused.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	takes := 5 * time.Millisecond
	if u.count() < stormRate/5 {
		takes = 200 * time.Millisecond // it has only just come back, and has much to do at once
	}
	time.Sleep(takes)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken[r.Header.Get("Fluster-Message-Id")]++
	u.times = append(u.times, began)
}

func (u *stormUpstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.times)
}

// mostWithin returns the most deliveries that began within any d.
func (u *stormUpstream) mostWithin(d time.Duration) (most int) {
	slices.SortFunc(u.times, time.Time.Compare)
	first := 0
	for i, at := range u.times {
		for at.Sub(u.times[first]) > d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// TestChaosStorm: an upstream that was away comes back, and all that waits for it goes
// there from three Caddys: as fast as is allowed, and not faster, over all of them
// and from the first moment.
func TestChaosStorm(t *testing.T) {
	n := *stormFlag
	u := &stormUpstream{taken: map[string]int{}}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	var servers []*redistest.Server
	global := "fluster {\nnodes"
	for range 2 {
		s := redistest.Start(t)
		servers, global = append(servers, s), global+" "+s.URL()
	}
	site := fmt.Sprintf(`fluster_queue q {
	deliver {
		reverse_proxy %s
	}
	rate %d/s
	concurrency %d
	breaker %d %s
	attempts 1000
	backoff 20ms 400ms
}`, strings.TrimPrefix(server.URL, "http://"), stormRate, stormConcurrency, stormFailures, stormRest)
	var caddies []*caddytest.Caddy
	for range stormCaddies {
		caddies = append(caddies, caddytest.StartQuiet(t, global+"\n}", site))
	}

	ids := postStorm(t, caddies, n)
	time.Sleep(2 * stormRest) // most were tried by now that may be
	began := time.Now()
	before := u.refused.Load()
	time.Sleep(3 * stormRest)
	// One trial a rest and Caddy, and what was on its way.
	rests := int64(time.Since(began)/stormRest) + 1
	if refused := u.refused.Load() - before; refused == 0 || refused > stormCaddies*rests {
		t.Errorf("%d deliveries in %s while the breakers are open, want one a rest and Caddy at most", refused, time.Since(began))
	}

	u.most.Store(0)
	u.up.Store(true)
	back := time.Now()
	deadline := back.Add(30*time.Second + 4*time.Duration(n)*time.Second/stormRate)
	for u.count() < n && time.Now().Before(deadline) {
		pass(t, 20*time.Millisecond)
	}
	took := time.Since(back)
	pass(t, 500*time.Millisecond)
	u.mu.Lock()
	defer u.mu.Unlock()
	for id := range ids {
		if u.taken[id] != 1 {
			t.Errorf("%s was taken %d times", id, u.taken[id])
		}
	}
	if len(u.taken) != len(ids) {
		t.Errorf("%d messages were taken, want %d", len(u.taken), len(ids))
	}
	if most := u.most.Load(); most > stormCaddies*stormConcurrency {
		t.Errorf("%d deliveries at once, want %d at most", most, stormCaddies*stormConcurrency)
	}
	// What is taken from the rate is used somewhat later, more or less at once.
	kept := stormCaddies * stormRate / 20
	for _, window := range []time.Duration{100 * time.Millisecond, time.Second} {
		limit := int(stormRate*window.Seconds()) + 2*kept
		if most := u.mostWithin(window); most > limit {
			t.Errorf("%d deliveries within %s, want %d at most", most, window, limit)
		}
	}
	for _, s := range servers {
		if left := s.Client(t).XLen(t.Context(), "{fluster:q:q:0}:s").Val() + s.Client(t).ZCard(t.Context(), "{fluster:q:q:0}:d").Val(); left > 0 {
			t.Errorf("%d messages are left on a node", left)
		}
	}
	t.Logf("%d messages in %s, %.0f/s; most at once %d; most within a second %d, within 100ms %d", n, took.Round(time.Millisecond),
		float64(n)/took.Seconds(), u.most.Load(), u.mostWithin(time.Second), u.mostWithin(100*time.Millisecond))
}

// postStorm posts n messages to the Caddys, and returns their ids.
func postStorm(t *testing.T, caddies []*caddytest.Caddy, n int) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	for range 24 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && t.Context().Err() == nil; i = next.Add(1) - 1 {
				resp, err := client.Post("http://"+caddies[i%int64(len(caddies))].Addr+"/", "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Errorf("posting: %v", err)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusAccepted {
					t.Errorf("posting: %s", resp.Status)
					continue
				}
				mu.Lock()
				ids[resp.Header.Get("Fluster-Message-Id")] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return ids
}
