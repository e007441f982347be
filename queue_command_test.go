package fluster_test

import (
	"fmt"
	"strings"
	"testing"

	fluster "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// queueCommand runs `caddy fluster queue …` against c.
func queueCommand(t *testing.T, c *caddytest.Caddy, args ...string) (string, error) {
	t.Helper()
	return fluster.RunCommand(append(append([]string{"queue"}, args...), "--address", c.Admin)...)
}

// wantCommand runs a command and checks that it succeeds, and what it says.
func wantCommand(t *testing.T, c *caddytest.Caddy, want string, args ...string) string {
	t.Helper()
	out, err := queueCommand(t, c, args...)
	if err != nil || !strings.Contains(out, want) {
		t.Errorf("caddy fluster queue %q: %v\n%s\nwant %q", args, err, out, want)
	}
	return out
}

// TestQueueCommands: what the admin endpoint does with queues, from a shell.
func TestQueueCommands(t *testing.T) {
	statuses := make([]int, 205)
	for i := range statuses {
		statuses[i] = 422
	}
	box := newLetterbox(t, statuses...)
	c := caddytest.Load(t, queueOn(redistest.Start(t), redistest.Start(t)), queueSite(deliverTo(box.Origin)))
	var ids []string
	for i := range statuses {
		ids = append(ids, wantAccepted(t, c.Do("POST", fmt.Sprint("/hook/", i), fmt.Sprint("body ", i))).ID)
	}
	box.wait(t, len(statuses))
	caddytest.Eventually(t, "all are dead letters", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Dead == 205 })

	if out, err := caddytest.Command(t, "fluster", "queue", "ls", "--address", c.Admin); err != nil || !strings.Contains(out, "205") {
		t.Errorf("caddy fluster queue ls: %v\n%s", err, out)
	}
	wantCommand(t, c, `"dead":205`, "ls", "--json")
	wantCommand(t, c, "worker of this Caddy: ", "show", "q")
	if out := wantCommand(t, c, "422 Unprocessable Entity", "show", "q", ids[7], "--body"); !strings.Contains(out, "body 7\n") || !strings.Contains(out, "POST "+caddytest.Host+"/hook/7") {
		t.Errorf("a message is shown as\n%s", out)
	}
	if out := wantCommand(t, c, ids[0], "peek", "q", "--dead", "-n", "0"); strings.Count(out, "422 Unprocessable Entity") != 205 {
		t.Errorf("%d of 205 dead letters are listed:\n%s", strings.Count(out, "422"), out)
	}
	if out := wantCommand(t, c, "", "peek", "q", "--dead", "-n", "3", "--json"); strings.Count(out, `"id"`) != 3 {
		t.Errorf("3 dead letters are listed as\n%s", out)
	}
	wantCommand(t, c, "1 dropped\n", "drop", "q", ids[0])
	wantCommand(t, c, "2 replayed\n", "replay", "q", ids[1], ids[2], "nobody")
	wantCommand(t, c, "202 replayed\n", "replay", "q", "--all")
	box.wait(t, 205+204)
	wantCommand(t, c, "queue q: paused", "pause", "q")
	wantCommand(t, c, "paused", "ls")
	sleepFor(t, 1500)
	waits := wantAccepted(t, c.Do("POST", "/waits", "x")).ID
	wantCommand(t, c, waits, "peek", "q")
	wantCommand(t, c, "queue q: resumed", "resume", "q")
	box.wait(t, 205+204+1)

	for _, args := range [][]string{
		{"show", "nobody"}, {"show", "q", "nobody"}, {"replay", "q"}, {"replay", "q", "x", "--all"}, {"drop", "q"}, {"drop", "nobody", "--all"},
		{"peek", "q", "-n", "0"}, {"pause", "nobody"}, {"ls", "q"}, {"nothing"},
	} {
		if out, err := queueCommand(t, c, args...); err == nil {
			t.Errorf("caddy fluster queue %q succeeded:\n%s", args, out)
		}
	}
}

// TestUnknownCommand: a word that is no command fails, as a script that misspells
// one must not go on as if all were well; without a word there is help.
func TestUnknownCommand(t *testing.T) {
	for _, args := range [][]string{{"invaildate", "tag", "a"}, {"explian"}, {"queue", "lst"}} {
		if out, err := fluster.RunCommand(args...); err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("caddy fluster %q: got %v and %q, want an error", args, err, out)
		}
	}
	if out, err := fluster.RunCommand(); err != nil || !strings.Contains(out, "invalidate") {
		t.Errorf("caddy fluster: got %v and %q, want help", err, out)
	}
}

// TestQueueProgress: who asks for it is told how far a long command is.
func TestQueueProgress(t *testing.T) {
	c := caddytest.Load(t, queueOn(redistest.Start(t)), queueSite("deliver {\nrespond 410\n}"))
	for range 20 {
		wantAccepted(t, c.Do("POST", "/", "x"))
	}
	caddytest.Eventually(t, "all are dead letters", func() bool { return ask[depthOf](t, c, "/fluster/queues/q").Dead == 20 })
	r := c.DoAdmin("DELETE", "/fluster/queues/q/dead", `{"all":true}`, "Accept", "application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(string(r.Body)), "\n")
	if r.Status != 200 || r.Header.Get("Content-Type") != "application/x-ndjson" || len(lines) < 2 || lines[len(lines)-1] != `{"dropped":20,"end":true}` {
		t.Errorf("got %v %q", r, lines)
	}
}

// TestQueuesOfPools: queues lie on the nodes of their pools, with their namespaces.
func TestQueuesOfPools(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	box := newLetterbox(t)
	c := caddytest.Load(t, "fluster {\nnodes "+a.URL()+"\npool mail {\nnodes "+b.URL()+"?name=m\nnamespace post\n}\n}", `
		handle /a {
			fluster_queue one {
				attempts 3
			}
		}
		handle /b {
			fluster_queue two {
				`+deliverTo(box.Origin)+`
				pool mail
			}
		}`)
	for _, path := range []string{"/a", "/b"} {
		if r := c.Do("POST", path, "x"); r.Status != 202 {
			t.Fatalf("got %v", r)
		}
	}
	box.wait(t, 1)
	for key, client := range map[string]*redistest.Server{"{fluster:q:one:0}:s": a, "{post:q:two:0}:s": b} {
		if n, err := client.Client(t).Exists(t.Context(), key).Result(); n != 1 || err != nil {
			t.Errorf("%s is there: %d %v", key, n, err)
		}
	}
	if out, err := caddytest.Command(t, "fluster", "status", "--address", c.Admin); err != nil || !strings.Contains(out, "\nnear cache of pool mail: 0 entries, 0 of 67108864 bytes\n") {
		t.Errorf("caddy fluster status: %v\n%s", err, out)
	}
	queues := ask[[]depthOf](t, c, "/fluster/queues")
	if len(queues) != 2 || queues[0].Name != "one" || queues[0].Ready != 1 || queues[1].Name != "two" || queues[1].Pool != "mail" {
		t.Errorf("the queues are told as %+v", queues)
	}
	if n := c.Metric(`caddy_fluster_queue_messages{node="m",partition="0",pool="mail",queue="two",state="ready"}`); n != 0 {
		t.Errorf("the metric is %v", n)
	}
}

// TestQueueOnTwoListeners: a site on two listeners defines its queue twice, in the
// same words: it is one queue, and one worker.
func TestQueueOnTwoListeners(t *testing.T) {
	box := newLetterbox(t)
	s := redistest.Start(t)
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	site := queueSite(deliverTo(box.Origin), "concurrency 1")
	c := caddytest.Load(t, queueOn(s), site+fmt.Sprintf("\n}\nhttp://:%d {\n\tbind 127.0.0.1\n\t%s", port, site))
	first, second := c.Addr, fmt.Sprintf("127.0.0.1:%d", port)
	for range 5 {
		for _, c.Addr = range []string{first, second} {
			wantAccepted(t, c.Do("POST", "/", "x"))
		}
	}
	box.wait(t, 10)
	if r := c.AskAdmin("/fluster/queues/q"); strings.Count(string(r.Body), `"workers":[{"in_flight"`) != 1 || strings.Count(string(r.Body), `"in_flight"`) != 3 {
		t.Errorf("there is not one worker: %v", r)
	}
}
