package caddytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// childVariable tells a test binary that it is to be Caddy.
const childVariable = "FLUSTER_TEST_CADDY"

// MainIfChild makes this process Caddy, and does not return, if a test started
// it as such. A TestMain calls it first. Thus a child is built with the same
// flags as the tests, -race among them.
func MainIfChild() {
	if os.Getenv(childVariable) != "" {
		caddycmd.Main()
		os.Exit(0)
	}
}

// Start runs Caddy in a process of its own, and returns when its site answers.
// The arguments are those of Load.
func Start(tb testing.TB, global, site string) *Caddy {
	tb.Helper()
	c := prepare(tb)
	file := filepath.Join(c.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.caddyfile(global, site)), 0o600); err != nil {
		tb.Fatal(err)
	}
	out, err := os.Create(filepath.Join(c.dir, "output"))
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	cmd := command(c.dir, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Stdout, cmd.Stderr = out, out
	if c.child, err = redistest.StartChild(cmd); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Stop)
	Eventually(tb, "Caddy answers", func() bool {
		if !c.child.Running() {
			tb.Fatalf("Caddy has ended:\n%s\n%s", c.output(), c.Log())
		}
		return c.ask(c.Admin, "GET", "/config/", "").Status == 200 && answers(c.Addr)
	})
	return c
}

// Command runs Caddy's command line in a process of its own and returns what it
// wrote and how it ended.
func Command(tb testing.TB, args ...string) (output string, err error) {
	tb.Helper()
	out, err := command(tb.TempDir(), args...).CombinedOutput()
	return string(out), err
}

// command is Caddy's command line with a home of its own.
func command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=1", "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

// Signal sends a signal to a Caddy that was started by Start.
func (c *Caddy) Signal(s os.Signal) {
	if err := c.child.Signal(s); err != nil {
		c.tb.Error(err)
	}
}

// Kill ends a Caddy that was started by Start at once.
func (c *Caddy) Kill() { c.child.Kill() }

// end ends the child, and looks for what the race detector saw in it.
func (c *Caddy) end() {
	if err := c.child.Stop(20 * time.Second); err != nil {
		c.tb.Error(err)
	}
	if out := c.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
		c.tb.Errorf("Caddy wrote:\n%s", out)
	}
}

func (c *Caddy) output() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "output"))
	return string(b)
}
