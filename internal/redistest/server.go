// Package redistest runs real redis-servers on free loopback ports: single
// servers, a Redis Cluster, and a master with a replica under sentinels. They
// keep nothing outside a directory of their own, and can be stopped, killed,
// paused and revived in the middle of a test.
//
// It is for tests and for the demo program, never for the plugin itself.
// Servers end with the test that started them. On Linux they also end with
// the test process, whichever way that ends.
//
// Each running server is one child process and one goroutine that waits for
// it. A test that looks for leaked goroutines does so in a tb.Cleanup that it
// registers before it calls Start, so that the servers are gone by then.
//
// Pause and Resume need Unix signals.
package redistest

import (
	"errors"
	"net"
	"net/url"
	"os/exec"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// installHint is the line that installs redis-server where it is missing.
const installHint = "redis-server is not installed; this installs it: sh scripts/install-redis.sh (at the top of the repository)"

// A Server is one redis-server that belongs to a test. What goes wrong in a
// method fails that test. Its methods are safe for concurrent use.
type Server struct {
	tb      testing.TB
	process *Process
}

// Start runs redis-server on a free port of 127.0.0.1, without persistence,
// in a temporary directory of its own, and returns once it answers. args are
// further redis-server arguments, such as "--maxmemory", "1mb"; they win over
// Start's own. With --requirepass the server's URL and clients carry the
// password. The server ends when the test does.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return startIn(tb, tb.TempDir(), args...)
}

// startIn is Start in a directory that may hold something already.
func startIn(tb testing.TB, dir string, args ...string) *Server {
	tb.Helper()
	process, err := Launch(dir, args...)
	if errors.Is(err, exec.ErrNotFound) {
		tb.Fatal(installHint)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(process.Close)
	return &Server{tb: tb, process: process}
}

// Addr returns the server's address, 127.0.0.1:port; a Restart keeps it.
func (s *Server) Addr() string { return s.process.Addr() }

// URL returns the server's address as redis://127.0.0.1:port.
func (s *Server) URL() string { return s.process.URL() }

// PID returns the process ID of the server while it runs, else 0.
func (s *Server) PID() int { return s.process.PID() }

// Client returns a client of the server, which is closed when the test ends.
// It is the test's own look at the server: it never retries, and it heeds the
// deadline of a context.
func (s *Server) Client(tb testing.TB) *redis.Client {
	client := redis.NewClient(s.process.options())
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Stop ends the server in an orderly way (SIGTERM) and waits until it is
// gone. Connections are closed, later ones refused. It does nothing when the
// server does not run.
func (s *Server) Stop() {
	s.tb.Helper()
	s.check(s.process.Stop())
}

// Kill ends the server at once (SIGKILL) and waits until it is gone. It does
// nothing when the server does not run.
func (s *Server) Kill() { s.process.Kill() }

// Pause freezes the server (SIGSTOP) and returns when it stands still: the
// system goes on accepting connections for it, but nothing is answered.
func (s *Server) Pause() {
	s.tb.Helper()
	s.check(s.process.Pause())
}

// Resume lets a paused server go on (SIGCONT) and returns when it answers.
func (s *Server) Resume() {
	s.tb.Helper()
	s.check(s.process.Resume())
}

// Save writes the server's data to its dump file, for RestartWithData.
func (s *Server) Save() {
	s.tb.Helper()
	s.check(s.process.Save())
}

// Restart ends the server if it still runs, and starts it on the same port
// with an empty directory. It returns when the server answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.check(s.process.Restart())
}

// RestartWithData is Restart with what the last Save wrote (and with what
// append-only files hold, if arguments to Start turned them on).
func (s *Server) RestartWithData() {
	s.tb.Helper()
	s.check(s.process.RestartWithData())
}

// check fails the test that owns the server if err is not nil.
func (s *Server) check(err error) {
	if err != nil {
		s.tb.Helper()
		s.tb.Fatal(err)
	}
}

// URL returns the server's address as redis://127.0.0.1:port, with the
// password if the server was started with one.
func (p *Process) URL() string {
	u := url.URL{Scheme: "redis", Host: p.Addr()}
	if p.password != "" {
		u.User = url.UserPassword("", p.password)
	}
	return u.String()
}

// options returns how a test's client connects to the server.
func (p *Process) options() *redis.Options {
	return &redis.Options{
		Addr:                  p.Addr(),
		Password:              p.password,
		DialTimeout:           dialTimeout,
		DialerRetries:         1,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
}

// loopback returns the address of port on the loopback interface.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
