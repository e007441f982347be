package fluster_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// noticeOf is what `callback` tells of a delivery.
type noticeOf struct {
	ID, Queue, State, Method, Host, URI string
	Attempts, Status                    int
	AcceptedAt                          time.Time `json:"accepted_at"`
	Response                            *struct {
		ContentType string `json:"content_type"`
		Body        *string
	}
}

// TestQueueCallback: another queue is told of each message that was delivered,
// and gets a copy of each that died, for whatever reason.
func TestQueueCallback(t *testing.T) {
	box := newLetterbox(t, 200, 422, 500, 500)
	told, dead := newLetterbox(t), newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), `
		handle /q* {
			fluster_queue q {
				`+deliverTo(box.Origin)+`
				attempts 2
				backoff 1ms 1ms
				allow_client expire delay
				callback told
				dead_letter_to dead
			}
		}
		handle /told {
			fluster_queue told {
				`+deliverTo(told.Origin)+`
			}
		}
		handle /dead {
			fluster_queue dead {
				`+deliverTo(dead.Origin)+`
			}
		}`)
	done := wantAccepted(t, c.Do("POST", "/q/1?a", "first"))
	box.wait(t, 1)
	refused := wantAccepted(t, c.Do("PUT", "/q/2", strings.Repeat("second", 20_000), "X-A", "1", "X-A", "2"))
	box.wait(t, 2)
	failed := wantAccepted(t, c.Do("POST", "/q/3", "third"))
	box.wait(t, 4)
	c.DoAdmin("POST", "/fluster/queues/q/pause", "")
	sleepFor(t, 1500)
	expired := wantAccepted(t, c.Do("POST", "/q/4", "fourth", "Fluster-Expire", "100ms"))
	sleepFor(t, 200)
	c.DoAdmin("POST", "/fluster/queues/q/resume", "")

	got := told.wait(t, 1)[0]
	var n noticeOf
	if err := json.Unmarshal([]byte(got.body), &n); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	if n.ID != done.ID || n.Queue != "q" || n.State != "done" || n.Method != "POST" || n.Host != caddytest.Host || n.URI != "/q/1?a" || n.Attempts != 1 || n.Status != 200 ||
		time.Since(n.AcceptedAt) > time.Minute || n.Response == nil || *n.Response.Body != "answer to first" || n.Response.ContentType != "text/plain" {
		t.Errorf("told %s", got.body)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Fluster-Message-Id") != "q/"+done.ID+"/done" || got.header.Get("Correlation-Id") != done.ID {
		t.Errorf("told with %v", got.header)
	}
	for _, d := range dead.wait(t, 3) {
		h := d.header
		want := map[string][4]string{
			refused.ID: {"PUT", "/q/2", "422 Unprocessable Entity", "1"},
			failed.ID:  {"POST", "/q/3", "500 Internal Server Error", "2"},
			expired.ID: {"POST", "/q/4", "expired", "0"}, // it was never tried
		}[h.Get("Fluster-Dead-Id")]
		if d.method != want[0] || d.uri != want[1] || !strings.Contains(h.Get("Fluster-Dead-Reason"), want[2]) || h.Get("Fluster-Dead-Queue") != "q" || h.Get("Fluster-Dead-Attempts") != want[3] ||
			h.Get("Fluster-Message-Id") != "q/"+h.Get("Fluster-Dead-Id")+"/dead" {
			t.Errorf("a copy of a dead letter: %s %s %v, want %q", d.method, d.uri, h, want)
		}
		if h.Get("Fluster-Dead-Id") == refused.ID && (d.body != strings.Repeat("second", 20_000) || len(h["X-A"]) != 2) {
			t.Errorf("the copy is not the message: %d bytes, %v", len(d.body), h)
		}
	}
	// They are told of before they are recorded.
	caddytest.Eventually(t, "there are three dead letters", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Dead == 3 })
}

// TestQueueCallbackFails: a callback that cannot be told delays the end of a
// message, and delivers it no second time.
func TestQueueCallbackFails(t *testing.T) {
	var deliveries atomic.Int64
	o := caddytest.NewOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		deliveries.Add(1)
	})
	told := newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, "fluster {\nnodes "+a.URL()+"\npool other {\nnodes "+b.URL()+"\n}\n}", `
		handle /q* {
			fluster_queue q {
				`+deliverTo(o)+`
				backoff 100ms 100ms
				attempts 100
				callback told
			}
		}
		handle /told {
			fluster_queue told {
				`+deliverTo(told.Origin)+`
				pool other
			}
		}`)
	b.Kill()
	id := wantAccepted(t, c.Do("POST", "/q", "x")).ID
	caddytest.Eventually(t, "telling has failed", func() bool {
		m := ask[messageTold](t, c, "/fluster/queues/q/messages/"+id)
		return strings.Contains(m.LastError, "delivered, but telling queue told")
	})
	b.Restart()
	told.wait(t, 1)
	caddytest.Eventually(t, "the message is done", func() bool { return ready(t, a) == 0 })
	if n := deliveries.Load(); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

// TestQueueCallbackIsReplayed: a dead letter that was delivered and not told of is told
// of when it is replayed, and not delivered again.
func TestQueueCallbackIsReplayed(t *testing.T) {
	box, told := newLetterbox(t), newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	c := caddytest.Load(t, "fluster {\nnodes "+a.URL()+"\npool other {\nnodes "+b.URL()+"\n}\n}",
		"handle /q* {\n"+queueSite(deliverTo(box.Origin), "backoff 100ms 100ms", "attempts 2", "callback told")+"\n}\n"+
			"handle /told {\nfluster_queue told {\n"+deliverTo(told.Origin)+"\npool other\n}\n}")
	b.Kill()
	id := wantAccepted(t, send(t, c, "POST", "/q", "x")).ID
	if m := waitState(t, c, id, "dead"); !strings.Contains(m.Reason, "delivered, but telling queue told") {
		t.Errorf("it is dead because of %q", m.Reason)
	}
	b.Restart()
	caddytest.Eventually(t, "it is told of", func() bool {
		c.DoAdmin("POST", "/fluster/queues/q/dead/replay", `{"all":true}`) // again, where the other node is not back
		return len(told.all()) == 1
	})
	wantEmpty(t, a, b)
	box.wait(t, 1)
	if n := len(box.all()); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
}

// TestQueueCallbackIsCutOff: what was delivered and is being told of when the patience
// of a stop is over, the next one tells of, and does not deliver.
func TestQueueCallbackIsCutOff(t *testing.T) {
	box, told := newLetterbox(t), newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	global := "grace_period 200ms\nfluster {\nnodes " + a.URL() + "\npool other {\nnodes " + b.URL() + "\n}\n}"
	site := func(attempts string) string {
		return "handle /q* {\n" + queueSite(deliverTo(box.Origin), "backoff 1s 1s", "attempts "+attempts, "callback told") + "\n}\n" +
			"handle /told {\nfluster_queue told {\n" + deliverTo(told.Origin) + "\npool other\n}\n}"
	}
	c := caddytest.Load(t, global, site("100"))
	b.Kill()
	wantAccepted(t, send(t, c, "POST", "/q", "x"))
	box.wait(t, 1)
	c.Reload(global, site("99")) // while it is being told
	sleepFor(t, 600)
	b.Restart()
	told.wait(t, 1)
	wantEmpty(t, a, b)
	box.wait(t, 1)
}

// TestQueueCallbackIsTakenAway: what was delivered, and waits to be told of, is done
// when there is nobody to tell any more.
func TestQueueCallbackIsTakenAway(t *testing.T) {
	box := newLetterbox(t)
	a, b := redistest.Start(t), redistest.Start(t)
	global := "fluster {\nnodes " + a.URL() + "\npool other {\nnodes " + b.URL() + "\n}\n}"
	site := func(callback string) string {
		return "handle /q* {\n" + queueSite(deliverTo(box.Origin), "backoff 1s 1s", "attempts 100", callback) + "\n}\n" +
			"handle /told {\nfluster_queue told {\npool other\n}\n}"
	}
	c := caddytest.Load(t, global, site("callback told"))
	b.Kill()
	id := wantAccepted(t, send(t, c, "POST", "/q", "x")).ID
	caddytest.Eventually(t, "telling has failed", func() bool {
		m := ask[messageTold](t, c, "/fluster/queues/q/messages/"+id)
		return strings.Contains(m.LastError, "delivered, but telling queue told")
	})
	c.Reload(global, site(""))
	wantEmpty(t, a)
	box.wait(t, 1)
}

// TestQueueCallbackThatNeverFits: a message that the other queue can never take, here one
// of another program with a name too long for it, becomes a dead letter for all that.
func TestQueueCallbackThatNeverFits(t *testing.T) {
	box, dead := newLetterbox(t, 422), newLetterbox(t)
	a := redistest.Start(t)
	c := caddytest.Load(t, queueOn(a), "handle /q* {\n"+queueSite(deliverTo(box.Origin), "dead_letter_to dead")+"\n}\n"+
		"handle /dead {\nfluster_queue dead {\n"+deliverTo(dead.Origin)+"\n}\n}")
	a.Client(t).XAdd(t.Context(), &redis.XAddArgs{Stream: "{fluster:q:q:0}:s", Values: []string{"i", strings.Repeat("x", 600), "__data__", "y"}})
	box.wait(t, 1)
	caddytest.Eventually(t, "it is a dead letter", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Dead == 1 })
	if len(box.all()) != 1 || len(dead.all()) != 0 {
		t.Errorf("%d deliveries, and %d of its copy, want 1 and none", len(box.all()), len(dead.all()))
	}
}

// TestQueueCallbackOfATornBody: a message of whose body a part is gone, so that there is
// no copy of it to be had, becomes a dead letter for all that.
func TestQueueCallbackOfATornBody(t *testing.T) {
	box, dead := newLetterbox(t, 422), newLetterbox(t)
	a := redistest.Start(t)
	c := caddytest.Load(t, queueOn(a), "handle /q* {\n"+queueSite(deliverTo(box.Origin), "inline_body 1", "attempts 2", "backoff 1ms 1ms", "dead_letter_to dead")+"\n}\n"+
		"handle /dead {\nfluster_queue dead {\n"+deliverTo(dead.Origin)+"\n}\n}")
	c.DoAdmin("POST", "/fluster/queues/q/pause", "")
	sleepFor(t, 2500) // what waits for a message still takes one
	id := wantAccepted(t, send(t, c, "POST", "/q", "body")).ID
	if n := a.Client(t).Del(t.Context(), "{fluster:q:q:0}:b:"+id+":0").Val(); n != 1 {
		t.Fatal("the body does not lie beside the message")
	}
	c.DoAdmin("POST", "/fluster/queues/q/resume", "")
	caddytest.Eventually(t, "it is a dead letter", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Dead == 1 })
	if n := len(dead.all()); n != 0 {
		t.Errorf("%d copies of it were delivered, want none", n)
	}
}
