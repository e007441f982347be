package fluster_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

func TestQueueDedup(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(box.Origin), "dedup {header.Idempotency-Key} 1m"))
	first := wantAccepted(t, send(t, c, "POST", "/", "a", "Idempotency-Key", "k"))
	again := c.Do("POST", "/", "a", "Idempotency-Key", "k")
	if a := wantAccepted(t, again); a.ID != first.ID || a.State != "accepted" || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("got %+v %v, want the id %s again", a, again.Header, first.ID)
	}
	wantProblem(t, c.Do("POST", "/", "other", "Idempotency-Key", "k"), 422)
	for range 2 { // without a key each is one
		if r := c.Do("POST", "/", "a"); r.Header.Get("Idempotency-Replayed") != "" || wantAccepted(t, r).ID == first.ID {
			t.Errorf("without a key: got %v %v", r, r.Header)
		}
	}
	box.wait(t, 3)
}

// TestQueueDedupAtOnce: the same key fifty times at once, on two Caddys, is one
// message, and one delivery.
func TestQueueDedupAtOnce(t *testing.T) {
	box := newLetterbox(t)
	global := queueOn(redistest.Start(t), redistest.Start(t))
	site := queueSite(deliverTo(box.Origin), "dedup {header.Idempotency-Key} 1m")
	caddies := []*caddytest.Caddy{caddytest.Load(t, global, site), caddytest.Start(t, global, site)}
	ids := make([]string, 50)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			ids[i] = caddies[i%2].Do("POST", "/", "a", "Idempotency-Key", "k").Header.Get("Fluster-Message-Id")
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("got ids %q", ids)
		}
	}
	box.wait(t, 1)
	time.Sleep(200 * time.Millisecond)
	box.wait(t, 1)
}

func TestQueueBacklog(t *testing.T) {
	body := strings.Repeat("x", 1000)
	for option, most := range map[string]int{"backlog 3": 3, "backlog 4KB 1h": 4} { // a message has some hundred bytes beside its body
		c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(option))
		var r caddytest.Response
		n := 0
		for r = c.Do("POST", "/", body); r.Status == 202 && n < 10; n++ {
			r = c.Do("POST", "/", body)
		}
		wantProblem(t, r, 429)
		if n > most || n < most-1 || option == "backlog 3" && n != 3 {
			t.Errorf("%s: %d messages were accepted", option, n)
		}
		if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
			t.Errorf("%s: got Retry-After: %q", option, r.Header.Get("Retry-After"))
		}
		c.Stop()
	}
}

// TestQueueWithoutNodes: 503 under a second, Retry-After, nothing stored; and
// accepted again soon after a node is back.
func TestQueueWithoutNodes(t *testing.T) {
	box := newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, queueOn(a, b), queueSite(deliverTo(box.Origin)))
	a.Stop()
	wantAccepted(t, send(t, c, "POST", "/", "one is left"))
	b.Pause()
	for range 3 {
		r := c.Do("POST", "/", "refused")
		wantProblem(t, r, 503)
		if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
			t.Errorf("got Retry-After: %q", r.Header.Get("Retry-After"))
		}
		if r.Took > 2*time.Second { // promised is one second; the machine may be loaded
			t.Errorf("it took %s", r.Took)
		}
	}
	a.Restart()
	caddytest.Eventually(t, "messages are accepted again", func() bool { return c.Do("POST", "/", "again").Status == 202 })
}

func TestQueueIDs(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(box.Origin), "id header Webhook-Id"))
	if a := wantAccepted(t, send(t, c, "POST", "/", "a", "Webhook-Id", `msg/1?"\`)); a.ID != `msg/1?"\` {
		t.Errorf("got %+v", a)
	}
	if got := box.wait(t, 1)[0].header.Get("Fluster-Message-Id"); got != `msg/1?"\` {
		t.Errorf("delivered as %q", got)
	}
	for _, id := range []string{"a:b", "a~b", "{a}", "a b", strings.Repeat("a", 129), "caf\xe9"} {
		wantProblem(t, c.Do("POST", "/", "a", "Webhook-Id", id), 400)
	}
	if a := wantAccepted(t, send(t, c, "POST", "/", "a")); len(a.ID) != 26 {
		t.Errorf("without the field: got %+v", a)
	}
	box.wait(t, 2)
}

// TestQueueSameIDWhileItWaits: a message that is there already is not put in again.
func TestQueueSameIDWhileItWaits(t *testing.T) {
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), queueSite("id header Webhook-Id"))
	wantAccepted(t, send(t, c, "POST", "/", "a", "Webhook-Id", "1"))
	if r := c.Do("POST", "/", "a", "Webhook-Id", "1"); wantAccepted(t, r).ID != "1" || r.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("got %v %v", r, r.Header)
	}
	wantProblem(t, c.Do("POST", "/", "b", "Webhook-Id", "1"), 422)
	if n := ready(t, s); n != 1 {
		t.Errorf("%d messages are there", n)
	}
}

func TestQueueDelayAndExpire(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), "delay 1h", "expire {header.X-Expire}", "allow_client delay expire"))
	if a := wantAccepted(t, send(t, c, "POST", "/", "an hour")); a.State != "delayed" {
		t.Errorf("got %+v", a)
	}
	if a := wantAccepted(t, send(t, c, "POST", "/", "at once", "Fluster-Delay", "0")); a.State != "ready" {
		t.Errorf("got %+v", a)
	}
	box.wait(t, 1)
	start := time.Now()
	if a := wantAccepted(t, send(t, c, "POST", "/", "soon", "Fluster-Delay", "700ms", "Fluster-Expire", "1m")); a.State != "delayed" {
		t.Errorf("got %+v", a)
	}
	if got := box.wait(t, 2)[1]; got.body != "soon" || time.Since(start) < 600*time.Millisecond || got.header.Get("Fluster-Delay") != "" {
		t.Errorf("after %s: %q", time.Since(start), got)
	}
	for _, field := range [][]string{{"Fluster-Delay", "soon"}, {"Fluster-Delay", "-1s"}, {"Fluster-Delay", "400d"}, {"X-Expire", "x"}, {"Fluster-Expire", "0"},
		{"Fluster-Expire", "2001-01-01T00:00:00Z"}, {"Fluster-Expire", "1s"}} { // the last: before the hour is over
		wantProblem(t, c.Do("POST", "/", "x", field...), 400)
	}
	box.wait(t, 2)
}

func TestQueueClientsMayNotDelayUnlessTheyMay(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	if a := wantAccepted(t, send(t, c, "POST", "/", "x", "Fluster-Delay", "1h", "Fluster-Expire", "nonsense")); a.State != "ready" {
		t.Errorf("got %+v", a)
	}
	box.wait(t, 1)
}

// TestQueueOrder: {path.1} is the second part of the path. Of one key at most one
// is under way, in order.
func TestQueueOrder(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(box.Origin), "order_by {path.1}"))
	const keys, each = 5, 12
	for i := range each {
		for k := range keys {
			wantAccepted(t, send(t, c, "POST", fmt.Sprintf("/%d/key%d/x", i, k), strconv.Itoa(i)))
		}
	}
	next := map[string]int{}
	for _, l := range box.wait(t, keys*each) {
		key := strings.Split(l.uri, "/")[2]
		if l.body != strconv.Itoa(next[key]) {
			t.Fatalf("%s: got %s, want %d", l.uri, l.body, next[key])
		}
		next[key]++
	}
}

// TestQueueOrderAndDedup: the key that makes requests one message does not take
// messages out of their order; and one that comes to its turn before it is due was
// not tried.
func TestQueueOrderAndDedup(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t), redistest.Start(t)),
		queueSite(deliverTo(box.Origin), "order_by {path.0}", "dedup {header.Idempotency-Key}", "allow_client delay"))
	retried := growth(c, "caddy_fluster_queue_retried_total{")
	wantAccepted(t, send(t, c, "POST", "/a", "0", "Fluster-Delay", "200ms"))
	wantAccepted(t, send(t, c, "POST", "/a", "1", "Fluster-Delay", "1s"))
	const n = 20
	for i := 2; i < n; i++ {
		wantAccepted(t, send(t, c, "POST", "/a", strconv.Itoa(i), "Idempotency-Key", strconv.Itoa(i)))
	}
	for i, l := range box.wait(t, n) {
		if l.body != strconv.Itoa(i) || l.header.Get("Fluster-Attempt") != "1" {
			t.Errorf("got %s as %d, by attempt %s", l.body, i, l.header.Get("Fluster-Attempt"))
		}
	}
	if retried() != 0 {
		t.Errorf("%v retries are counted of what never failed", retried())
	}
}

func TestQueuePriority(t *testing.T) {
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), queueSite("priority {header.X-Priority} high=3 low=1"))
	for _, class := range []string{"high", "low", "other", ""} {
		wantAccepted(t, send(t, c, "POST", "/", "x", "X-Priority", class))
	}
	// Lanes are streams: one for each class, and one for all else.
	keys, err := s.Client(t).Keys(t.Context(), "*:s").Result()
	if err != nil || len(keys) != 3 {
		t.Errorf("got streams %q %v, want three", keys, err)
	}
	if n := ready(t, s); n != 2 {
		t.Errorf("%d messages are in the plain stream, want 2", n)
	}
}

// TestQueueAck: what is not as durable as asked is refused, and not delivered.
func TestQueueAck(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := caddytest.Load(t, queueOn(s), queueSite(deliverTo(box.Origin), "ack aof"))
	wantAccepted(t, send(t, c, "POST", "/", "on disk"))
	box.wait(t, 1)
	c.Reload(queueOn(s), queueSite(deliverTo(box.Origin), "ack replicas 1"))
	r := c.Do("POST", "/", "nowhere")
	wantProblem(t, r, 503)
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	time.Sleep(300 * time.Millisecond)
	box.wait(t, 1)
}

func TestQueueCopies(t *testing.T) {
	box := newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, queueOn(a, b), queueSite(deliverTo(box.Origin), "copies 2"))
	wantAccepted(t, send(t, c, "POST", "/", "twice there"))
	box.wait(t, 1)
	b.Stop()
	wantProblem(t, c.Do("POST", "/", "no second node"), 503)
	box.wait(t, 1)
}
