package shard

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// C2: a server that stands still costs no one more than the time-out, is
// reported as slow, and is used again as soon as it goes on.
func TestReadFromPausedServer(t *testing.T) {
	const timeout = 200 * time.Millisecond
	ctx := context.Background()
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: timeout})
	if _, _, err := n.Read(ctx, "k", ""); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"Read":     func() error { _, _, err := n.Read(ctx, "k", ""); return err },
		"ReadBulk": func() error { _, err := n.ReadBulk(ctx, "k"); return err },
		"Get":      func() error { return n.Client().Get(ctx, "k").Err() },
		"Pipelined": func() error {
			_, err := n.Bulk().Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "k", "v", 0)
				p.Get(ctx, "k")
				return nil
			})
			return err
		},
	}
	told.take()
	server.Pause()
	// Longer than the connection of the batched reads lives, so that later ones
	// also see a handshake that is not answered.
	took := durations{}
	for range 7 {
		for name, call := range calls {
			begin := time.Now()
			err := call()
			took[name+" from a paused server"] = append(took[name+" from a paused server"], time.Since(begin))
			if err == nil {
				t.Errorf("%s from a paused server: got no error, want one after %v", name, timeout)
			}
			if o := told.take(); !slices.Equal(o, []Outcome{Slow}) {
				t.Errorf("%s from a paused server: reported %v (%v), want one slow", name, o, err)
			}
		}
	}
	took.wantWithin(t, timeout)
	server.Resume()
	for name, call := range calls {
		err := call()
		for try := 0; try < 50 && err != nil && !errors.Is(err, redis.Nil); try++ {
			err = call() // a busy machine may take longer than the time-out
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("%s after the server went on: %v", name, err)
		}
	}
}

// However many wait in vain, what they leave behind is bounded.
func TestReadsBeyondTheQueueFailAtOnce(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: time.Second})
	if _, _, err := n.Read(ctx, "k", ""); err != nil {
		t.Fatal(err)
	}
	told.take()
	server.Pause()
	var wg sync.WaitGroup
	for range 2 * maxQueued {
		wg.Go(func() { _, _, _ = n.Read(ctx, "k", "") })
	}
	wg.Wait()
	counts := make(map[Outcome]int)
	for _, o := range told.take() {
		counts[o]++
	}
	if counts[Slow] != maxQueued || counts[Nobody] != maxQueued {
		t.Errorf("got outcomes %v, want %d slow and as many that say nothing", counts, maxQueued)
	}
	server.Resume()
	if _, _, err := n.Read(ctx, "k", ""); err != nil {
		t.Errorf("Read after the server went on: %v", err)
	}
}

func TestKilledServerIsReportedAndFoundAgain(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: time.Second})
	calls := map[string]func() error{
		"Read": func() error { _, _, err := n.Read(ctx, "k", ""); return err },
		"Set":  func() error { return n.Bulk().Set(ctx, "k", "v", 0).Err() },
	}
	for _, call := range calls {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	told.take()
	server.Kill()
	// As many that go-redis's pool would stop dialing, see undialed.
	for range 12 * runtime.GOMAXPROCS(0) {
		for name, call := range calls {
			err := call()
			if o := told.take(); err == nil || !slices.Equal(o, []Outcome{Refused}) {
				t.Fatalf("%s from a killed server: got %v, reported %v; want one refused", name, err, o)
			}
		}
	}
	server.Restart()
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the server came back: %v", name, err)
		}
	}
}

func TestCallerThatLeftBlamesNobody(t *testing.T) {
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: 10 * time.Second})
	if _, _, err := n.Read(context.Background(), "k", ""); err != nil {
		t.Fatal(err)
	}
	told.take()
	server.Pause()
	for name, call := range map[string]func(context.Context) error{
		"Read": func(ctx context.Context) error { _, _, err := n.Read(ctx, "k", ""); return err },
		"Get":  func(ctx context.Context) error { return n.Client().Get(ctx, "k").Err() },
	} {
		for _, patience := range []time.Duration{0, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			begin := time.Now()
			err := call(ctx)
			if o := told.take(); err == nil || !slices.Equal(o, []Outcome{Nobody}) {
				t.Errorf("%s: got %v, reported %v; want an error that says nothing", name, err, o)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("%s took %v after its caller had left", name, took)
			}
		}
	}
	server.Resume()
}

func TestLackOfConnectionsBlamesNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: 200 * time.Millisecond})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// Commands that wait at the server are not cut short, and hold a connection.
	size := 10 * runtime.GOMAXPROCS(0)
	for range size {
		wg.Go(func() { n.Client().BLPop(ctx, 0, "list") })
	}
	probe := server.Client(t)
	for {
		info, err := probe.Info(ctx, "clients").Result()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(info, fmt.Sprintf("blocked_clients:%d\r\n", size)) {
			break
		}
	}
	told.take()
	err := n.Client().Get(ctx, "k").Err()
	if o := told.take(); !errors.Is(err, redis.ErrPoolTimeout) || !slices.Equal(o, []Outcome{Nobody}) {
		t.Errorf("got %v, reported %v; want a lack of connections that says nothing", err, o)
	}
	for range size {
		if err := probe.RPush(ctx, "list", "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPipelineReportsTheWorst(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: time.Second})
	pipeline := func() error {
		_, err := n.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, "none")
			p.LPush(ctx, "string", 1)
			p.Set(ctx, "string", "v", 0)
			return nil
		})
		return err
	}
	if err := n.Client().Set(ctx, "string", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	told.take()
	_ = pipeline()
	if o := told.take(); !slices.Equal(o, []Outcome{Nobody}) {
		t.Errorf("with a wrong type: reported %v, want one nobody", o)
	}
	if err := server.Client(t).ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_ = pipeline()
	if o := told.take(); !slices.Equal(o, []Outcome{Refused}) {
		t.Errorf("with a full server: reported %v, want one refused", o)
	}
}

func TestCommandsThatWaitAtTheServerAreNotCutShort(t *testing.T) {
	n, told := open(t, redistest.Start(t).URL(), Options{Timeout: 50 * time.Millisecond})
	read := &redis.XReadArgs{Streams: []string{"s", "$"}, Block: 200 * time.Millisecond}
	err := n.Client().XRead(context.Background(), read).Err()
	if o := told.take(); !errors.Is(err, redis.Nil) || !slices.Equal(o, []Outcome{OK}) {
		t.Errorf("got %v, reported %v; want that nothing came, and ok", err, o)
	}
}
