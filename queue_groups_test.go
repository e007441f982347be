//go:build unix

package fluster_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueOnGroups: on a Redis Cluster a queue is spread over the masters, and
// behind Sentinel it is on the master; each with all kinds of messages.
func TestQueueOnGroups(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	sentinels := redistest.StartSentinel(t)
	for name, pool := range map[string]string{
		"cluster":  "cluster redis://" + cluster.Addrs()[0],
		"sentinel": fmt.Sprintf("sentinel %s redis://%s", sentinels.Name, sentinels.Addrs()[0]),
	} {
		t.Run(name, func(t *testing.T) {
			box := newLetterbox(t, 500)
			c := caddytest.Load(t, "fluster {\n"+pool+"\n}", queueSite(deliverTo(box.Origin),
				"status /s", "dedup {header.Idempotency-Key}", "order_by {header.X-Order}", "inline_body 1KiB", "backoff 1s 1s"))
			var path string
			const n = 40
			for i := range n {
				header := []string{"X-Order", strconv.Itoa(i % 5), "Idempotency-Key", strconv.Itoa(i)}
				r := send(t, c, "POST", "/", fmt.Sprintf("%03000d", i), header...)
				wantAccepted(t, r)
				path = r.Header.Get("Location")
				if r := c.Do("POST", "/", fmt.Sprintf("%03000d", i), header...); r.Header.Get("Idempotency-Replayed") == "" {
					t.Errorf("got %v %v, want a replay", r, r.Header)
				}
			}
			caddytest.Eventually(t, "the last one is done", func() bool { return stateOf(t, c, path).State == "done" })
			bodies := map[string]bool{}
			caddytest.Eventually(t, "all are delivered", func() bool {
				for _, l := range box.all() {
					bodies[l.body] = true
				}
				return len(bodies) == n
			})
		})
	}
}
