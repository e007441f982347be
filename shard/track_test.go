package shard

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// next receives until a key comes.
func next(t *testing.T, tr *Tracking) []string {
	t.Helper()
	for range 50 {
		keys, err := tr.Receive(t.Context(), 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) > 0 {
			return keys
		}
	}
	t.Fatal("nothing was heard")
	return nil
}

func TestTrack(t *testing.T) {
	ctx := t.Context()
	server := redistest.Start(t)
	n, _ := open(t, "redis://"+server.Addr()+"/1", Options{Timeout: time.Second})
	c := n.Client()
	const prefix = `{a*[b]?\:0}:e:`
	for _, key := range []string{prefix + "1", prefix + "2", "{aXX[b]?0}:e:3", "other"} {
		if err := c.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := n.Track(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if count, err := tr.Count(ctx); err != nil || count != 4 {
		t.Errorf("%d keys, %v; want 4", count, err)
	}
	var found []string
	if err := tr.Scan(ctx, func(key string) { found = append(found, key) }); err != nil {
		t.Fatal(err)
	}
	if slices.Sort(found); !slices.Equal(found, []string{prefix + "1", prefix + "2"}) {
		t.Errorf("scanned %q", found)
	}

	c.Set(ctx, "other", "w", 0)
	n.Writer().Set(ctx, prefix+"own", "w", 0)
	c.Copy(ctx, prefix+"1", prefix+"3", 1, true)
	if got := next(t, tr); !slices.Equal(got, []string{prefix + "3"}) {
		t.Errorf("a copy: heard %q", got)
	}
	c.Set(ctx, prefix+"4", "v", 20*time.Millisecond)
	if got := next(t, tr); got[0] != prefix+"4" {
		t.Errorf("a value that expires: heard %q", got)
	}
}

// A tracking that may have missed keys says so.
func TestTrackLost(t *testing.T) {
	for name, end := range map[string]func(context.Context, *redistest.Server, redis.UniversalClient, *Tracking){
		"closed by the server": func(ctx context.Context, _ *redistest.Server, c redis.UniversalClient, _ *Tracking) {
			c.Do(ctx, "client", "kill", "type", "pubsub")
		},
		"the writer's closed": func(ctx context.Context, _ *redistest.Server, c redis.UniversalClient, _ *Tracking) {
			c.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes")
		},
		"flushed":      func(ctx context.Context, _ *redistest.Server, c redis.UniversalClient, _ *Tracking) { c.FlushAll(ctx) },
		"died":         func(_ context.Context, s *redistest.Server, _ redis.UniversalClient, _ *Tracking) { s.Kill() },
		"stands still": func(_ context.Context, s *redistest.Server, _ redis.UniversalClient, _ *Tracking) { s.Pause() },
		"closed":       func(_ context.Context, _ *redistest.Server, _ redis.UniversalClient, tr *Tracking) { tr.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			n, _ := open(t, "redis://"+server.Addr(), Options{Timeout: time.Second})
			tr, err := n.Track(t.Context(), "p:")
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			if err := tr.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if keys, err := tr.Receive(t.Context(), 50*time.Millisecond); err != nil || keys != nil {
				t.Fatalf("before: %q, %v", keys, err)
			}
			end(t.Context(), server, n.Client(), tr)
			for range 3 {
				if _, err = tr.Receive(t.Context(), 50*time.Millisecond); err != nil {
					return
				}
			}
			t.Error("nothing was noticed")
		})
	}
}

func TestTrackRefused(t *testing.T) {
	ctx := t.Context()
	server := redistest.Start(t)
	n, _ := open(t, "redis://"+server.Addr(), Options{Timeout: time.Second})
	for _, user := range []string{"-client|tracking", "-subscribe", "resetchannels"} {
		if err := n.Client().Do(ctx, "acl", "setuser", "u", "reset", "on", ">p", "~*", "&*", "+@all", user).Err(); err != nil {
			t.Fatal(err)
		}
		m, reports := open(t, "redis://u:p@"+server.Addr(), Options{Timeout: time.Second})
		tr, err := m.Track(ctx, "p:")
		if err == nil {
			err = tr.Begin(ctx)
			tr.Close()
		}
		if err == nil {
			t.Errorf("%s: it is tracked", user)
		}
		if got := reports.take(); slices.ContainsFunc(got, func(o Outcome) bool { return o != OK }) {
			t.Errorf("%s: reported %v", user, got)
		}
	}
	part, err := NewCluster([]Address{{Endpoint: server.Addr()}}, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if _, err := part.Track(ctx, "p:"); !errors.Is(err, ErrUntracked) {
		t.Errorf("a cluster: %v", err)
	}
}
