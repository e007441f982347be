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
