package fluster_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// stateOf asks for the state of a message where Location says.
func stateOf(t *testing.T, c *caddytest.Caddy, path string) (state struct {
	ID, Queue, State string
	Attempts         int
	LastStatus       int       `json:"last_status"`
	AcceptedAt       time.Time `json:"accepted_at"`
	DueAt            time.Time `json:"due_at"`
	Result           *struct {
		Status      int
		ContentType string `json:"content_type"`
		Body        string
	}
	Destinations map[string]struct{ State string }
}) {
	t.Helper()
	r := c.Get(path)
	if err := json.Unmarshal(r.Body, &state); r.Status != 200 || err != nil || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: got %v %v %v", path, r, r.Header, err)
	}
	if strings.Contains(string(r.Body), "127.0.0.1") {
		t.Errorf("GET %s tells of the network behind: %s", path, r.Body)
	}
	return state
}

func TestQueueStatus(t *testing.T) {
	box := newLetterbox(t, 500)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)),
		queueSite(deliverTo(box.Origin), "status /hooks/status/", "backoff 1s", "id header Webhook-Id", "allow_client delay"))
	r := send(t, c, "POST", "/", "body", "Webhook-Id", "a/b?c")
	path := r.Header.Get("Location")
	if wantAccepted(t, r); path != "/hooks/status/a%2Fb%3Fc" {
		t.Fatalf("got Location: %s", path)
	}
	caddytest.Eventually(t, "the message is done", func() bool { return stateOf(t, c, path).State == "done" })
	s := stateOf(t, c, path)
	if s.ID != "a/b?c" || s.Queue != "q" || s.LastStatus != 200 || s.Attempts != 2 || time.Since(s.AcceptedAt) > time.Minute ||
		s.Result == nil || s.Result.Status != 200 || s.Result.Body != "answer to body" || s.Result.ContentType != "text/plain" {
		t.Errorf("got %+v (%+v)", s, s.Result)
	}
	if r := c.Do("HEAD", path, ""); r.Status != 200 || len(r.Body) != 0 {
		t.Errorf("HEAD: got %v", r)
	}
	path = send(t, c, "POST", "/", "later", "Fluster-Delay", "1h").Header.Get("Location")
	if s := stateOf(t, c, path); s.State != "delayed" || time.Until(s.DueAt) < 50*time.Minute {
		t.Errorf("of a delayed one: got %+v", s)
	}
	for _, path := range []string{"/hooks/status/none", "/hooks/status/a/b", "/hooks/status/a%20b"} {
		if r := c.Get(path); r.Status != 404 {
			t.Errorf("GET %s: got %v", path, r)
		}
	}
	wantProblem(t, c.Get("/hooks/status/none"), 404)
	for _, path := range []string{"/hooks/status", "/hooks/status/", "/hooks/statuses", "/"} {
		if r := c.Get(path); string(r.Body) != "passed on" {
			t.Errorf("GET %s: got %v", path, r)
		}
	}
}

func TestQueueStatusOfADeadLetter(t *testing.T) {
	box := newLetterbox(t, 400)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), "status /s"))
	path := send(t, c, "POST", "/", "x").Header.Get("Location")
	caddytest.Eventually(t, "the message is dead", func() bool { return stateOf(t, c, path).State == "dead" })
	if s := stateOf(t, c, path); s.LastStatus != 400 || s.Attempts != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestQueueStatusWithSeveralDestinations(t *testing.T) {
	good, bad := newLetterbox(t), newLetterbox(t, 400)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(
		"deliver bad {\n"+bad.Behind()+"\n}", "deliver good {\n"+good.Behind()+"\n}", "status /s"))
	path := send(t, c, "POST", "/", "x").Header.Get("Location")
	good.wait(t, 1)
	bad.wait(t, 1)
	caddytest.Eventually(t, "both are done with", func() bool { return stateOf(t, c, path).State == "dead" })
	want := map[string]struct{ State string }{"good": {"done"}, "bad": {"dead"}}
	if diff := cmp.Diff(want, stateOf(t, c, path).Destinations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueueStatusWhileNodesAreAway: that a message is not found where one can
// look does not mean that there is none.
func TestQueueStatusWhileNodesAreAway(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, queueOn(a, b), queueSite("status /s"))
	b.Stop()
	caddytest.Eventually(t, "it is not known", func() bool { return c.Get("/s/none").Status == 503 })
	wantProblem(t, c.Get("/s/none"), 503)
}

// TestQueueStatusPath: it may be of any letters.
func TestQueueStatusPath(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin), `status "/größe/[1]/"`))
	path := send(t, c, "POST", "/", "x").Header.Get("Location")
	if stateOf(t, c, path).ID == "" || !strings.HasPrefix(path, "/gr%C3%B6%C3%9Fe/") {
		t.Errorf("the state is at %s", path)
	}
}

// TestQueueStatusOfACompressedResult: who asks must know what the bytes are.
func TestQueueStatusOfACompressedResult(t *testing.T) {
	told := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), "handle /told {\nfluster_queue told {\n"+deliverTo(told.Origin)+"\n}\n}\n"+
		queueSite("deliver {\nencode {\ngzip\nminimum_length 1\n}\nheader Content-Type text/plain\nrespond \"text\"\n}", "status /s", "callback told"))
	path := send(t, c, "POST", "/", "x", "Accept-Encoding", "gzip").Header.Get("Location")
	caddytest.Eventually(t, "the message is done", func() bool { return stateOf(t, c, path).State == "done" })
	for _, s := range []string{string(c.Get(path).Body), told.wait(t, 1)[0].body} {
		if !strings.Contains(s, `"content_encoding":"gzip"`) || !strings.Contains(s, `"body_base64":"`) {
			t.Errorf("got %s", s)
		}
	}
}

// TestQueueStatusBehindARewrite: the path is that of the client, whatever
// handle_path makes of it.
func TestQueueStatusBehindARewrite(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), "handle_path /hooks/* {\n"+queueSite(deliverTo(box.Origin), "status /hooks/status")+"\n}")
	path := send(t, c, "POST", "/hooks/a", "x").Header.Get("Location")
	if stateOf(t, c, path).ID == "" {
		t.Error("no id")
	}
	if got := box.wait(t, 1)[0].uri; got != "/a" {
		t.Errorf("delivered to %s", got)
	}
}

func TestQueueWait(t *testing.T) {
	slow := make(chan struct{})
	defer close(slow)
	origin := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-slow
		case "/wrong":
			w.WriteHeader(422)
		case "/huge":
			w.Write(make([]byte, 2<<20))
		default:
			w.Header()["X-A"] = []string{"1", "2"}
			w.WriteHeader(201)
		}
		w.Write([]byte("the answer"))
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(origin), "wait 10s"))
	for range 20 {
		r := c.Do("POST", "/", "x", "Prefer", "wait=10")
		if r.Status != 201 || string(r.Body) != "the answer" || r.Header.Get("Preference-Applied") != "wait=10" || r.Header.Get("Fluster-Message-Id") == "" || r.Took > 5*time.Second {
			t.Fatalf("got %v %v after %s", r, r.Header, r.Took)
		}
		if diff := cmp.Diff([]string{"1", "2"}, r.Header["X-A"]); diff != "" {
			t.Errorf("X-A (-want +got):\n%s", diff)
		}
	}
	if r := c.Do("POST", "/wrong", "x", "Prefer", "wait=10"); r.Status != 422 || string(r.Body) != "the answer" {
		t.Errorf("of a refusal: got %v", r)
	}
	r := send(t, c, "POST", "/slow", "x", "Prefer", "respond-async, wait=1")
	if wantAccepted(t, r); r.Took < 900*time.Millisecond || r.Header.Get("Preference-Applied") != "respond-async, wait=1" {
		t.Errorf("of a slow one: got %v %v after %s", r, r.Header, r.Took)
	}
	wantAccepted(t, send(t, c, "POST", "/huge", "x", "Prefer", "wait=1"))
	if r := c.Do("POST", "/slow", "x"); r.Took > 900*time.Millisecond {
		t.Errorf("without Prefer: it took %s", r.Took)
	} else {
		wantAccepted(t, r)
	}
}

// TestQueueWaitOfALastFailure: the answer to the last attempt comes back also where
// another one could have followed it.
func TestQueueWaitOfALastFailure(t *testing.T) {
	origin := caddytest.NewOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		w.Write([]byte("never"))
	})
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(origin), "wait 10s", "attempts 2", "backoff 1ms 1ms"))
	if r := c.Do("POST", "/", "x", "Prefer", "wait=10"); r.Status != 503 || string(r.Body) != "never" || r.Took > 5*time.Second {
		t.Errorf("got %v after %s", r, r.Took)
	}
	if origin.Count() != 2 {
		t.Errorf("got %d attempts, want 2", origin.Count())
	}
}

// lateSubscriptions stands before a server, which hears of subscriptions only after
// some time.
func lateSubscriptions(t *testing.T, s *redistest.Server, late time.Duration) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	forward := func(dst, src net.Conn) {
		defer dst.Close()
		defer src.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(buf[:n], []byte("\r\nsubscribe\r\n")) {
				time.Sleep(late)
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", s.Addr())
			if err != nil {
				client.Close()
				continue
			}
			wg.Go(func() { forward(server, client) })
			wg.Go(func() { forward(client, server) })
		}
	})
	t.Cleanup(wg.Wait) // the last: then the Caddys are gone
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// The first request after a start gets the upstream's answer too, though the nodes
// are not told yet to send it here; but it does not wait for that for long.
func TestQueueWaitOfTheFirst(t *testing.T) {
	for late, want := range map[time.Duration]int{60 * time.Millisecond: 201, time.Second: 202} {
		origin := caddytest.NewOrigin(t, caddytest.Answer(201, "the answer"))
		addr := lateSubscriptions(t, redistest.Start(t), late)
		c := caddytest.Load(t, "fluster {\nnodes redis://"+addr+"\n}", `route {
			fluster_queue q {
				`+deliverTo(origin)+`
				wait 10s
			}
		}`)
		r := c.Do("POST", "/", "x", "Prefer", "wait=1")
		if r.Status != want {
			t.Errorf("subscribed after %s: got %v, want %d", late, r, want)
		}
		c.Stop()
	}
}

func TestQueueBatch(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)),
		queueSite(deliverTo(box.Origin), "batch 3", "order_by {http.fluster.item.customer}", "dedup {header.Idempotency-Key} 1m", "max_body 10000"))
	type answer struct {
		Queue string
		Items []accepted
	}
	ask := func(contentType, body string, header ...string) (a answer, status int) {
		t.Helper()
		r := c.Do("POST", "/a?b", body, append(header, "Content-Type", contentType)...)
		if err := json.Unmarshal(r.Body, &a); err != nil {
			t.Fatalf("got %v: %v", r, err)
		}
		return a, r.Status
	}
	a, status := ask("application/json; charset=utf-8", ` [{"customer":"1", "n": 1},{"customer":"1"},3]`, "X-A", "b", "Digest", "whole")
	if status != 202 || a.Queue != "q" || len(a.Items) != 3 || a.Items[0].ID == "" || a.Items[0].ID == a.Items[1].ID || a.Items[2].Status != 202 || a.Items[0].State != "ready" {
		t.Errorf("got %d %+v", status, a)
	}
	bodies := map[string]bool{}
	for _, l := range box.wait(t, 3) {
		bodies[l.body] = true
		if l.uri != "/a?b" || l.header.Get("X-A") != "b" || l.header.Get("Content-Type") != "application/json" || l.header.Get("Digest") != "" {
			t.Errorf("delivered %+v", l)
		}
	}
	if diff := cmp.Diff(map[string]bool{`{"customer":"1", "n": 1}`: true, `{"customer":"1"}`: true, "3": true}, bodies); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
	a, status = ask("application/x-ndjson", "1\n\n2\r\n", "Idempotency-Key", "k")
	if status != 202 || len(a.Items) != 2 || a.Items[0].Replayed {
		t.Errorf("of lines: got %d %+v", status, a)
	}
	b, status := ask("application/x-ndjson", "1\n3\n", "Idempotency-Key", "k") // item 0 again; item 1 with another body
	if status != 207 || len(b.Items) != 2 || !b.Items[0].Replayed || b.Items[0].ID != a.Items[0].ID || b.Items[1].Status != 422 || b.Items[1].Detail == "" {
		t.Errorf("again: got %d %+v", status, b)
	}
	box.wait(t, 5)
	for body, want := range map[string]int{"[1,2,3,4]": 413, "[1,": 400, "[]": 400} {
		wantProblem(t, c.Do("POST", "/", body, "Content-Type", "application/json"), want)
	}
	long := `["` + strings.Repeat("1", 5000) + `","` + strings.Repeat("2", 5000) + `"]`
	wantProblem(t, post(t, c, long, true, "Content-Type", "application/json"), 413)
	wantAccepted(t, send(t, c, "POST", "/", `{"customer":"x"}`, "Content-Type", "application/json")) // one message, like any other
	wantAccepted(t, send(t, c, "POST", "/", "[1,2]", "Content-Type", "text/plain"))
	wantAccepted(t, send(t, c, "POST", "/", "[1,2]", "Content-Type", "application/json", "Content-Encoding", "x"))
	box.wait(t, 8)
}

// TestQueueSplitsNothingUnasked: an array is one message.
func TestQueueSplitsNothingUnasked(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	wantAccepted(t, send(t, c, "POST", "/", "[1,2]", "Content-Type", "application/json"))
	if got := box.wait(t, 1)[0].body; got != "[1,2]" {
		t.Errorf("delivered %q", got)
	}
}
