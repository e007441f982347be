package fluster_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueRefusesToLoad is about what a configuration says that no Caddyfile
// can be blamed for alone.
func TestQueueRefusesToLoad(t *testing.T) {
	s := redistest.Start(t)
	nodes := queueOn(s)
	c := caddytest.Load(t, nodes, "respond 200")
	for name, test := range map[string]struct{ global, site, want string }{
		"no node":             {"", queueSite("attempts 3"), "a queue needs at least one Redis server"},
		"no node, bare":       {"", "fluster_queue q", "a queue needs at least one Redis server"},
		"no such pool":        {nodes, queueSite("pool mail"), `there is no pool "mail"`},
		"two definitions":     {nodes, "fluster_queue /a q {\n\tattempts 3\n}\nfluster_queue /b q {\n\tattempts 4\n}", "defined twice"},
		"expires too early":   {nodes, queueSite("delay 10s", "expire 5s"), "expire must be above delay"},
		"one copy too many":   {nodes, queueSite("copies 2"), "at least two independent servers"},
		"no disk":             {nodes, queueSite("ack aof"), "ack"},
		"nobody to tell":      {nodes, queueSite("callback other"), "other"},
		"a secret that is no": {nodes, queueSite("sign {env.NOT_THERE_AT_ALL}"), "sign"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.TryReload(test.global, test.site)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestQueueWithoutDeliver: the log tells of a queue that nothing here delivers, as its
// name may be misspelt, and of no other.
func TestQueueWithoutDeliver(t *testing.T) {
	box := newLetterbox(t)
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite(deliverTo(box.Origin))+"\nhandle /b {\nfluster_queue qq\n}")
	c.WaitLogged("has no deliver block in this configuration", `"queue":"qq"`)
	if n := len(c.Logged("has no deliver block in this configuration")); n != 1 {
		t.Errorf("it tells of %d queues, want 1", n)
	}
}

// TestQueueOfSeveralHandlers: one handler has the options, others accept into the
// same queue, wherever they stand.
func TestQueueOfSeveralHandlers(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), `
		handle /before {
			fluster_queue q
		}
		handle /here {
			fluster_queue q {
				`+deliverTo(box.Origin)+`
				max_body 5
			}
		}
		handle /same {
			fluster_queue q {
				`+deliverTo(box.Origin)+`
				max_body 5
			}
		}
		handle /after {
			fluster_queue q
		}`)
	for _, path := range []string{"/before", "/here", "/same", "/after"} {
		wantAccepted(t, send(t, c, "POST", path, "12345"))
		wantProblem(t, c.Do("POST", path, "123456"), 413)
	}
	box.wait(t, 4)
	time.Sleep(200 * time.Millisecond)
	box.wait(t, 4)
}

// TestQueueInAPool: the pool of a queue is that of the handler with the options,
// also where there is no other.
func TestQueueInAPool(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	c := caddytest.Load(t, "fluster {\n\tpool mail {\n\t\tnodes "+s.URL()+"\n\t\tnamespace other\n\t}\n}", `
		handle /bare {
			fluster_queue q
		}
		handle {
			fluster_queue q {
				`+deliverTo(box.Origin)+`
				pool mail
			}
		}`)
	wantAccepted(t, send(t, c, "POST", "/bare", "x"))
	wantAccepted(t, send(t, c, "POST", "/", "x"))
	box.wait(t, 2)
	if n, err := s.Client(t).Exists(t.Context(), "{other:q:q:0}:s").Result(); n != 1 || err != nil {
		t.Errorf("the stream is not where it is to be: %d %v", n, err)
	}
}

// TestQueueValidatesWithoutNodes: `caddy validate` and `adapt` need none.
func TestQueueValidatesWithoutNodes(t *testing.T) {
	config := t.TempDir() + "/Caddyfile"
	if err := os.WriteFile(config, []byte("{\n\tfluster {\n\t\tnodes redis://127.0.0.1:1\n\t}\n}\nhttp://127.0.0.1:1 {\n\tfluster_queue q {\n\t\tdeliver {\n\t\t\treverse_proxy 127.0.0.1:1\n\t\t}\n\t\tack aof\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"adapt", "validate"} {
		if out, err := caddytest.Command(t, command, "--config", config); err != nil {
			t.Errorf("caddy %s: %v\n%s", command, err, out)
		}
	}
}

// TestQueueOverReloads: what waits is delivered by the next configuration, under
// load, once each.
func TestQueueOverReloads(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	site := queueSite(deliverTo(box.Origin))
	c := caddytest.Load(t, queueOn(s), site)
	n := 0
	for range 3 {
		for range 20 {
			wantAccepted(t, send(t, c, "POST", "/", "x"))
			n++
		}
		c.Reload(queueOn(s), site+"\n# "+strings.Repeat("x", n))
	}
	c.Reload(queueOn(s), queueSite(deliverTo(box.Origin), "attempts 4", "visibility 1m"))
	wantAccepted(t, send(t, c, "POST", "/", "x"))
	box.wait(t, n+1)
	caddytest.Eventually(t, "nothing is left", func() bool { return ready(t, s) == 0 })
	box.wait(t, n+1)
}

// TestQueueOverReloadsWithoutItsNames: what lies under a name that is not configured
// for a while is delivered when it is back.
func TestQueueOverReloadsWithoutItsNames(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	c := caddytest.Load(t, queueOn(s), queueSite("priority {header.X-Priority} low=1"))
	wantAccepted(t, send(t, c, "POST", "/", "x", "X-Priority", "low"))
	c.Reload(queueOn(s), "respond 200")
	if got := box.all(); len(got) != 0 {
		t.Errorf("got %v delivered by nobody", got)
	}
	c.Reload(queueOn(s), queueSite(deliverTo(box.Origin), "priority {header.X-Priority} low=1"))
	if got := box.wait(t, 1)[0]; got.body != "x" {
		t.Errorf("got %q", got)
	}
}

func TestQueueThatNoRequestCanReachIsAWarning(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), "route {\n\tfluster_queue fine\n\trespond 200\n\tfluster_queue q\n}")
	c.WaitLogged("no request can reach this fluster_queue", `"place"`)
	if lines := c.Logged("no request can reach"); len(lines) != 1 {
		t.Errorf("got %q", lines)
	}
}
