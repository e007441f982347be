package shard

import (
	"context"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"
)

// blackHole returns an address where dials are never answered, not even
// refused: a listener that accepts nothing, and whose queue is full.
func blackHole(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 16 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		tb.Cleanup(func() { _ = c.Close() })
	}
	tb.Fatal("the listener's queue never got full")
	return ""
}

func TestDialsThatAreNotAnswered(t *testing.T) {
	const timeout = 200 * time.Millisecond
	n, told := open(t, "redis://"+blackHole(t), Options{Timeout: timeout})
	took := durations{}
	for name, call := range map[string]func(context.Context) error{
		"Read":      func(ctx context.Context) error { _, _, err := n.Read(ctx, "k", ""); return err },
		"ReadBulk":  func(ctx context.Context) error { _, err := n.ReadBulk(ctx, "k"); return err },
		"Get":       func(ctx context.Context) error { return n.Client().Get(ctx, "k").Err() },
		"Subscribe": func(ctx context.Context) error { return n.Subscribe(ctx, "channel").Close() },
	} {
		for range 5 {
			begin := time.Now()
			err := call(context.Background())
			took[name] = append(took[name], time.Since(begin))
			if name == "Subscribe" {
				continue
			}
			if o := told.take(); err == nil || !slices.Equal(o, []Outcome{Slow}) {
				t.Errorf("%s: got %v, reported %v; want an error that says slow", name, err, o)
			}
		}
	}
	took.wantWithin(t, timeout)
	// A subscription that is to connect again, without a deadline of its own.
	s := n.Subscribe(context.Background(), "channel")
	defer func() { _ = s.Close() }()
	begin := time.Now()
	_, err := s.ReceiveTimeout(context.Background(), timeout)
	if took := time.Since(begin); err == nil || took > 20*time.Second {
		t.Errorf("ReceiveTimeout: got %v after %v, want an error soon", err, took)
	}
}
