// Package caddytest runs Caddy with this repository's plugin for tests: in the
// test's own process, or as a child process where a test needs two of them or
// wants to end one. An Origin stands behind it. Everything is on loopback and
// ends with the test that started it.
//
// It is for tests, never for the plugin itself. It does not import the plugin:
// who calls it does.
//
//	caddy.go   a Caddy and its configuration
//	child.go   a Caddy in a process of its own
//	client.go  asking a Caddy, and what it answered
//	origin.go  the origin behind it, which does what a test says
//	wait.go    waiting for what a test cannot be told of
package caddytest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	// What the configurations of tests use.
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A Caddy is one running Caddy with one site. It is safe for concurrent use,
// but for Reload.
type Caddy struct {
	// Addr is where the site is, 127.0.0.1:port. It answers for every Host.
	Addr string
	// Admin is where the admin endpoint is, 127.0.0.1:port.
	Admin string

	tb       testing.TB
	dir      string // with the log and the storage
	level    string // of what is logged
	client   *http.Client
	reloaded atomic.Int64     // when it was last reloaded, Unix ns
	child    *redistest.Child // nil for the Caddy of this process
}

// Host is the Host that requests name unless they say otherwise, so that
// several Caddys share what they store.
const Host = "example.test"

// Load runs Caddy in this process, of which there can be one at a time. global
// is what stands in the global options of its Caddyfile, and site what stands in
// its only site. It ends with the test.
func Load(tb testing.TB, global, site string) *Caddy {
	tb.Helper()
	c := prepare(tb)
	tb.Cleanup(c.Stop)
	if err := c.TryReload(global, site); err != nil {
		tb.Fatal(err)
	}
	return c
}

// Reload gives the Caddy of this process another configuration.
func (c *Caddy) Reload(global, site string) {
	c.tb.Helper()
	if err := c.TryReload(global, site); err != nil {
		c.tb.Fatal(err)
	}
}

// TryReload is Reload for a configuration that may be refused.
func (c *Caddy) TryReload(global, site string) error {
	adapter := caddyconfig.GetAdapter("caddyfile")
	config, _, err := adapter.Adapt([]byte(c.caddyfile(global, site)), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapting the Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("loading the configuration: %w", err)
	}
	// Caddy closes what is idle; a request on such a connection would fail.
	c.client.CloseIdleConnections()
	c.reloaded.Store(time.Now().UnixNano())
	return nil
}

// Stop ends the Caddy, its admin endpoint too. It may be called again.
func (c *Caddy) Stop() {
	c.client.CloseIdleConnections()
	if c.child != nil {
		c.end()
		return
	}
	// A configuration without an admin endpoint ends the one that there was.
	if err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true); err != nil {
		c.tb.Error(err)
	}
	if err := caddy.Stop(); err != nil {
		c.tb.Error(err)
	}
}

// prepare finds ports and makes a directory.
func prepare(tb testing.TB) *Caddy {
	tb.Helper()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	return &Caddy{
		tb: tb, Addr: freeAddr(tb), Admin: freeAddr(tb), dir: tb.TempDir(), level: "DEBUG",
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	port, err := redistest.FreePort()
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// caddyfile is the whole configuration of the Caddy.
func (c *Caddy) caddyfile(global, site string) string {
	_, port, _ := net.SplitHostPort(c.Addr)
	return fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	grace_period 3s
	storage file_system %s
	log {
		output file %s {
			roll_disabled
		}
		format json
		level %s
	}
	%s
}
http://:%s {
	bind 127.0.0.1
	%s
}
`, c.Admin, filepath.Join(c.dir, "storage"), c.logFile(), c.level, global, port, site)
}

func (c *Caddy) logFile() string { return filepath.Join(c.dir, "caddy.log") }

// Log returns all that was logged until now.
func (c *Caddy) Log() string {
	b, err := os.ReadFile(c.logFile())
	if err != nil && !os.IsNotExist(err) {
		c.tb.Error(err)
	}
	return string(b)
}

// Logged returns the lines of the log that hold all words.
func (c *Caddy) Logged(words ...string) (lines []string) {
next:
	for line := range strings.Lines(c.Log()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		lines = append(lines, line)
	}
	return lines
}
