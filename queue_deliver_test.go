package fluster_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueDeliveryCarries: the first attempt and the next ones tell which they
// are, and how the one before failed.
func TestQueueDeliveryCarries(t *testing.T) {
	box := newLetterbox(t, 503, 302)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), "backoff 10ms 20ms"))
	delivered, retried := growth(c, "caddy_fluster_queue_delivered_total{"), growth(c, "caddy_fluster_queue_retried_total{")
	const trace = "00-11111111111111111111111111111111-1111111111111111-01"
	a := wantAccepted(t, c.Do("POST", "/x", "body", "Traceparent", trace, "Fluster-Attempt", "99", "X-Forwarded-For", "192.0.2.66"))
	for i, got := range box.wait(t, 3) {
		h := got.header
		if got.body != "body" || h.Get("Fluster-Message-Id") != a.ID || h.Get("Fluster-Attempt") != fmt.Sprint(i+1) || h.Get("Traceparent") != trace {
			t.Errorf("attempt %d: got %v", i+1, got)
		}
		if want := []string{"", "503 Service Unavailable", "302 Found"}[i]; h.Get("Fluster-Last-Error") != want {
			t.Errorf("attempt %d: the last error is %q, want %q", i+1, h.Get("Fluster-Last-Error"), want)
		}
		at, err := time.Parse(time.RFC3339, h.Get("Fluster-Accepted-At"))
		if since := time.Since(at); err != nil || since < -time.Second || since > time.Minute {
			t.Errorf("attempt %d: it was accepted at %s: %v", i+1, h.Get("Fluster-Accepted-At"), err)
		}
		if ff := h["X-Forwarded-For"]; len(ff) != 1 || ff[0] != "127.0.0.1" {
			t.Errorf("attempt %d: X-Forwarded-For is %q", i+1, ff)
		}
	}
	caddytest.Eventually(t, "one delivery is counted, and two retries", func() bool { return delivered() == 1 && retried() == 2 })
}

// growth returns how much the metrics that begin with prefix have grown since it
// was made: they count over the life of the test process.
func growth(c *caddytest.Caddy, prefix string) func() float64 {
	before := c.Metric(prefix)
	return func() float64 { return c.Metric(prefix) - before }
}

// TestQueueRetryAfter: Retry-After is a lower bound.
func TestQueueRetryAfter(t *testing.T) {
	var mu sync.Mutex
	var times []time.Time
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		if len(times) == 1 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(429)
		}
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(o), "backoff 1ms 1ms"))
	wantAccepted(t, c.Do("POST", "/", "x"))
	caddytest.Eventually(t, "it is tried again", func() bool { return o.Count() == 2 })
	mu.Lock()
	defer mu.Unlock()
	if d := times[1].Sub(times[0]); d < 2*time.Second {
		t.Errorf("tried again after %s, want 2s at least", d)
	}
}

// TestQueueDeliversByAnyDirective: a deliver block is made of any directives,
// with matchers and placeholders, and named routes.
func TestQueueDeliversByAnyDirective(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), `
		fluster_queue q {
			deliver {
				@refused path /refused
				error @refused "no" 403
				@cut path /cut
				abort @cut
				respond /gone 410
				handle_path /api/* {
					request_header X-Attempt "{http.fluster.queue.attempt}/{http.fluster.queue.attempts}"
					rewrite * /v2{uri}
					`+box.Behind()+`
				}
			}
			attempts 2
			backoff 1ms 1ms
		}`)
	wantAccepted(t, c.Do("POST", "/api/users?a=b", "x"))
	if got := box.wait(t, 1)[0]; got.uri != "/v2/users?a=b" || got.header.Get("X-Attempt") != "1/2" {
		t.Errorf("delivered %v", got)
	}
	for path, want := range map[string]struct {
		reason   string
		attempts int
	}{
		"/gone":    {"410 Gone", 1},
		"/refused": {"403 Forbidden: no", 2},
		"/cut":     {"the response was cut off", 2},
		"/nobody":  {"no directive of the deliver block answered", 2},
	} {
		a := wantAccepted(t, c.Do("POST", path, "x"))
		m := waitState(t, c, a.ID, "dead")
		if !strings.Contains(m.Reason, want.reason) || m.Attempts != want.attempts {
			t.Errorf("%s: got %+v, want %+v", path, m, want)
		}
	}
}

// TestQueueInvokesNamedRoutes: a deliver block may invoke the site's named routes.
func TestQueueInvokesNamedRoutes(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), `
		fluster_queue q {
			deliver {
				invoke app
			}
		}
	}
	&(app) {
		`+box.Behind())
	wantAccepted(t, c.Do("POST", "/x", "x"))
	if got := box.wait(t, 1)[0]; got.uri != "/x" {
		t.Errorf("delivered %v", got)
	}
}

// TestQueueSigns: what is delivered verifies with the library of Standard
// Webhooks, by either secret, also where the body lies in chunks.
func TestQueueSigns(t *testing.T) {
	const first, second = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), "sign "+first+" "+second))
	bodies := []string{"", `{"test": 2432232314}`, strings.Repeat("0123456789abcdef", 20_000)}
	for _, body := range bodies {
		wantAccepted(t, c.Do("POST", "/", body))
	}
	for _, got := range box.wait(t, len(bodies)) {
		for _, secret := range []string{first, second} {
			wh, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify([]byte(got.body), got.header); err != nil {
				t.Errorf("a body of %d bytes: %v", len(got.body), err)
			}
		}
		if got.header.Get("Webhook-Id") != got.header.Get("Fluster-Message-Id") {
			t.Errorf("the ids differ: %v", got.header)
		}
	}
	if strings.Contains(c.Log(), "C2FVsBQ") {
		t.Error("a secret is in the log")
	}
}

// hanging returns a handler that answers after d, or when the client has left.
func hanging(d time.Duration) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // before that no server sees that the client leaves
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	}
}

// TestQueueFairness: Q6. A destination that hangs holds nobody else up: not
// another queue, not another destination of the same one.
func TestQueueFairness(t *testing.T) {
	hang := caddytest.NewOrigin(t, hanging(time.Hour))
	box, other := newLetterbox(t), newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), `
		handle /q {
			fluster_queue q {
				deliver slow {
					`+hang.Behind()+`
				}
				deliver quick {
					`+box.Behind()+`
				}
				concurrency 2
			}
		}
		handle /other {
			fluster_queue other {
				`+deliverTo(other.Origin)+`
			}
		}`)
	for range 10 {
		wantAccepted(t, c.Do("POST", "/q", "x"))
		if r := c.Do("POST", "/other", "x"); r.Status != 202 {
			t.Fatalf("got %v", r)
		}
	}
	box.wait(t, 10)
	other.wait(t, 10)
	caddytest.Eventually(t, "the slow one has two", func() bool { return hang.Count() == 2 })
	time.Sleep(100 * time.Millisecond)
	if n := hang.Count(); n != 2 {
		t.Errorf("%d deliveries at a time, want 2", n)
	}
}

// TestQueueBreaker: a destination that only fails rests, which costs no attempt,
// and gets all when it is back.
func TestQueueBreaker(t *testing.T) {
	var mu sync.Mutex
	failing := true
	box := newLetterbox(t)
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if failing {
			w.WriteHeader(500)
			return
		}
		box.ServeHTTP(w, r)
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(o), "breaker 3 1s", "attempts 5", "backoff 1ms 1ms", "concurrency 1"))
	for range 10 {
		wantAccepted(t, c.Do("POST", "/", "x"))
	}
	caddytest.Eventually(t, "the breaker opens", func() bool { return strings.Contains(string(c.AskAdmin("/fluster/queues/q").Body), "rests_until") })
	time.Sleep(300 * time.Millisecond)
	if n := o.Count(); n > 4 {
		t.Errorf("%d deliveries to a destination that rests after 3 failures", n)
	}
	mu.Lock()
	failing = false
	mu.Unlock()
	for _, got := range box.wait(t, 10) {
		if a := got.header.Get("Fluster-Attempt"); a > "4" {
			t.Errorf("delivered at attempt %s: the rest has cost attempts", a)
		}
	}
}

// TestQueueLongDelivery: a delivery that takes longer than the visibility is one
// delivery.
func TestQueueLongDelivery(t *testing.T) {
	o := caddytest.NewOrigin(t, hanging(4*time.Second))
	site := queueSite(deliverTo(o), "visibility 1s")
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), site)
	second := caddytest.Start(t, queueOn(s), site) // who would take it
	wantAccepted(t, c.Do("POST", "/", "x"))
	caddytest.Eventually(t, "it is delivered", func() bool {
		return c.Metric("caddy_fluster_queue_delivered_total{")+second.Metric("caddy_fluster_queue_delivered_total{") > 0 && ready(t, s) == 0
	})
	if n := o.Count(); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

// TestQueueAborted: an upstream that breaks off in its response has not taken
// the message.
func TestQueueAborted(t *testing.T) {
	var n atomic.Int64
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) > 1 {
			io.WriteString(w, "whole")
			return
		}
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(o), "backoff 1ms 1ms"))
	wantAccepted(t, c.Do("POST", "/", "x"))
	caddytest.Eventually(t, "it is tried again", func() bool { return o.Count() == 2 })
	if got := o.Last().Header.Get("Fluster-Last-Error"); got != "200 OK, but the response was cut off" {
		t.Errorf("the last error is %q", got)
	}
}

// TestQueueSwitchedProtocols: an upstream that answers 101, for which nobody has
// asked, has not answered 2xx.
func TestQueueSwitchedProtocols(t *testing.T) {
	var n atomic.Int64
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) > 1 {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		conn.Close()
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(o), "backoff 1ms 1ms"))
	wantAccepted(t, c.Do("POST", "/", "x"))
	caddytest.Eventually(t, "it is tried again", func() bool { return n.Load() == 2 })
}

// TestQueueForwardedFor: the upstream learns of the client that was there when the
// message was accepted, once, also behind trusted proxies.
func TestQueueForwardedFor(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, "servers {\n\ttrusted_proxies static private_ranges 127.0.0.0/8\n}\n"+queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	for i, tt := range []struct{ sent, want string }{
		{"", "127.0.0.1"},
		{"192.0.2.66", "192.0.2.66"},
		{"10.1.2.3", "10.1.2.3"}, // an address that is trusted itself
		{"192.0.2.66, 10.1.2.3", "192.0.2.66"},
	} {
		header := []string{}
		if tt.sent != "" {
			header = append(header, "X-Forwarded-For", tt.sent)
		}
		wantAccepted(t, c.Do("POST", "/", "x", header...))
		if got := box.wait(t, i+1)[i].header["X-Forwarded-For"]; len(got) != 1 || got[0] != tt.want {
			t.Errorf("X-Forwarded-For: %s was delivered as %q, want %q", tt.sent, got, tt.want)
		}
	}
}
