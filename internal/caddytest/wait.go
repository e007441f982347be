package caddytest

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what has to come. A machine under load
// may take long; what comes never is the only failure.
const patience = 20 * time.Second

// Eventually asks ok again and again, and fails the test where it stays false.
// what says what is waited for.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			tb.Fatalf("waited %s in vain: %s", patience, what)
		case <-tick.C:
		}
	}
}

// answers reports whether something listens at addr.
func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// NodeStatus is what the admin endpoint tells of a node.
type NodeStatus struct {
	Name, Address, State, Reason, Since string
	RetryAt                             string `json:"retry_at"`
	Owed                                int
}

// Nodes returns what the admin endpoint tells of the nodes, by name.
func (c *Caddy) Nodes() map[string]NodeStatus {
	r := c.ask(c.Admin, "GET", "/fluster/status", "")
	var status struct{ Nodes []NodeStatus }
	if r.Err != nil || json.Unmarshal(r.Body, &status) != nil {
		return nil
	}
	out := map[string]NodeStatus{}
	for _, n := range status.Nodes {
		out[n.Name] = n
	}
	return out
}

// WaitUp waits until n nodes are in use.
func (c *Caddy) WaitUp(n int) {
	c.tb.Helper()
	Eventually(told{c.tb, c}, "the nodes are in use", func() bool { return c.up() == n })
}

// told is a test that says what a Caddy has to say, where it fails.
type told struct {
	testing.TB
	c *Caddy
}

// Fatalf shows the nodes and what was logged of them besides.
func (t told) Fatalf(format string, args ...any) {
	t.Helper()
	lines := t.c.Logged(`"logger":"fluster`)
	t.TB.Fatalf(format+"\nnodes: %+v\n%s", append(args, t.c.Nodes(), strings.Join(lines[max(0, len(lines)-40):], "\n"))...)
}

func (c *Caddy) up() (n int) {
	for _, s := range c.Nodes() {
		if s.State == "up" {
			n++
		}
	}
	return n
}

// WaitState waits until the node with this name is in the state.
func (c *Caddy) WaitState(name, state string) {
	c.tb.Helper()
	Eventually(told{c.tb, c}, "node "+name+" is "+state, func() bool { return c.Nodes()[name].State == state })
}

// WaitLogged waits until a line of the log holds all words, and returns it.
func (c *Caddy) WaitLogged(words ...string) string {
	c.tb.Helper()
	var lines []string
	Eventually(c.tb, "the log says "+strings.Join(words, ", "), func() bool {
		lines = c.Logged(words...)
		return len(lines) > 0
	})
	return lines[0]
}
