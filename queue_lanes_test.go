package fluster_test

import (
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueBlockThatIsGone: what lies in a class that has left the configuration is
// delivered. What was accepted for a deliver block that has left it is told of, in
// the log, to the admin endpoint and the command, and in the metrics; nobody else gets it,
// and it is delivered when the block is back.
func TestQueueBlockThatIsGone(t *testing.T) {
	server := redistest.Start(t)
	billing, crm := newLetterbox(t), newLetterbox(t)
	one, two := "deliver billing {\n"+billing.Behind()+"\n}", "deliver crm {\n"+crm.Behind()+"\n}"
	options := []string{"attempts 1000", "backoff 200ms 200ms"}
	c := caddytest.Load(t, queueOn(server), queueSite(append(options, "deliver billing {\nrespond 503\n}", "deliver crm {\nrespond 503\n}", "priority {header.X-Class} old=3")...))
	for range 3 {
		wantAccepted(t, send(t, c, "POST", "/", "x", "X-Class", "old"))
		wantAccepted(t, send(t, c, "POST", "/", "x"))
	}

	c.Reload(queueOn(server), queueSite(append(options, one)...))
	billing.wait(t, 6)
	caddytest.Eventually(t, "what is for the other block is told of", func() bool {
		q := ask[struct {
			Ready     int64
			Abandoned map[string]int64
		}](t, c, "/fluster/queues/q")
		return q.Ready == 6 && len(q.Abandoned) == 1 && q.Abandoned["crm"] == 6
	})
	wantCommand(t, c, "6 for deliver crm, which is not in the configuration", "show", "q")
	wantCommand(t, c, "6 for deliver crm, which is not in the configuration", "ls")
	wantCommand(t, c, `"destination":"crm"`, "peek", "q", "--json")
	caddytest.Eventually(t, "it is in the metrics", func() bool {
		return c.Metric(`caddy_fluster_queue_abandoned{destination="crm"`) == 6 // the nodes are asked every five seconds
	})
	c.WaitLogged("messages wait for a deliver block", `"destination":"crm"`)
	if n := len(crm.all()); n > 0 {
		t.Errorf("%d were delivered without the block", n)
	}
	lines := c.Logged("messages wait for a deliver block")
	if n := len(lines); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if n := strings.Count(lines[0], `"destination"`); n != 1 {
		t.Errorf("it names %d destinations: %s", n, lines[0])
	}

	c.Reload(queueOn(server), queueSite(append(options, one, two)...))
	crm.wait(t, 6)
	if n := len(billing.all()); n != 6 {
		t.Errorf("the first block got %d, want 6", n)
	}
}
