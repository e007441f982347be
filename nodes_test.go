package fluster_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// waitListening waits until n processes listen on each of the nodes.
func waitListening(t testing.TB, servers []*redistest.Server, n int) {
	t.Helper()
	for _, s := range servers {
		client := s.Client(t)
		caddytest.Eventually(t, fmt.Sprintf("%d listen on %s", n, s.Addr()), func() bool {
			return client.PubSubNumSub(t.Context(), channel).Val()[channel] >= int64(n)
		})
	}
}

func publish(t *testing.T, client *redis.Client, message string) {
	t.Helper()
	n, err := client.Publish(t.Context(), channel, message).Result()
	if err != nil || n == 0 {
		t.Fatalf("publishing: %d heard it, %v", n, err)
	}
}

// TestReasonSaysInUse: why a node that was in use is out of use begins with that,
// whoever has noticed it: a request, or its keeper, as nobody asks for anything.
func TestReasonSaysInUse(t *testing.T) {
	servers, global := nodes(t, 1)
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	servers[0].Pause()
	c.WaitLogged("node penalized", "in use: ")
	servers[0].Resume()
	c.WaitUp(1)
}
