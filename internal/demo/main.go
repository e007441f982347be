// Command demo shows what fluster does, on one machine: it starts three Redis
// servers, an origin that serves a small web site, and two Caddys with the
// plugin in front of it, and prints a list of things to try. Everything is on
// the loopback interface, and everything ends with it: Ctrl-C leaves no
// process and no file. `make run` builds and runs it.
//
//	main.go     flags, signals
//	demo.go     what is started, in order, and ended again
//	nodes.go    the Redis servers, which come back after they were killed
//	origin.go   the web site
//	caddy.go    building, configuring and running Caddy; caddyfile.tmpl
//	try.go      the list of things to try
//	get.go      a small stand-in for curl where there is none
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const modulePath = "github.com/caddy-fluster/caddy-fluster"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the program: it returns when ctx is done or nothing is left to show.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "get" {
		return get(ctx, os.Stdout, args[1:])
	}
	opt := options{out: os.Stdout, ports: usualPorts}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.StringVar(&opt.caddy, "caddy", "", "a Caddy with the plugin; without it one is built from the checkout")
	flags.DurationVar(&opt.reviveAfter, "revive", 10*time.Second, "when a killed Redis server starts again")
	free := flags.Bool("free-ports", false, "take any free ports instead of the usual ones")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *free {
		opt.ports = ports{}
	}
	var err error
	if opt.root, err = checkout(ctx); err != nil {
		return err
	}
	if opt.self, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}

	d, err := start(ctx, opt)
	if d != nil {
		defer d.close()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C while starting is no trouble
		}
		return err
	}
	d.printTries()
	return d.wait(ctx)
}

// checkout returns the top of the module's checkout that holds the working
// directory.
func checkout(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("this needs the go command on PATH")
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || path != modulePath {
		return "", fmt.Errorf("run this inside a checkout of %s", modulePath)
	}
	return filepath.Clean(dir), nil
}
