package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	dialTimeout  = time.Second
	startTimeout = 20 * time.Second       // a machine under load may take long to answer
	stopTimeout  = 20 * time.Second       // redis-server itself waits up to 10 s for replicas
	readyTimeout = 500 * time.Millisecond // of one question, which is asked again
	pollInterval = 3 * time.Millisecond

	// Several servers agreeing on something take seconds, and each question
	// of several servers takes time from them.
	electionTimeout  = 3 * time.Minute
	electionInterval = 50 * time.Millisecond
)

// A Process is one redis-server and what is needed to start it again. Start
// gives the same to a test; a Process is for callers without one, which get
// errors instead of a failed test. Its methods are safe for concurrent use.
type Process struct {
	dir      string   // where the server runs, with its data and its log
	args     []string // as given to Launch
	port     int
	password string // of --requirepass, or empty

	mu    sync.Mutex // guards child
	child *Child     // nil before the first start
}

// Launch runs redis-server (or valkey-server, where there is no redis-server, or
// what the environment variable FLUSTER_REDIS_SERVER names) in dir, without persistence, on a free port of 127.0.0.1, or on the one
// that args name by "--port". It returns once the server answers. The caller
// ends it with Close. errors.Is(err, exec.ErrNotFound) reports that no server
// is installed.
func Launch(dir string, args ...string) (*Process, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the directory of redis-server: %w", err)
	}
	p := &Process{dir: path, args: args, password: argument(args, "--requirepass")}
	if text := argument(args, "--port"); text != "" {
		if p.port, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("reading --port: %w", err)
		}
		err = p.start()
	} else {
		err = p.startAnywhere()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// argument returns the value that follows the last name in args, or "".
func argument(args []string, name string) string {
	value := ""
	for i, arg := range args {
		if arg == name && i+1 < len(args) {
			value = args[i+1]
		}
	}
	return value
}

// startAnywhere starts the server on a free port. Between looking and taking,
// another test's server may have come first: then it looks again.
func (p *Process) startAnywhere() error {
	var err error
	for range 20 {
		if p.port, err = FreePort(); err != nil {
			return err
		}
		if err = p.start(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// Addr returns the server's address, 127.0.0.1:port; a Restart keeps it.
func (p *Process) Addr() string { return loopback(p.port) }

// Port returns the server's port; a Restart keeps it.
func (p *Process) Port() int { return p.port }

// PID returns the process ID of the server while it runs, else 0.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runningLocked() {
		return 0
	}
	return p.child.PID()
}

// Done returns a channel that is closed when the process that runs now (or
// ran last) has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child.Done()
}

// Stop ends the server by SIGTERM, also a paused one, and waits until it is
// gone.
func (p *Process) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopLocked()
}

// Kill ends the server by SIGKILL, also a paused one, and waits until it is
// gone.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killLocked()
}

// Close ends the server for good. There is nothing to lose in its directory,
// so it takes the fast way.
func (p *Process) Close() { p.Kill() }

// Pause freezes the server by SIGSTOP and returns when it stands still.
func (p *Process) Pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.signalLocked(sigStop); err != nil {
		return fmt.Errorf("pausing redis-server %s: %w", p.Addr(), err)
	}
	// The signal is only queued when kill(2) returns: without waiting, the
	// server might answer one more command.
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return poll(ctx, pollInterval, "pausing redis-server "+p.Addr(), func() error {
		if !p.runningLocked() {
			return errEnded
		}
		if !isPaused(p.child.PID()) {
			return errors.New("it still runs")
		}
		return nil
	})
}

// Resume lets a paused server go on by SIGCONT and returns when it answers.
func (p *Process) Resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.signalLocked(sigContinue); err != nil {
		return fmt.Errorf("resuming redis-server %s: %w", p.Addr(), err)
	}
	return p.waitReadyLocked()
}

// Save writes the server's data to its dump file.
func (p *Process) Save() error {
	client := redis.NewClient(p.options())
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := client.Save(ctx).Err(); err != nil {
		return fmt.Errorf("saving the data of redis-server %s: %w", p.Addr(), err)
	}
	return nil
}

// Restart ends the server if it runs, and starts it on the same port, empty.
func (p *Process) Restart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.stopLocked(); err != nil {
		return err
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("emptying the directory of redis-server: %w", err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(p.dir, entry.Name())); err != nil {
			return fmt.Errorf("emptying the directory of redis-server: %w", err)
		}
	}
	return p.startLocked()
}

// RestartWithData ends the server if it runs, and starts it on the same port
// with what it finds in its directory.
func (p *Process) RestartWithData() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.stopLocked(); err != nil {
		return err
	}
	return p.startLocked()
}

func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.startLocked()
}

// startLocked starts the process and waits until it answers; if it does not,
// nothing is left running.
func (p *Process) startLocked() error {
	path, err := lookServer()
	if err != nil {
		return fmt.Errorf("looking for redis-server: %w", err)
	}
	log, err := os.Create(p.logFile())
	if err != nil {
		return fmt.Errorf("creating the log of redis-server: %w", err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(path, p.commandLine()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	if p.child, err = StartChild(cmd); err != nil {
		return err
	}
	if err := p.waitReadyLocked(); err != nil {
		p.child.Kill()
		return err
	}
	return nil
}

// serverVariable names another program than redis-server, such as valkey-server.
const serverVariable = "FLUSTER_REDIS_SERVER"

// lookServer returns the path of the server's program.
func lookServer() (string, error) {
	if name := os.Getenv(serverVariable); name != "" {
		return exec.LookPath(name)
	}
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path, nil
	}
	if path, valkeyErr := exec.LookPath("valkey-server"); valkeyErr == nil {
		return path, nil
	}
	return "", err
}

// commandLine returns the arguments of redis-server. Of two arguments with
// one name the last wins. A configuration file, which sentinels need, is the
// first of args and stays the first.
func (p *Process) commandLine() []string {
	own := []string{
		"--port", strconv.Itoa(p.port), "--bind", "127.0.0.1", "--dir", p.dir, "--daemonize", "no",
	}
	if len(p.args) > 0 && !strings.HasPrefix(p.args[0], "--") {
		return slices.Concat(p.args[:1], own, p.args[1:])
	}
	return slices.Concat(own, []string{"--save", "", "--appendonly", "no"}, p.args)
}

func (p *Process) logFile() string { return filepath.Join(p.dir, "redis.log") }

func (p *Process) runningLocked() bool { return p.child != nil && p.child.Running() }

func (p *Process) stopLocked() error {
	if !p.runningLocked() {
		return nil
	}
	return p.child.Stop(stopTimeout)
}

func (p *Process) killLocked() {
	if p.runningLocked() {
		p.child.Kill()
	}
}

func (p *Process) signalLocked(sig os.Signal) error {
	if !p.runningLocked() {
		return os.ErrProcessDone
	}
	return p.child.Signal(sig)
}
