package fluster

import (
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/queue"
)

// A request may still come when its configuration is given up: it receives nothing
// then that nobody waits for. The race detector judges.
func TestQueueLinkEndsWhileItIsUsed(t *testing.T) {
	t.Parallel()
	c := &PoolConfig{Nodes: []string{redistest.Start(t).URL()}}
	for range 50 {
		l, err := newQueueLink(c, caddy.NewReplacer(), queue.Options{Name: "q"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(l.receiveReplies)
		wg.Go(func() {
			if err := l.Destruct(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		l.receiveReplies()
		if l.done.Wait(); l.ctx.Err() == nil {
			t.Fatal("it goes on")
		}
	}
}
