package fluster

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestHerdOfChunks: those who want the same chunk at the same time do not each have
// the node send it, and whoever goes away takes it from nobody else.
func TestHerdOfChunks(t *testing.T) {
	const readers = 40
	server := redistest.Start(t)
	p, err := newPool("", PoolConfig{Nodes: []string{server.URL()}, Timeout: caddy.Duration(time.Minute)}, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	n := p.nodes[0]
	chunk := bytes.Repeat([]byte("chunk"), 1000)
	client := server.Client(t)
	if err := client.Set(t.Context(), "c", chunk, 0).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	server.Pause() // until all have asked
	var begun, left atomic.Int32
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			ctx := ctx
			if i%4 > 0 {
				ctx = t.Context()
			}
			begun.Add(1)
			switch got, err := n.readChunks(ctx, "c"); {
			case ctx != t.Context() && errors.Is(err, context.Canceled):
				left.Add(1)
			case err != nil || len(got) != 1 || !bytes.Equal(got[0], chunk):
				t.Errorf("got %d chunks, %v", len(got), err)
			}
		})
	}
	for begun.Load() < readers {
		time.Sleep(time.Millisecond)
	}
	leave()
	time.Sleep(100 * time.Millisecond) // who is later than that may read it again
	server.Resume()
	wg.Wait()
	if left.Load() != readers/4 {
		t.Errorf("%d readers left, want %d", left.Load(), readers/4)
	}
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(stats, "cmdstat_mget:calls=")
	if calls, _, ok := strings.Cut(after, ","); !ok || len(calls) > 1 {
		t.Errorf("the node sent the chunk %s times to %d readers", calls, readers)
	}
}
