package fluster_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// messageTold is what the admin endpoint tells of a message.
type messageTold struct {
	ID, Queue, Destination, State, Node, Reason, Method, Host, URI string

	Attempts   int
	Size       int64
	LastStatus int    `json:"last_status"`
	LastError  string `json:"last_error"`
	AcceptedAt string `json:"accepted_at"`
	DiedAt     string `json:"died_at"`
	Body       *string
	Base64     []byte `json:"body_base64"`
	Deliveries []messageTold
}

// ask gets JSON from the admin endpoint.
func ask[T any](t *testing.T, c *caddytest.Caddy, path string) (v T) {
	t.Helper()
	r := c.AskAdmin(path)
	if r.Err != nil || r.Status != 200 || r.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: got %v", path, r)
	}
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, r.Body)
	}
	return v
}

// waitState waits until a message of queue q is in a state.
func waitState(t *testing.T, c *caddytest.Caddy, id, state string) (m messageTold) {
	t.Helper()
	caddytest.Eventually(t, "message "+id+" is "+state, func() bool {
		r := c.AskAdmin("/fluster/queues/q/messages/" + url.PathEscape(id))
		return r.Status == 200 && json.Unmarshal(r.Body, &m) == nil && m.State == state
	})
	return m
}

// depthOf is what the admin endpoint tells of a queue.
type depthOf struct {
	Name, Pool           string
	Ready, Delayed, Dead int64
	InFlight             int64 `json:"in_flight"`
	Paused, Partial      bool
	Nodes                []struct{ Node, Error string }
}

// TestQueueDeadLetters: dead letters are listed, shown with what they carry,
// replayed under their ids, and dropped.
func TestQueueDeadLetters(t *testing.T) {
	box := newLetterbox(t, 422, 422, 422, 422, 422)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	var ids []string
	for i := range 5 {
		a := wantAccepted(t, c.Do("POST", fmt.Sprint("/hook?n=", i), fmt.Sprint("body ", i)))
		waitState(t, c, a.ID, "dead")
		ids = append(ids, a.ID)
	}
	var all []messageTold
	for path := "/fluster/queues/q/dead?limit=2"; path != ""; {
		r := c.AskAdmin(path)
		var page []messageTold
		if err := json.Unmarshal(r.Body, &page); err != nil || len(page) > 2 {
			t.Fatalf("GET %s: %v %v", path, r, err)
		}
		all = append(all, page...)
		path, _ = strings.CutSuffix(strings.TrimPrefix(r.Header.Get("Link"), "<"), `>; rel="next"`)
	}
	if len(all) != 5 {
		t.Fatalf("%d dead letters are listed, want 5: %+v", len(all), all)
	}
	var listed []string
	for _, m := range all {
		listed = append(listed, m.ID)
		if m.State != "dead" || m.Reason != "422 Unprocessable Entity" || m.Attempts != 1 || m.LastStatus != 422 || m.Method != "POST" ||
			m.Host != caddytest.Host || !strings.HasPrefix(m.URI, "/hook?n=") || m.Size != 6 || m.AcceptedAt == "" || m.DiedAt == "" || m.Node == "" {
			t.Errorf("a dead letter is told as %+v", m)
		}
	}
	if diff := cmp.Diff(ids, listed, sortStrings); diff != "" {
		t.Errorf("the dead letters (-want +got):\n%s", diff)
	}
	if m := ask[messageTold](t, c, "/fluster/queues/q/messages/"+ids[0]+"?body=true"); m.Body == nil || *m.Body != "body 0" {
		t.Errorf("shown with its body: %+v", m)
	}
	c.WaitLogged("a message became a dead letter", ids[0])
	c.WaitLogged(`"event"`, "fluster.queue_dead_letter", ids[0])

	replay := func(method, path, body, want string) {
		t.Helper()
		if r := c.DoAdmin(method, "/fluster/queues/q/dead"+path, body); r.Status != 200 || strings.TrimSpace(string(r.Body)) != want {
			t.Errorf("%s: got %v, want %s", body, r, want)
		}
	}
	replay("POST", "/replay", `{"ids":["`+ids[0]+`"]}`, `{"replayed":1}`)
	got := box.wait(t, 6)[5]
	if got.header.Get("Fluster-Message-Id") != ids[0] || got.body != "body 0" || got.uri != "/hook?n=0" || got.header.Get("Fluster-Attempt") != "1" {
		t.Errorf("replayed: %v", got)
	}
	replay("DELETE", "", `{"ids":["`+ids[1]+`","nobody"]}`, `{"dropped":1}`)
	replay("POST", "/replay", `{"all":true}`, `{"replayed":3}`)
	box.wait(t, 9)
	caddytest.Eventually(t, "nothing is left", func() bool {
		d := ask[depthOf](t, c, "/fluster/queues/q")
		return d.Ready+d.InFlight+d.Delayed+d.Dead == 0
	})
	replay("DELETE", "", `{"all":true}`, `{"dropped":0}`)
}

var sortStrings = cmp.Transformer("sort", func(in []string) map[string]int {
	out := map[string]int{}
	for _, s := range in {
		out[s]++
	}
	return out
})

// TestQueueAdminRefuses: what the admin endpoint does not understand it does not do.
func TestQueueAdminRefuses(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite("attempts 3"))
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/fluster/queues", "", 405},
		{"POST", "/fluster/queues/q", "", 405},
		{"GET", "/fluster/queues/nobody", "", 404},
		{"GET", "/fluster/queues/q/nothing", "", 404},
		{"GET", "/fluster/queues/q/messages/nobody", "", 404},
		{"GET", "/fluster/queues?name=q", "", 400},
		{"GET", "/fluster/queues/q?node=a", "", 400},
		{"GET", "/fluster/queues/q/messages/none?body=yes", "", 400},
		{"GET", "/fluster/queues/q/messages/none?body", "", 400},
		{"GET", "/fluster/queues/q/messages?limit=0", "", 400},
		{"GET", "/fluster/queues/q/dead?limit=1001", "", 400},
		{"GET", "/fluster/queues/q/dead?limit=x", "", 400},
		{"GET", "/fluster/queues/q/dead?page=2", "", 400},
		{"GET", "/fluster/queues/q/dead?after=%00", "", 400},
		{"POST", "/fluster/queues/q/dead", `{"all":true}`, 405},
		{"DELETE", "/fluster/queues/q/dead", `{}`, 400},
		{"DELETE", "/fluster/queues/q/dead", ``, 400},
		{"DELETE", "/fluster/queues/q/dead", `{"all":false}`, 400},
		{"DELETE", "/fluster/queues/q/dead", `{"all":true,"ids":["a"]}`, 400},
		{"DELETE", "/fluster/queues/q/dead", `{"everything":true}`, 400},
		{"POST", "/fluster/queues/q/dead/replay", `{"ids":"a"}`, 400},
		{"POST", "/fluster/queues/q/dead/replay", `{"all":true} {}`, 400},
		{"GET", "/fluster/queues/q/dead/replay", ``, 405},
		{"GET", "/fluster/queues/q/pause", "", 405},
		{"POST", "/fluster/queues/q/pause?for=1h", "", 400},
		{"POST", "/fluster/queues/nobody/pause", "", 404},
	} {
		if r := c.DoAdmin(tt.method, tt.path, tt.body); r.Status != tt.want {
			t.Errorf("%s %s %s: got %v, want %d", tt.method, tt.path, tt.body, r, tt.want)
		}
	}
	if r := c.DoAdmin("PUT", "/fluster/queues/q/dead", ""); !strings.Contains(strings.Join(r.Header["Allow"], ", "), "DELETE") {
		t.Errorf("Allow is %q", r.Header["Allow"])
	}
}

// TestQueuePause: a paused queue accepts and does not deliver, here and on other
// Caddys, until it is resumed.
func TestQueuePause(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	site := queueSite(deliverTo(box.Origin))
	c := caddytest.Load(t, queueOn(s), site)
	other := caddytest.Start(t, queueOn(s), site)
	if r := c.DoAdmin("POST", "/fluster/queues/q/pause", ""); r.Status != 200 || strings.TrimSpace(string(r.Body)) != `{"name":"q","paused":true}` {
		t.Fatalf("got %v", r)
	}
	c.WaitLogged(`"event"`, "fluster.queue_paused")
	sleepFor(t, 1500) // within which each worker has seen it
	for range 5 {
		wantAccepted(t, c.Do("POST", "/", "x"))
		wantAccepted(t, other.Do("POST", "/", "x"))
	}
	sleepFor(t, 500)
	if n := len(box.all()); n != 0 {
		t.Errorf("%d deliveries of a paused queue", n)
	}
	if d := ask[[]depthOf](t, other, "/fluster/queues"); len(d) != 1 || !d[0].Paused || d[0].Ready != 10 || d[0].Name != "q" {
		t.Errorf("it is told as %+v", d)
	}
	if page := ask[[]messageTold](t, c, "/fluster/queues/q/messages?limit=3"); len(page) != 3 || page[0].State != "ready" {
		t.Errorf("messages that wait: %+v", page)
	}
	if got := c.Metric("caddy_fluster_queue_paused{"); got != 1 {
		t.Errorf("the metric paused is %v", got)
	}
	other.DoAdmin("POST", "/fluster/queues/q/resume", "")
	box.wait(t, 10)
	if s := string(c.AskAdmin("/fluster/status").Body); !strings.Contains(s, `"queues":[{"name":"q"`) {
		t.Errorf("the status is %s", s)
	}
}

// TestQueueDepthWithoutANode: a node that is away is told of, and holds the
// answer up for no more than a second.
func TestQueueDepthWithoutANode(t *testing.T) {
	servers, global := nodes(t, 2)
	c := caddytest.Load(t, global, queueSite("attempts 3"))
	for range 20 {
		wantAccepted(t, c.Do("POST", "/", "x"))
	}
	servers[1].Pause()
	caddytest.Eventually(t, "a node is away", func() bool {
		r := c.AskAdmin("/fluster/queues/q")
		var d depthOf
		if r.Err != nil || json.Unmarshal(r.Body, &d) != nil || len(d.Nodes) != 2 {
			t.Fatalf("got %v", r)
		}
		if r.Took.Seconds() > 3 {
			t.Errorf("it took %s", r.Took)
		}
		return d.Partial && d.Ready > 0 && d.Ready < 20 && d.Nodes[0].Error == "" && d.Nodes[1].Error != ""
	})
	servers[1].Resume()
	caddytest.Eventually(t, "it is back", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Ready == 20 })
}

// TestQueueDepthMetrics: a scraper that asks often costs Redis nothing.
func TestQueueDepthMetrics(t *testing.T) {
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), queueSite("attempts 3"))
	for range 3 {
		wantAccepted(t, c.Do("POST", "/", "x"))
	}
	caddytest.Eventually(t, "the depth is told", func() bool { return c.Metric("caddy_fluster_queue_messages{") == 3 })
	if got := c.Metric("caddy_fluster_queue_oldest_seconds{"); got <= 0 || got > 60 {
		t.Errorf("the oldest is %v s old", got)
	}
	calls := func() (n int) {
		info, err := s.Client(t).Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		if _, told, ok := strings.Cut(info, "cmdstat_xlen:calls="); ok {
			fmt.Sscanf(told, "%d,", &n)
		}
		return n
	}
	c.Metric("caddy_fluster_queue_messages{")
	before := calls()
	for range 50 {
		c.Metric("caddy_fluster_queue_messages{")
	}
	// On a machine that stands still meanwhile, they may take longer than a depth is kept.
	if after := calls(); before == 0 || after > before+10 {
		t.Errorf("50 scrapes: the nodes were asked %d times, and then %d", before, after)
	}
}

func sleepFor(t *testing.T, ms int) {
	t.Helper()
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-t.Context().Done():
	}
}
