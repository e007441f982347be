package fluster_test

import (
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueMetricsOfNodes: what another node took is counted by the node that did not,
// and how long messages took by the node on which they lay.
func TestQueueMetricsOfNodes(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	box := newLetterbox(t)
	c := caddytest.Load(t, "fluster {\nnodes "+a.URL()+"?name=here "+b.URL()+"?name=there\n}", queueSite(deliverTo(box.Origin)))
	over := growth(c, `caddy_fluster_queue_failed_over_total{node="here",`)
	otherwise := growth(c, `caddy_fluster_queue_failed_over_total{node="there",`)
	took := growth(c, `caddy_fluster_queue_seconds_count{destination="",node="there",`)
	a.Kill()
	n := 0
	caddytest.Eventually(t, "a message fails over", func() bool {
		n++
		wantAccepted(t, c.Do("POST", "/", "x"))
		return over() > 0
	})
	box.wait(t, n)
	caddytest.Eventually(t, "how long they took is counted", func() bool { return took() >= float64(n) })
	if x := otherwise(); x != 0 {
		t.Errorf("%v failed over from the node that took them", x)
	}
}
