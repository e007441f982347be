package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A Lab runs servers on loopback, each in a process of its own, in a directory
// that is removed behind it.
type Lab struct {
	dir       string
	rounds    int
	length    time.Duration
	started   time.Time
	processes []*Process
	otherLoad float64 // how many others were running or waiting for a core before it began
}

func openLab(rounds int, length time.Duration) (*Lab, error) {
	if length < time.Second || length%time.Second != 0 || rounds < 1 {
		return nil, errors.New("-for takes whole seconds, and -rounds at least 1")
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return nil, errors.New("wrk is not installed; this installs it: sh scripts/install-bench.sh (at the top of the repository)")
	}
	dir, err := os.MkdirTemp("", "fluster-bench-")
	return &Lab{dir: dir, rounds: rounds, length: length, started: time.Now(), otherLoad: loadAverage()}, err
}

// loadAverage is the machine's, of the last minute.
func loadAverage() float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(b), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// othersAtWork says so if the machine was not there for this alone.
func (l *Lab) othersAtWork() string {
	if l.otherLoad < 1 {
		return ""
	}
	return fmt.Sprintf(" Others used the machine at the same time: its load average was %.1f before this began.", l.otherLoad)
}

// Close ends all.
func (l *Lab) Close() {
	l.stopAll()
	os.RemoveAll(l.dir) //nolint:errcheck // it is a temporary one
}

// stopAll ends the servers that run.
func (l *Lab) stopAll() {
	for _, p := range l.processes {
		p.stop()
	}
	l.processes = nil
}

// A Process is one server, with those that it has started itself.
type Process struct {
	name  string
	cmd   *exec.Cmd
	done  chan struct{}
	redis *redistest.Process
}

// start starts a server and returns when it listens on addr.
func (l *Lab) start(name, addr string, cmd *exec.Cmd) (*Process, error) {
	log, err := os.Create(filepath.Join(l.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd.Stdout, cmd.Stderr = log, log
	// All that it starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }() //nolint:errcheck // how it ended does not matter
	l.processes = append(l.processes, p)
	for range 400 {
		select {
		case <-p.done:
			out, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%s has ended: %s", name, lastLines(string(out), 3))
		case <-time.After(25 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close() //nolint:errcheck // that it could be opened is all
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s does not listen on %s", name, addr)
}

// startRedis starts a redis-server that keeps nothing.
func (l *Lab) startRedis(name string) (*Process, error) {
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r, err := redistest.Launch(dir, "--maxmemory", "2gb", "--maxmemory-policy", "volatile-lfu")
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, redis: r}
	l.processes = append(l.processes, p)
	return p, nil
}

func (p *Process) stop() {
	if p.redis != nil {
		p.redis.Close()
		return
	}
	group := -p.cmd.Process.Pid
	syscall.Kill(group, syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	syscall.Kill(group, syscall.SIGKILL) //nolint:errcheck // those that it left behind
	<-p.done
}

// pids returns the process and those of its group.
func (p *Process) pids() []int {
	if p.redis != nil {
		return []int{p.redis.PID()}
	}
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if f := statFields(file); len(f) > 4 && f[2] == strconv.Itoa(p.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// statFields returns the fields of /proc/…/stat behind the name: state, parent,
// group, and so on.
func statFields(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// cpu returns the CPU time that the process has taken.
func (p *Process) cpu() time.Duration {
	var ticks int64
	for _, pid := range p.pids() {
		if f := statFields(fmt.Sprintf("/proc/%d/stat", pid)); len(f) > 13 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a hundredth of a second on every Linux
}

// memory returns the bytes of memory that the process has, as VmRSS or VmHWM
// (the most it ever had) tells.
func (p *Process) memory(field string) int64 {
	var sum int64
	for _, pid := range p.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(b)) {
			if name, value, _ := strings.Cut(line, ":"); name == field {
				kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}

// freeAddr returns an address of loopback that nobody has.
func freeAddr() (string, error) {
	port, err := redistest.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// useTwoCores begins this program anew on two cores, if there are more.
func useTwoCores() error {
	if runtime.NumCPU() <= 2 {
		return nil
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return fmt.Errorf("limiting this to two cores: %w", err)
	}
	return syscall.Exec(taskset, append([]string{"taskset", "-c", "0,1"}, os.Args...), os.Environ())
}

// machine says what was measured on.
func machine() string {
	model := "unknown processor"
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, two cores, %s/%s, %s, %s", model, runtime.GOOS, runtime.GOARCH, runtime.Version(), version("redis-server", "--version"))
}

// version returns the first line that a program tells of its version.
func version(program string, arg string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, arg).CombinedOutput()
	if len(out) == 0 && err != nil {
		return program + " is not installed"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	if program == "redis-server" {
		if f := strings.Fields(first); len(f) > 2 {
			return "Redis " + strings.TrimPrefix(f[2], "v=")
		}
	}
	return strings.TrimSpace(first)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
