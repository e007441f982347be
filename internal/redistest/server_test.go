//go:build unix

package redistest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// lives reports whether a process with this ID exists, as a child or not.
func lives(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStartAnswersAndEndsWithItsTest(t *testing.T) {
	var running, paused int
	t.Run("test with servers", func(t *testing.T) {
		s := Start(t)
		client := s.Client(t)
		if got, err := client.Ping(t.Context()).Result(); err != nil || got != "PONG" {
			t.Fatalf("PING answered %q, %v, want PONG", got, err)
		}
		if want := "redis://" + s.Addr(); s.URL() != want || !strings.HasPrefix(s.Addr(), "127.0.0.1:") {
			t.Errorf("got URL %q, want %q on 127.0.0.1", s.URL(), want)
		}
		for name, want := range map[string]string{"save": "", "appendonly": "no", "bind": "127.0.0.1"} {
			if got := client.ConfigGet(t.Context(), name).Val()[name]; got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		running = s.PID()

		other := Start(t)
		paused = other.PID()
		other.Pause()
	})
	if running == 0 || lives(running) {
		t.Errorf("server %d outlived its test", running)
	}
	if paused == 0 || lives(paused) {
		t.Errorf("paused server %d outlived its test", paused)
	}
}

func TestStartTakesArguments(t *testing.T) {
	s := Start(t, "--maxmemory", "3mb", "--requirepass", "se cret")
	opt, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	byURL := redis.NewClient(opt)
	t.Cleanup(func() { _ = byURL.Close() })
	for name, client := range map[string]*redis.Client{"URL": byURL, "Client": s.Client(t)} {
		if got := client.ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"]; got != "3145728" {
			t.Errorf("by %s: maxmemory is %q, want 3145728", name, got)
		}
	}
}

func TestRestart(t *testing.T) {
	tests := []struct {
		name string
		end  func(s *Server)
	}{
		{"running", func(*Server) {}},
		{"stopped", (*Server).Stop},
		{"killed", (*Server).Kill},
		{"paused", (*Server).Pause},
		{"stopped while paused", func(s *Server) { s.Pause(); s.Stop() }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := Start(t)
			client, addr := s.Client(t), s.Addr()
			set := func(key string) {
				t.Helper()
				if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			holds := func(key string) bool {
				t.Helper()
				n, err := client.Exists(t.Context(), key).Result()
				if err != nil {
					t.Fatal(err)
				}
				return n == 1
			}
			set("saved")
			s.Save()
			set("not saved")
			test.end(s)
			s.RestartWithData()
			if !holds("saved") || holds("not saved") {
				t.Errorf("RestartWithData: saved %v, not saved %v, want true, false", holds("saved"), holds("not saved"))
			}
			test.end(s)
			s.Restart()
			if holds("saved") {
				t.Error("Restart: the saved data came back")
			}
			if s.Addr() != addr {
				t.Errorf("address went from %s to %s", addr, s.Addr())
			}
		})
	}
}

func TestStopAndKillRefuseConnections(t *testing.T) {
	for name, end := range map[string]func(*Server){"Stop": (*Server).Stop, "Kill": (*Server).Kill} {
		t.Run(name, func(t *testing.T) {
			s := Start(t)
			pid := s.PID()
			end(s)
			if lives(pid) || s.PID() != 0 {
				t.Errorf("process %d lives: %v; PID() = %d, want 0", pid, lives(pid), s.PID())
			}
			if conn, err := net.DialTimeout("tcp", s.Addr(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
				if conn != nil {
					_ = conn.Close()
				}
				t.Errorf("dialing gave %v, want connection refused", err)
			}
			end(s) // a second time does nothing
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	s := Start(t)
	client := s.Client(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("a paused server answered PING with %v, want a time-out", err)
	}
	s.Resume()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a resumed server answered PING with %v", err)
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func TestLaunchTellsWhatWentWrong(t *testing.T) {
	if _, err := Launch(t.TempDir(), "--no-such-option", "1"); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("a wrong option gave %v, want the server's own words", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	if _, err := Launch(t.TempDir(), "--port", port); !errors.Is(err, errPortTaken) {
		t.Errorf("a taken port gave %v, want %v", err, errPortTaken)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Launch(t.TempDir()); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("without redis-server: got %v, want %v", err, exec.ErrNotFound)
	}
}

// TestServersEndWithTheProcess runs this test binary as a child that starts a
// server and dies without any cleanup.
func TestServersEndWithTheProcess(t *testing.T) {
	if dir := os.Getenv("REDISTEST_DIE_IN"); dir != "" {
		p, err := Launch(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/pid", []byte(strconv.Itoa(p.PID())), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServersEndWithTheProcess$")
	cmd.Env = append(os.Environ(), "REDISTEST_DIE_IN="+dir)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the child did not die: %s", out)
	}
	text, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := poll(ctx, pollInterval, "waiting for the orphan's end", func() error {
		if lives(pid) && !isZombie(pid) {
			return errors.New("it lives")
		}
		return nil
	}); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Error(err)
	}
}

// isZombie reports whether a process has ended but was not yet waited for,
// as happens to orphans where process 1 waits for nobody.
func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// TestNamedServer: the environment says which program is the server.
func TestNamedServer(t *testing.T) {
	path, err := lookServer()
	if err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(t.TempDir(), "valkey-server")
	if err := os.Symlink(path, named); err != nil {
		t.Fatal(err)
	}
	t.Setenv(serverVariable, named)
	s := Start(t)
	if got := s.process.child.cmd.Path; got != named {
		t.Errorf("%s was started, want %s", got, named)
	}
	t.Setenv(serverVariable, named+"-missing")
	if _, err := Launch(t.TempDir()); err == nil {
		t.Error("a server that does not exist was started")
	}
}
