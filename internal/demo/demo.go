package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// options are what a demo is started with.
type options struct {
	root        string        // top of the checkout: what the origin serves, and Caddy's source
	self        string        // path of this program, for the list of things to try
	caddy       string        // path of a Caddy with the plugin; empty means: build it
	ports       ports         // which ports to take if they are free
	reviveAfter time.Duration // how long a killed node stays away
	out         io.Writer     // where to tell what happens
}

// ports are the ports that a demo would like; 0 means any.
type ports struct {
	nodes  [3]int
	sites  [2]int
	admins [2]int
}

var usualPorts = ports{
	nodes:  [3]int{7001, 7002, 7003},
	sites:  [2]int{8080, 8081},
	admins: [2]int{2019, 2020},
}

// A demo is all that runs. Its fields are set by start.
type demo struct {
	opt     options
	dir     string // all that it writes is in here
	taken   []int  // ports given out already
	nodes   []*node
	origin  *origin
	caddies []*caddy

	cancel context.CancelFunc // ends the reviving of nodes
	wg     sync.WaitGroup     // the goroutines of nodes, origin and wait
	mu     sync.Mutex         // guards writes to opt.out
}

// start starts everything. With an error it returns what runs by then, if
// anything does; the caller closes it in either case.
func start(ctx context.Context, opt options) (*demo, error) {
	dir, err := os.MkdirTemp("", "fluster-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the demo: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &demo{opt: opt, dir: dir, cancel: cancel}
	steps := []func(context.Context) error{d.buildCaddy, d.startNodes, d.startOrigin, d.startCaddies}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return d, err
		}
	}
	return d, nil
}

// wait returns nil when ctx is done, and an error when both Caddys have ended
// before that.
func (d *demo) wait(ctx context.Context) error {
	ended := make(chan *caddy, len(d.caddies))
	for _, c := range d.caddies {
		d.wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-c.child.Done():
				ended <- c
			}
		})
	}
	for range d.caddies {
		select {
		case <-ctx.Done():
			d.say("\nending everything")
			return nil
		case c := <-ended:
			d.say("%s", c.lastWords())
		}
	}
	return errors.New("no Caddy is left")
}

// close ends everything that runs and removes what it wrote.
func (d *demo) close() {
	d.cancel()
	for _, c := range d.caddies {
		if err := c.child.Stop(caddyStopTimeout); err != nil {
			d.say("%v", err)
		}
	}
	if d.origin != nil {
		d.origin.close()
	}
	d.wg.Wait()
	for _, n := range d.nodes {
		n.server.Close()
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.say("%v", err)
	}
}

// say prints one line for the person at the terminal.
func (d *demo) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintf(d.opt.out, format+"\n", args...)
}

// port returns the wanted port if it is free, else one that is, and never the
// same one twice.
func (d *demo) port(wanted int) (int, error) {
	port := wanted
	for port == 0 || slices.Contains(d.taken, port) || !isFree(port) {
		var err error
		if port, err = redistest.FreePort(); err != nil {
			return 0, err
		}
	}
	d.taken = append(d.taken, port)
	return port, nil
}

// isFree reports whether nothing listens on the port, on any address: a
// server on all interfaces has the loopback one too.
func isFree(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
