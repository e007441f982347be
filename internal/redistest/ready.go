package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// errPortTaken reports that something else listens on the port that a server
// was to have.
var errPortTaken = errors.New("redistest: port taken")

// Ports are taken from below what systems hand to outgoing connections, so
// that nobody takes the port of a server while it is stopped. A server's
// cluster bus has its port plus 10000, which must not be another's port.
const (
	lowestPort = 10240
	portCount  = 10000
)

// reserved holds the ports that FreePort has given out, also while the servers
// on them are stopped: by the UDP port that is reservedOffset above, which nobody
// needs and the system frees with the process.
var (
	reservedMu sync.Mutex
	reserved   []net.PacketConn
)

const reservedOffset = 2 * portCount

// reserve reports whether the port was not reserved by any process, and is now.
func reserve(port int) bool {
	c, err := net.ListenPacket("udp", loopback(port+reservedOffset))
	if err != nil {
		return false
	}
	reservedMu.Lock()
	defer reservedMu.Unlock()
	reserved = append(reserved, c)
	return true
}

// FreePort returns a port of 127.0.0.1 on which nothing listens at the moment,
// and which no other process gets from here as long as this one lives. A process
// of another kind may be faster to take it: be ready to try again.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(portCount)
		var l net.Listener
		if l, err = net.Listen("tcp", loopback(port)); err != nil {
			continue
		}
		if err = l.Close(); err == nil && reserve(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("looking for a free port: %w", errors.Join(err, errPortTaken))
}

// waitReadyLocked returns nil when the process that runs now answers on its
// port, and an error with the end of its log when it ends before that.
func (p *Process) waitReadyLocked() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	opt := p.options()
	opt.ReadTimeout = readyTimeout
	client := redis.NewClient(opt)
	defer func() { _ = client.Close() }()
	err := poll(ctx, pollInterval, "waiting for redis-server "+p.Addr(), func() error {
		if !p.runningLocked() {
			return errEnded
		}
		return p.ask(ctx, client)
	})
	if err == nil {
		return nil
	}
	log, readErr := os.ReadFile(p.logFile())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if bytes.Contains(log, []byte("ddress already in use")) || bytes.Contains(log, []byte("Failed listening on port")) {
		return fmt.Errorf("%w: %s", errPortTaken, p.Addr())
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, log[max(0, len(log)-2000):])
}

// errEnded reports that a process ended by itself; there is nothing more to
// wait for.
var errEnded = errors.New("redistest: the process has ended")

// ask reports whether it is p's own process that answers on p's port, and not
// a stranger's that was faster to take the port.
func (p *Process) ask(ctx context.Context, client *redis.Client) error {
	// A look first, because go-redis logs each dial that fails.
	conn, err := net.DialTimeout("tcp", p.Addr(), dialTimeout)
	if err != nil {
		return err
	}
	_ = conn.Close()
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		// With users of its own a server may not tell, but it does answer.
		if strings.HasPrefix(err.Error(), "NOAUTH") || strings.HasPrefix(err.Error(), "NOPERM") {
			return nil
		}
		return err
	}
	want := "process_id:" + strconv.Itoa(p.child.PID()) + "\r\n"
	if !strings.Contains(info, want) {
		return errPortTaken
	}
	return nil
}

// waitFor is poll for a test, with room for elections among several servers.
func waitFor(tb testing.TB, what string, ready func(ctx context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), electionTimeout)
	defer cancel()
	if err := poll(ctx, electionInterval, what, func() error { return ready(ctx) }); err != nil {
		tb.Fatal(err)
	}
}

// poll calls ready at every interval until it returns nil, the process has
// ended, or ctx is done; then its last error is part of the result. what names
// what is being done.
func poll(ctx context.Context, interval time.Duration, what string, ready func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if errors.Is(err, errEnded) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}
