package fluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/queue"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// newTestDeliverer returns a deliverer whose only directive is handler.
func newTestDeliverer(t testing.TB, handler func(w http.ResponseWriter, r *http.Request) error) *deliverer {
	t.Helper()
	c := &QueueDelivery{server: new(caddyhttp.Server)}
	c.setDeliveryDefaults()
	var err error
	if c.retry, err = parseStatuses(c.RetryStatus); err != nil {
		t.Fatal(err)
	}
	return &deliverer{
		config: c, destination: &Destination{handler: caddyhttp.HandlerFunc(handler)}, queue: "q",
		count: &queueCounts{queue: "q"}, logger: zap.NewNop(),
	}
}

func testDelivery() *queue.Delivery {
	body := []byte("a\x00b\xff")
	return &queue.Delivery{
		ID: "m1", Body: body, Size: int64(len(body)), Attempt: 3, Class: "high", Node: "a",
		AcceptedAt: time.Date(2026, 11, 22, 12, 0, 0, 5e6, time.UTC), LastError: "503\r\nX-Evil: 1", LastStatus: 503,
		Header: map[string]string{
			headerMethod: "PUT", headerURI: "/a%2Fb?c=%20", headerHost: "example.com", headerRemote: "192.0.2.7", headerScheme: "https",
			"content-type": "application/octet-stream", "x-forwarded-for": "198.51.100.9", "traceparent": "00-11111111111111111111111111111111-1111111111111111-01",
			headerDeadReason: "it died",
		},
	}
}

// TestDeliveryRequest: Q3. What the directives of a deliver block see is the
// request that was accepted, and what a delivery carries besides.
func TestDeliveryRequest(t *testing.T) {
	type seen struct {
		Method, URI, Host, Remote, Body string
		Header                          http.Header
		Text                            string
	}
	var got seen
	w := newTestDeliverer(t, func(w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		got = seen{r.Method, r.RequestURI, r.Host, ip, string(b), r.Header.Clone(),
			repl.ReplaceAll("{http.request.scheme} {http.request.uri} {http.fluster.queue.name}/{http.fluster.queue.id} {http.fluster.queue.attempt} of {http.fluster.queue.attempts} {http.fluster.queue.class} {http.fluster.queue.node} {http.fluster.queue.accepted_at} {http.fluster.queue.last_error} {http.fluster.queue.last_status}", "-")}
		w.WriteHeader(204)
		return err
	})
	res := w.deliver(t.Context(), testDelivery())
	if res.Outcome != queue.Done || res.Status != 204 {
		t.Fatalf("got %+v, want done with 204", res)
	}
	want := seen{"PUT", "/a%2Fb?c=%20", "example.com", "192.0.2.7", "a\x00b\xff", http.Header{
		"Content-Type": {"application/octet-stream"}, "X-Forwarded-For": {"192.0.2.7"}, "Traceparent": {"00-11111111111111111111111111111111-1111111111111111-01"},
		"Fluster-Message-Id": {"m1"}, "Fluster-Attempt": {"3"}, "Fluster-Accepted-At": {"2026-11-22T12:00:00.005Z"},
		"Fluster-Last-Error": {"503  X-Evil: 1"}, "Fluster-Dead-Reason": {"it died"},
	}, "https /a%2Fb?c=%20 q/m1 3 of 10 high a 2026-11-22T12:00:00.005Z 503  X-Evil: 1 503"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
}

// TestDeliveryEnds: however the directives end, the outcome is known.
func TestDeliveryEnds(t *testing.T) {
	respond := func(status int) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(status); return nil }
	}
	tests := []struct {
		name    string
		handler func(http.ResponseWriter, *http.Request) error
		want    queue.Outcome
		reason  string
	}{
		{"2xx", respond(201), queue.Done, ""},
		{"422", respond(422), queue.Dead, "422"},
		{"503", respond(503), queue.Retry, "503"},
		{"nothing is written", func(http.ResponseWriter, *http.Request) error { return nil }, queue.Done, ""},
		{"nobody answers", notDelivered, queue.Retry, "no directive"},
		{"103 and an error", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(103); return errors.New("no") }, queue.Retry, "no"},
		{"abort", func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, queue.Retry, "cut off"},
		{"cut off after 200", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(200); panic(http.ErrAbortHandler) }, queue.Retry, "200 OK, but"},
		{"panic", func(http.ResponseWriter, *http.Request) error { panic("at the disco") }, queue.Retry, "at the disco"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newTestDeliverer(t, tt.handler)
			res := w.deliver(t.Context(), testDelivery())
			if res.Outcome != tt.want || !strings.Contains(res.Reason, tt.reason) {
				t.Errorf("got %+v, want outcome %d and %q", res, tt.want, tt.reason)
			}
			if res.Outcome == queue.Retry && isDelivered(res.Status) {
				t.Errorf("got %+v: a retry with a status of success would not be delivered again", res)
			}
		})
	}
}

// TestDeliveryResponse: what a delivery was answered with is kept, for those who
// wait for it, where it is not too long.
func TestDeliveryResponse(t *testing.T) {
	long := bytes.Repeat([]byte("x"), maxResponse+1)
	for size, want := range map[int]bool{0: true, 10: true, maxResponse: true, maxResponse + 1: false} {
		w := newTestDeliverer(t, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("X-A", "1")
			w.WriteHeader(201)
			w.Write(long[:size])
			return nil
		})
		res := w.deliver(t.Context(), testDelivery())
		if (res.Response != nil) != want || res.Outcome != queue.Done {
			t.Errorf("%d bytes: got response %v, outcome %d", size, res.Response != nil, res.Outcome)
			continue
		}
		if !want {
			continue
		}
		status, h, body, err := responseOf(res.Response)
		if err != nil || status != 201 || h.Get("X-A") != "1" || len(body) != size {
			t.Errorf("%d bytes: got %d, %v, %d bytes, %v", size, status, h, len(body), err)
		}
	}
}

// TestToldTwiceIsCountedOnce: who was told before, as the one who did died in between,
// has that message already.
func TestToldTwiceIsCountedOnce(t *testing.T) {
	address, err := shard.ParseAddress(redistest.Start(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	node, err := shard.NewNode(address, shard.Options{Timeout: 5 * time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	client, err := queue.NewClient(queue.Options{Name: "told", Partitions: queue.OnNodes(node)})
	if err != nil {
		t.Fatal(err)
	}
	told := &teller{from: "q", to: "told", client: client, count: &queueCounts{queue: "told-once"}, logger: zap.NewNop()}
	for attempt := range 2 { // told of the second attempt, the notice has other words
		for range 2 {
			d := testDelivery()
			d.Attempt += attempt
			if err := told.done(t.Context(), d, queue.Result{Outcome: queue.Done, Status: 200}); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := counted(t, queueMetrics.accepted, "told-once")
	if n != 1 || client.Counts(t.Context())[0].Ready != 1 {
		t.Errorf("%v are counted as accepted, and %+v are there, want 1", n, client.Counts(t.Context()))
	}
}

// counted returns what was counted of a queue.
func counted(t *testing.T, v *prometheus.CounterVec, queue string) (n float64) {
	t.Helper()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(v)
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if strings.Contains(m.String(), strconv.Quote(queue)) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestSuspectedDuplicates: a delivery may be the second one if nothing was heard of
// the one before, whatever came of others; not if all that is left is to tell of it.
func TestSuspectedDuplicates(t *testing.T) {
	w := newTestDeliverer(t, func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(204)
		return nil
	})
	w.count.queue = "suspected"
	for _, c := range []struct {
		name      string
		unheard   bool
		lastError string
		status    int
		want      float64
	}{
		{"after a failure", false, "503 Service Unavailable", 503, 0},
		{"after a crash", true, "", 0, 1},
		{"after a failure and a crash", true, "503 Service Unavailable", 503, 1},
		{"after telling has failed", true, "delivered, but", 204, 0},
	} {
		before := counted(t, queueMetrics.duplicates, "suspected")
		d := testDelivery()
		d.Unheard, d.LastError, d.LastStatus = c.unheard, c.lastError, c.status
		w.deliver(t.Context(), d)
		if n := counted(t, queueMetrics.duplicates, "suspected") - before; n != c.want {
			t.Errorf("%s: %v are counted, want %v", c.name, n, c.want)
		}
	}
}

// TestTellerTellsOfAllDestinations: what one worker tells of dead letters for several
// destinations, of which some are in no configuration, are several messages.
func TestTellerTellsOfAllDestinations(t *testing.T) {
	told := &teller{from: "q", destination: "mail", to: "told"}
	seen := map[string]bool{}
	for _, destination := range []string{"mail", "crm", ""} {
		d := testDelivery()
		d.Destination = destination
		seen[told.id(d, "dead")] = true
	}
	if len(seen) != 3 {
		t.Errorf("the messages are %v, want 3", seen)
	}
}

// TestDeliveryInterrupted: what failed because the worker had to stop is handed
// back, and costs no attempt; what was done is done.
func TestDeliveryInterrupted(t *testing.T) {
	for status, want := range map[int]queue.Outcome{200: queue.Done, 502: queue.Release, 404: queue.Dead} {
		ctx, stop := context.WithCancel(t.Context())
		w := newTestDeliverer(t, func(w http.ResponseWriter, r *http.Request) error {
			stop()
			<-r.Context().Done()
			if status == 502 {
				return caddyhttp.Error(499, r.Context().Err())
			}
			w.WriteHeader(status)
			return nil
		})
		if res := w.deliver(ctx, testDelivery()); res.Outcome != want {
			t.Errorf("%d: got %+v, want outcome %d", status, res, want)
		}
	}
}

// TestDeliveryOfGarbage: a message that can be no request is a dead letter; one of
// another program, without a method, is delivered as POST /.
func TestDeliveryOfGarbage(t *testing.T) {
	called := 0
	w := newTestDeliverer(t, func(w http.ResponseWriter, r *http.Request) error {
		called++
		fmt.Fprint(w, r.Method, " ", r.RequestURI)
		return nil
	})
	for name, change := range map[string]func(h map[string]string){
		"method": func(h map[string]string) { h[headerMethod] = "GET /x\r\n" },
		"URI":    func(h map[string]string) { h[headerURI] = "no path" },
		"host":   func(h map[string]string) { h[headerHost] = "a b" },
		"exact":  func(h map[string]string) { h[headerExact] = "{" },
	} {
		d := testDelivery()
		change(d.Header)
		if res := w.deliver(t.Context(), d); res.Outcome != queue.Dead || res.Reason == "" || called != 0 {
			t.Errorf("%s: got %+v after %d calls, want a dead letter after none", name, res, called)
		}
	}
	d := testDelivery()
	d.Header = nil
	if res := w.deliver(t.Context(), d); res.Outcome != queue.Done || string(res.Response.Body) != "POST /" {
		t.Errorf("got %+v, want POST /", res)
	}
}

// TestDeliverySigned: with secrets, deliveries carry the fields of Standard
// Webhooks, whatever the client sent.
func TestDeliverySigned(t *testing.T) {
	var got http.Header
	w := newTestDeliverer(t, func(w http.ResponseWriter, r *http.Request) error { got = r.Header; return nil })
	var err error
	if w.config.secrets, err = parseSecrets([]string{secretNow, secretOld}, caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	d := testDelivery()
	d.Header["webhook-signature"] = "v1,forged"
	if res := w.deliver(t.Context(), d); res.Outcome != queue.Done {
		t.Fatalf("got %+v", res)
	}
	if s := got["Webhook-Signature"]; len(s) != 1 || strings.Count(s[0], "v1,") != 2 || strings.Contains(s[0], "forged") {
		t.Errorf("the signatures are %q", s)
	}
	if got.Get("Webhook-Id") != "m1" || got.Get("Webhook-Timestamp") == "" {
		t.Errorf("the fields are %v", got)
	}
}

// BenchmarkDeliver is what a delivery costs beside Redis and what stands in the
// deliver block.
func BenchmarkDeliver(b *testing.B) {
	w := newTestDeliverer(b, func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(204); return nil })
	d := testDelivery()
	b.ReportAllocs()
	for b.Loop() {
		if w.deliver(b.Context(), d).Outcome != queue.Done {
			b.Fatal("not delivered")
		}
	}
}
