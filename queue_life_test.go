package fluster_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueReloadUnderLoad: W1, Q5. Reloads lose no message, and deliver none
// twice; what is under way ends in the old configuration.
func TestQueueReloadUnderLoad(t *testing.T) {
	l := newLedger(t, quickly)
	servers, global := nodes(t, 2)
	site := func(i int) string { return queueSite(deliverTo(l.Origin), fmt.Sprintf("attempts %d", 5+i)) }
	c := caddytest.Load(t, global, site(0))
	stop := postAll(t, c, 4)
	for i := range 5 {
		time.Sleep(300 * time.Millisecond)
		c.Reload(global, site(i+1))
	}
	ids := stop()
	if len(ids) < 50 {
		t.Fatalf("only %d messages were accepted", len(ids))
	}
	l.check(t, ids, failedOver(c))
	wantEmpty(t, servers...)
	if n := c.Metric("caddy_fluster_queue_in_flight_here{"); n != 0 {
		t.Errorf("%v deliveries are still under way", n)
	}
}

// TestQueueReloadWhileDelivering: a delivery that is under way at a reload ends
// well, and counts: `concurrency 1` is one, over reloads too.
func TestQueueReloadWhileDelivering(t *testing.T) {
	l := newLedger(t, func(string) time.Duration { return 1500 * time.Millisecond })
	_, global := nodes(t, 1)
	c := caddytest.Load(t, global, queueSite(deliverTo(l.Origin), "concurrency 1"))
	first := wantAccepted(t, c.Do("POST", "/", "1")).ID
	caddytest.Eventually(t, "the first is under way", func() bool { n, _ := l.count(); return n == 1 })
	c.Reload(global, queueSite(deliverTo(l.Origin), "concurrency 1", "attempts 3"))
	second := wantAccepted(t, c.Do("POST", "/", "2")).ID
	time.Sleep(500 * time.Millisecond)
	if n, _ := l.count(); n != 1 {
		t.Errorf("%d deliveries at a time, want 1", n)
	}
	l.check(t, map[string]bool{first: true, second: true}, 0)
	if d := l.times[second].Sub(l.times[first]); d < 1400*time.Millisecond {
		t.Errorf("the second began %s after the first, which takes 1.5s", d)
	}
}

// TestQueueReloadWhileAccepting: a request whose body is still coming when a reload
// changes the queue, or its nodes, or takes it out, is accepted, and delivered.
func TestQueueReloadWhileAccepting(t *testing.T) {
	for _, what := range []string{"an option", "the nodes", "no queue"} {
		t.Run(what, func(t *testing.T) {
			o := newLetterbox(t)
			servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
			c := caddytest.Load(t, queueOn(servers...), queueSite(deliverTo(o.Origin)))
			conn, err := net.Dial("tcp", c.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx")
			time.Sleep(200 * time.Millisecond) // the request is there
			switch what {
			case "an option":
				c.Reload(queueOn(servers...), queueSite(deliverTo(o.Origin), "visibility 5s"))
			case "the nodes":
				c.Reload(queueOn(servers[0]), queueSite(deliverTo(o.Origin)))
			default:
				c.Reload(queueOn(servers...), `respond "no queue"`)
			}
			time.Sleep(500 * time.Millisecond) // its workers have ended
			io.WriteString(conn, "y")
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Body.Close(); r.StatusCode != 202 {
				t.Errorf("got %d, want 202", r.StatusCode)
			}
			for _, s := range servers {
				caddytest.Eventually(t, "what is not used any more is closed", func() bool {
					return what != "no queue" || !strings.Contains(s.Client(t).ClientList(t.Context()).Val(), "caddy-fluster-queue")
				})
			}
		})
	}
}

// TestQueueSigterm: what is under way when Caddy is told to exit ends first; what
// was taken and not begun another Caddy has at once. Nothing is lost, and nothing
// is done twice.
func TestQueueSigterm(t *testing.T) {
	l := newLedger(t, quickly)
	servers, global := nodes(t, 2)
	site := queueSite(deliverTo(l.Origin), "visibility 1m")
	other := caddytest.Start(t, global, site)
	c := caddytest.Start(t, global, site)
	stop, stopOther := postAll(t, c, 4), postAll(t, other, 1)
	time.Sleep(time.Second)
	mayRepeat := failedOver(c)
	c.Stop()
	ids, more := stop(), stopOther()
	for id := range more {
		ids[id] = true
	}
	if len(ids) < 50 {
		t.Fatalf("only %d messages were accepted", len(ids))
	}
	l.check(t, ids, mayRepeat+failedOver(other))
	wantEmpty(t, servers...)
}

// TestQueueSigtermCutsOff: a delivery that outlasts the grace period is handed
// back at once, not after its visibility.
func TestQueueSigtermCutsOff(t *testing.T) {
	slow := true
	var mu sync.Mutex
	l := newLedger(t, func(string) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if slow {
			return time.Hour
		}
		return 0
	})
	_, global := nodes(t, 1)
	site := queueSite(deliverTo(l.Origin), "visibility 10m")
	c := caddytest.Start(t, global, site)
	id := wantAccepted(t, c.Do("POST", "/", "x")).ID
	caddytest.Eventually(t, "it is under way", func() bool { n, _ := l.count(); return n == 1 })
	start := time.Now()
	c.Stop() // with a grace_period of 3s
	if d := time.Since(start); d < 2500*time.Millisecond || d > 10*time.Second {
		t.Errorf("it took %s to stop, want about 3s", d)
	}
	mu.Lock()
	slow = false
	mu.Unlock()
	caddytest.Start(t, global, site)
	l.check(t, map[string]bool{id: true}, 1)
	if a := l.Last().Header.Get("Fluster-Attempt"); a != "1" {
		t.Errorf("the next attempt is number %s: being stopped has cost one", a)
	}
}

// TestQueueKilled: kill -9 of a Caddy with deliveries open: another one has them
// within visibility + 2 s.
func TestQueueKilled(t *testing.T) {
	const visibility = 2 * time.Second
	var mu sync.Mutex
	hangs := true
	l := newLedger(t, func(string) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if hangs {
			return time.Hour
		}
		return 0
	})
	servers, global := nodes(t, 2)
	site := queueSite(deliverTo(l.Origin), "visibility 2s", "concurrency 200")
	c := caddytest.Start(t, global, site)
	ids := map[string]bool{}
	for range 200 {
		ids[wantAccepted(t, c.Do("POST", "/", "x")).ID] = true
	}
	caddytest.Eventually(t, "200 deliveries are open", func() bool { n, _ := l.count(); return n == 200 })
	mu.Lock()
	hangs = false
	mu.Unlock()
	other := caddytest.Start(t, global, site)
	c.Kill()
	killed := time.Now()
	caddytest.Eventually(t, "all are delivered again", func() bool { _, n := l.count(); return n == 200 })
	if d := time.Since(killed); d > visibility+2*time.Second {
		t.Errorf("it took %s, want %s at most", d, visibility+2*time.Second)
	}
	l.check(t, ids, 200)
	wantEmpty(t, servers...)
	if n := other.Metric("caddy_fluster_queue_suspected_duplicates_total{"); n != 200 {
		t.Errorf("%v suspected duplicates are counted, want 200", n)
	}
	if a := l.Last().Header.Get("Fluster-Attempt"); a != "2" {
		t.Errorf("a delivery after a crash is attempt %s, want 2", a)
	}
}

// TestQueueStoppedCaddy: a Caddy that is stopped (SIGSTOP) for longer than the
// visibility and wakes with a success in its hands does not end what another one
// delivers by now: that may fail, and is tried again.
func TestQueueStoppedCaddy(t *testing.T) {
	type attempt struct {
		number string
		answer chan int
	}
	attempts := make(chan attempt, 10)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		a := attempt{r.Header.Get("Fluster-Attempt"), make(chan int)}
		attempts <- a
		select {
		case status := <-a.answer:
			w.WriteHeader(status)
		case <-t.Context().Done():
		}
	})
	next := func(number string) attempt {
		t.Helper()
		select {
		case a := <-attempts:
			if a.number != number {
				t.Fatalf("it is attempt %s, want %s", a.number, number)
			}
			return a
		case <-time.After(10 * time.Second):
			t.Fatalf("there is no attempt %s", number)
			panic("unreachable")
		}
	}
	servers, global := nodes(t, 1)
	site := queueSite(deliverTo(o), "visibility 1s", "backoff 1ms 1ms", "id {header.X-Id}")
	stopped := caddytest.Start(t, global, site)
	wantAccepted(t, stopped.Do("POST", "/", "x", "X-Id", "one"))
	first := next("1")
	other := caddytest.Load(t, global, site)
	stopped.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { stopped.Signal(syscall.SIGCONT) })
	second := next("2")
	first.answer <- http.StatusOK // before it wakes
	time.Sleep(100 * time.Millisecond)
	stopped.Signal(syscall.SIGCONT)
	time.Sleep(1500 * time.Millisecond) // it has done whatever it does
	if m := ask[messageTold](t, other, "/fluster/queues/q/messages/one"); m.State != "in_flight" {
		t.Errorf("under delivery by another Caddy, it is %s", m.State)
	}
	second.answer <- http.StatusInternalServerError
	third := next("3")
	third.answer <- http.StatusOK
	caddytest.Eventually(t, "it is done", func() bool {
		return ask[messageTold](t, other, "/fluster/queues/q/messages/one").State == "done"
	})
	wantEmpty(t, servers...)
	if n := len(attempts); n > 0 {
		t.Errorf("%d attempts more", n)
	}
}

// TestQueueTellsNobodyInCircles: queues that tell of each other must end somewhere.
func TestQueueTellsNobodyInCircles(t *testing.T) {
	_, global := nodes(t, 1)
	queues := func(lines ...string) string {
		out := ""
		for i := 0; i < len(lines); i += 2 {
			out += fmt.Sprintf("handle /%s {\nfluster_queue %s {\nattempts 3\n%s\n}\n}\n", lines[i], lines[i], lines[i+1])
		}
		return out
	}
	c := caddytest.Load(t, global, queues("a", ""))
	for name, tt := range map[string]struct{ site, want string }{
		"itself":  {queues("a", "callback a"), "lead back to it: [a a]"},
		"circle":  {queues("a", "callback b", "b", "dead_letter_to c", "c", "callback a"), "lead back to it: [a b c a]"},
		"beside":  {queues("a", "callback b", "b", "callback c", "c", "callback b"), "lead back"},
		"unknown": {queues("a", "dead_letter_to b"), "there is no queue b"},
	} {
		if err := c.TryReload(global, tt.site); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
	if err := c.TryReload(global, queues("a", "callback b\ndead_letter_to c", "b", "dead_letter_to c", "c", "")); err != nil {
		t.Errorf("no circle: %v", err)
	}
}

// TestQueueStopLeavesNothing: when Caddy stops, no goroutine and no connection of
// a queue is left, whatever the state of its nodes, also after reloads.
func TestQueueStopLeavesNothing(t *testing.T) {
	servers, global := nodes(t, 2)
	l := newLedger(t, quickly)
	const once = " {\ntransport http {\nkeepalive off\n}\n}" // idle connections of a proxy outlive it
	deliver := "deliver {\n" + l.Behind() + once + "\n}"
	plain := caddytest.Load(t, "", "respond hello") // so that what Caddy itself leaves is known
	plain.Get("/")
	plain.Stop()
	known := goleak.IgnoreCurrent()

	c := caddytest.Load(t, global, queueSite(deliver, "wait"))
	ids := map[string]bool{}
	for range 10 {
		ids[wantAccepted(t, c.Do("POST", "/", "x")).ID] = true
	}
	c.Reload(global, queueSite(deliver, "visibility 10s"))
	ids[wantAccepted(t, c.Do("POST", "/", "x")).ID] = true
	l.check(t, ids, failedOver(c))
	servers[0].Kill()
	wantAccepted(t, c.Do("POST", "/", "x"))
	c.Stop()
	wantNoGoroutine(t, known)
	if got := connectionsTo(t, servers[1].Client(t)); got != "" {
		t.Errorf("connections are left: %s", got)
	}
}
