package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A node is one Redis server of the demo.
type node struct {
	name   string
	server *redistest.Process
}

// startNodes starts the Redis servers and sees to it that they come back.
func (d *demo) startNodes(ctx context.Context) error {
	for i, wanted := range d.opt.ports.nodes {
		port, err := d.port(wanted)
		if err != nil {
			return err
		}
		name := string(rune('a' + i))
		dir := filepath.Join(d.dir, "node-"+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory for node %s: %w", name, err)
		}
		server, err := redistest.Launch(dir, "--port", strconv.Itoa(port),
			"--maxmemory", "64mb", "--maxmemory-policy", "volatile-lfu")
		if errors.Is(err, exec.ErrNotFound) {
			return errors.New("redis-server is not installed; this installs it: sh scripts/install-redis.sh")
		}
		if err != nil {
			return err
		}
		n := &node{name: name, server: server}
		d.nodes = append(d.nodes, n)
		d.say("node %s: Redis on port %d, process %d", name, port, server.PID())
		d.wg.Go(func() { d.revive(ctx, n) })
	}
	return nil
}

// revive starts the node again some time after each end of its process, until
// ctx is done.
func (d *demo) revive(ctx context.Context, n *node) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.server.Done():
		}
		d.say("node %s is gone; it starts again in %v", n.name, d.opt.reviveAfter)
		select {
		case <-ctx.Done():
			return
		case <-time.After(d.opt.reviveAfter):
		}
		if err := n.server.Restart(); err != nil {
			d.say("node %s does not start again: %v", n.name, err)
			continue
		}
		d.say("node %s is back, empty: process %d", n.name, n.server.PID())
	}
}
