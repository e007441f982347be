//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets a test run this binary as the demo program itself.
func TestMain(m *testing.M) {
	if os.Getenv("DEMO_TEST_MAIN") != "" {
		main()
		return
	}
	dir, err := os.MkdirTemp("", "fluster-demo-test-")
	if err != nil {
		panic(err)
	}
	built.path = filepath.Join(dir, "caddy")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// built is Caddy with the plugin, for all tests that need it.
var built struct {
	path string
	once sync.Once
	err  error
}

// builtCaddy returns the path of Caddy with the plugin; the first call builds
// it.
func builtCaddy(t *testing.T, root string) string {
	t.Helper()
	built.once.Do(func() {
		cmd := exec.Command("go", "build", "-o", built.path, "./cmd/caddy")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("building Caddy: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// testOptions returns options for a demo on free ports. Commands of its tries
// that run the demo's own program run this test binary as such.
func testOptions(t *testing.T) options {
	t.Helper()
	root, err := checkout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DEMO_TEST_MAIN", "yes")
	return options{root: root, self: os.Args[0], reviveAfter: 10 * time.Millisecond, out: testWriter{t}}
}

// testWriter writes to a test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// TestDemoShowsWhatItPrints does what the demo's list says, in its order, and
// looks for what the list promises.
func TestDemoShowsWhatItPrints(t *testing.T) {
	opt := testOptions(t)
	opt.caddy = builtCaddy(t, opt.root)
	d, err := start(t.Context(), opt)
	if d != nil {
		t.Cleanup(d.close)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, try := range d.tries() {
		if !perform(t, try) {
			t.Fatalf("step %d, %s: the steps after it make no sense now", i+1, try.title)
		}
		if i == 0 {
			waitForStored(t, d)
		}
	}
}

// perform runs one command and reports whether its output is as promised.
func perform(t *testing.T, try try) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := exec.CommandContext(ctx, "sh", "-c", try.command).CombinedOutput()
		if err == nil && try.want.Match(out) {
			return true
		}
		if !try.waits || ctx.Err() != nil {
			t.Errorf("%s\n%s\n%v, want %s; got:\n%s", try.title, try.command, err, try.want, out)
			return false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// waitForStored returns when a node holds a key with a time to live, as stored
// responses have it: the copy for the nodes is written after the answer.
func waitForStored(t *testing.T, d *demo) {
	t.Helper()
	expires := regexp.MustCompile(`expires=[1-9]`)
	var commands []string
	for _, n := range d.nodes {
		commands = append(commands, d.redisCLI(n)+" info keyspace")
	}
	if !perform(t, try{title: "a node stores the page", command: strings.Join(commands, "; "), want: expires, waits: true}) {
		t.FailNow()
	}
}

// TestDemoEndsWithSIGTERM runs the demo as a program of its own, ends it as
// make or a service manager would, and looks for what it left.
func TestDemoEndsWithSIGTERM(t *testing.T) {
	opt := testOptions(t)
	tmp := t.TempDir()
	cmd := exec.Command(os.Args[0], "-free-ports", "-caddy", builtCaddy(t, opt.root))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	pids, output := readUntil(stdout, "Ctrl-C ends it")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%v; its output:\n%s", err, output)
	}
	rest, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo ended with %v; its output:\n%s%s", err, output, rest)
	}
	if len(pids) != 5 {
		t.Errorf("got processes %v, want those of 3 nodes and 2 Caddys; the output:\n%s", pids, output)
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// readUntil reads lines until one has mark in it, and returns the process IDs
// in them, and the lines.
func readUntil(r io.Reader, mark string) (pids []int, output string) {
	process := regexp.MustCompile(`process (\d+)`)
	var b strings.Builder
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fmt.Fprintln(&b, lines.Text())
		if m := process.FindStringSubmatch(lines.Text()); m != nil {
			pid, _ := strconv.Atoi(m[1])
			pids = append(pids, pid)
		}
		if strings.Contains(lines.Text(), mark) {
			break
		}
	}
	return pids, b.String()
}

func TestDemoTellsWhyCaddyDoesNotStart(t *testing.T) {
	opt := testOptions(t)
	opt.caddy = filepath.Join(t.TempDir(), "caddy")
	script := "#!/bin/sh\necho this is no Caddy\nexit 1\n"
	if err := os.WriteFile(opt.caddy, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := start(t.Context(), opt)
	if err == nil || !strings.Contains(err.Error(), "this is no Caddy") {
		t.Errorf("got error %v, want Caddy's own words", err)
	}
	var addrs []string
	for _, n := range d.nodes {
		addrs = append(addrs, n.server.Addr())
	}
	d.close()
	for _, addr := range append(addrs, d.origin.addr) {
		if conn, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after close, dialing %s gave %v, %v, want connection refused", addr, conn, err)
		}
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after close, %s is there: %v", d.dir, err)
	}
}

// TestNodesComeBack kills a node as a visitor of the demo does.
func TestNodesComeBack(t *testing.T) {
	d := &demo{opt: testOptions(t), dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	said := make(chan string, 10)
	d.opt.out = lineWriter(said)
	t.Cleanup(d.close)
	if err := d.startNodes(ctx); err != nil {
		t.Fatal(err)
	}
	for range d.nodes {
		<-said // that it runs
	}
	pid := d.nodes[1].server.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got, want := <-said, "node b is gone; it starts again in 10ms\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if got, want := <-said, "node b is back"; !strings.HasPrefix(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
	if back := d.nodes[1].server.PID(); back == 0 || back == pid {
		t.Errorf("process %d after %d, want another", back, pid)
	}
}

// lineWriter sends each line written to a channel with room for it.
type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// TestTriesPromiseWhatIsTested compares what the list tells people to look
// for with what the test above looks for.
func TestTriesPromiseWhatIsTested(t *testing.T) {
	d := &demo{opt: testOptions(t), dir: t.TempDir()}
	t.Cleanup(d.close)
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	if err := d.startNodes(ctx); err != nil {
		t.Fatal(err)
	}
	withSites := &demo{opt: d.opt, nodes: d.nodes, caddies: []*caddy{{port: 1}, {port: 2}}}
	for _, try := range withSites.tries() {
		if strings.HasPrefix(try.see, "Cache-Status: ") && !try.want.MatchString(try.see+"\r\n") {
			t.Errorf("%s: people should see %q, the test wants %s", try.title, try.see, try.want)
		}
	}
}

func TestPortPrefersTheUsualOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d := new(demo)
	taken := l.Addr().(*net.TCPAddr).Port
	if got, err := d.port(taken); err != nil || got == taken {
		t.Errorf("port(%d), which is taken, gave %d, %v", taken, got, err)
	}
	free, err := d.port(0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := new(demo).port(free); err != nil || got != free {
		t.Errorf("port(%d), which is free, gave %d, %v", free, got, err)
	}
	if got, err := d.port(free); err != nil || got == free {
		t.Errorf("port(%d), which was given out before, gave %d, %v", free, got, err)
	}
}

func TestOriginAndGet(t *testing.T) {
	d := &demo{opt: testOptions(t), dir: t.TempDir(), cancel: func() {}}
	t.Cleanup(d.close)
	if err := d.startOrigin(t.Context()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path string
		want []string
	}{
		{"/", []string{"HTTP/1.1 200 OK\r\n", "Content-Type: text/html", "<h1>A small site"}},
		{"/logo.svg", []string{"Content-Type: image/svg+xml", "<svg"}},
		{"/product/42", []string{"Cache-Control: max-age=60\r\n", "Surrogate-Key: product-42\r\n", "<h1>Product 42</h1>", "page number 1 "}},
		{"/time", []string{"page number 2 "}},
		{"/private", []string{"Cache-Control: private\r\n"}},
		{"/files/LICENSE", []string{"Content-Type: text/plain", "Apache License"}},
		{"/files/large.bin", []string{"Content-Length: 1048576\r\n"}},
		{"/nothing", []string{"HTTP/1.1 404 Not Found\r\n"}},
	}
	for _, test := range tests {
		var out bytes.Buffer
		if err := get(t.Context(), &out, []string{"http://" + d.origin.addr + test.path}); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in:\n%.500s", test.path, want, out.String())
			}
		}
	}
	var out bytes.Buffer
	if err := get(t.Context(), &out, []string{"-brief", "http://" + d.origin.addr + "/slow"}); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^200 in [1-9]\.\d{6} s\n$`).MatchString(out.String()) {
		t.Errorf("get -brief /slow printed %q, want 200 and a second or more", out.String())
	}
}
