package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

const (
	caddyStartTimeout = 30 * time.Second
	caddyStopTimeout  = 15 * time.Second
)

//go:embed caddyfile.tmpl
var caddyfileText string

var caddyfile = template.Must(template.New("Caddyfile").Parse(caddyfileText))

// A caddy is one running Caddy with the plugin.
type caddy struct {
	number int
	port   int // of the site
	admin  int // of the admin endpoint
	log    string
	child  *redistest.Child
}

// buildCaddy makes sure that d.opt.caddy is there.
func (d *demo) buildCaddy(ctx context.Context) error {
	if d.opt.caddy != "" {
		return nil
	}
	d.say("building Caddy with the plugin; the first time, this takes a minute or two")
	d.opt.caddy = filepath.Join(d.dir, "caddy")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", d.opt.caddy, "./cmd/caddy")
	cmd.Dir = d.opt.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return nil
}

// startCaddies starts both Caddys and waits until they answer.
func (d *demo) startCaddies(ctx context.Context) error {
	for i := range d.opt.ports.sites {
		c := &caddy{number: i + 1}
		var err error
		if c.port, err = d.port(d.opt.ports.sites[i]); err != nil {
			return err
		}
		if c.admin, err = d.port(d.opt.ports.admins[i]); err != nil {
			return err
		}
		if err := d.runCaddy(ctx, c); err != nil {
			return err
		}
		d.say("Caddy %d: http://localhost:%d/, process %d, log in %s", c.number, c.port, c.child.PID(), c.log)
	}
	return nil
}

// runCaddy starts one Caddy and waits until it accepts connections.
func (d *demo) runCaddy(ctx context.Context, c *caddy) error {
	home := filepath.Join(d.dir, fmt.Sprintf("caddy-%d", c.number))
	if err := os.Mkdir(home, 0o700); err != nil {
		return fmt.Errorf("making a directory for Caddy: %w", err)
	}
	config := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(config, d.caddyfileFor(c), 0o600); err != nil {
		return fmt.Errorf("writing the Caddyfile: %w", err)
	}
	c.log = filepath.Join(home, "log")
	log, err := os.Create(c.log)
	if err != nil {
		return fmt.Errorf("creating the log of Caddy: %w", err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(d.opt.caddy, "run", "--adapter", "caddyfile", "--config", config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	// What Caddy keeps in a home directory must go with the demo.
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	if c.child, err = redistest.StartChild(cmd); err != nil {
		return err
	}
	d.caddies = append(d.caddies, c)
	return c.waitReady(ctx)
}

// caddyfileFor returns the configuration of c.
func (d *demo) caddyfileFor(c *caddy) []byte {
	type address struct{ Name, Address string }
	data := struct {
		Port, Admin int
		Origin      string
		Nodes       []address
	}{Port: c.port, Admin: c.admin, Origin: d.origin.addr}
	for _, n := range d.nodes {
		data.Nodes = append(data.Nodes, address{n.name, n.server.Addr()})
	}
	var b bytes.Buffer
	if err := caddyfile.Execute(&b, data); err != nil {
		panic(err) // template and data are both above
	}
	return b.Bytes()
}

// waitReady returns when the site accepts connections, or Caddy has ended.
func (c *caddy) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, caddyStartTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	dialer := net.Dialer{Timeout: time.Second}
	for {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-c.child.Done():
			return fmt.Errorf("starting Caddy: %s", c.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("waiting for Caddy on port %d: %w", c.port, ctx.Err())
		}
	}
}

// lastWords tells that Caddy has ended, with the end of its log.
func (c *caddy) lastWords() string {
	log, err := os.ReadFile(c.log)
	if err != nil {
		log = []byte(err.Error())
	}
	return fmt.Sprintf("Caddy %d has ended; its log ends:\n%s", c.number, log[max(0, len(log)-2000):])
}
