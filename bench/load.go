package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Load is what wrk asks: over 32 connections that are kept, one request after
// the other on each. wrk takes about 7 µs of CPU a request, a third of what a
// client in Go does.
type Load struct {
	URL    string
	Fields map[string]string // of the request's header
	Unique bool              // each request has a query of its own
	URLs   int               // asks for so many in turn, told apart by their query; 0: for one
	Post   int               // bytes of a body to POST; 0: a GET
}

const connections = 32

// percentiles are those of the latency that are measured.
var percentiles = []float64{50, 75, 90, 99, 99.9}

// A Run is what one run of a Load gave.
type Run struct {
	Requests  int
	PerSecond float64
	Latency   []time.Duration // at each of percentiles
	CPU       float64         // µs a request, of the servers that were named
	Load      float64         // µs a request, of wrk itself
}

// run asks for a while, and accounts what the servers take meanwhile.
func (l *Lab) run(load Load, length time.Duration, servers []*Process) (Run, error) {
	script := filepath.Join(l.dir, "load.lua")
	if err := os.WriteFile(script, []byte(load.script()), 0o600); err != nil {
		return Run{}, err
	}
	before := cpuOf(servers)
	ctx, cancel := context.WithTimeout(context.Background(), length+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", int(length.Seconds())), "-s", script, load.URL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Run{}, fmt.Errorf("running wrk: %w: %s", err, lastLines(string(out), 3))
	}
	r, err := parseRun(string(out))
	if err != nil {
		return Run{}, err
	}
	per := func(d time.Duration) float64 { return float64(d) / 1e3 / float64(r.Requests) }
	r.CPU, r.Load = per(cpuOf(servers)-before), per(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	return r, nil
}

func cpuOf(servers []*Process) (sum time.Duration) {
	for _, p := range servers {
		sum += p.cpu()
	}
	return sum
}

// script is what wrk runs.
func (l Load) script() string {
	var b strings.Builder
	for name, value := range l.Fields {
		fmt.Fprintf(&b, "wrk.headers[%q] = %q\n", name, value)
	}
	if l.Post > 0 {
		fmt.Fprintf(&b, "wrk.method, wrk.body = \"POST\", string.rep(\"x\", %d)\n", l.Post)
	}
	if l.Unique {
		// The first number is drawn, so that no two runs ask for the same.
		b.WriteString(`local n, head, tail
init = function()
  math.randomseed(os.time() * 1000 + os.clock() * 1e6 % 1000)
  n = math.random(1, 2^30) * 1000000
  head, tail = "GET " .. wrk.path .. "?", " HTTP/1.1\r\n"
  for k, v in pairs(wrk.headers) do tail = tail .. k .. ": " .. v .. "\r\n" end
  tail = tail .. "\r\n"
end
request = function() n = n + 1; return head .. string.format("%.0f", n) .. tail end
`)
	}
	if l.URLs > 0 {
		fmt.Fprintf(&b, `local n, lines = 0, {}
init = function()
  for i = 1, %d do lines[i] = wrk.format(nil, wrk.path .. "?" .. i) end
end
request = function() n = n %% #lines + 1; return lines[n] end
`, l.URLs)
	}
	b.WriteString("done = function(summary, latency)\n  io.write(string.format(\"BENCH %d %d %d\", summary.requests, summary.duration, " +
		"summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))\n")
	for _, p := range percentiles {
		fmt.Fprintf(&b, "  io.write(string.format(\" %%d\", latency:percentile(%v)))\n", p)
	}
	b.WriteString("  io.write(\"\\n\")\nend\n")
	return b.String()
}

func parseRun(out string) (Run, error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4+len(percentiles) || f[0] != "BENCH" {
			continue
		}
		n := make([]int64, len(f)-1)
		for i := range n {
			n[i], _ = strconv.ParseInt(f[i+1], 10, 64)
		}
		if n[0] == 0 || n[2] != 0 {
			return Run{}, fmt.Errorf("wrk has %d answers and %d errors", n[0], n[2])
		}
		r := Run{Requests: int(n[0]), PerSecond: float64(n[0]) / (float64(n[1]) / 1e6)}
		for _, us := range n[3:] {
			r.Latency = append(r.Latency, time.Duration(us)*time.Microsecond)
		}
		return r, nil
	}
	return Run{}, fmt.Errorf("wrk said: %s", lastLines(out, 3))
}
