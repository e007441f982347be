package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// costCases are what an operation costs, by the benchmarks beside the code.
func costCases() []Case { return []Case{{"cost of a near hit", nearCost}} }

// plainGets returns the CPU time, in µs, that a GET of so many bytes costs the
// server, asked by a plain client of as many callers as wrk has connections.
func plainGets(server *Process, size int, length time.Duration) (float64, error) {
	client := redis.NewClient(&redis.Options{Addr: server.redis.Addr(), PoolSize: connections})
	defer client.Close() //nolint:errcheck // nothing is under way
	ctx, end := context.WithTimeout(context.Background(), length)
	defer end()
	if err := client.Set(ctx, "bench", make([]byte, size), 0).Err(); err != nil {
		return 0, err
	}
	before := server.cpu()
	var gets atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for client.Get(ctx, "bench").Err() == nil {
				gets.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(server.cpu()-before) / 1e3 / float64(gets.Load()), nil
}

// A measured is one line of a Go benchmark.
type measured struct{ ns, allocs float64 }

// goBench runs Go benchmarks of a package of this repository, and returns the
// medians of their lines by name.
func goBench(pkg, pattern string, rounds int) (map[string]measured, error) {
	cmd := exec.Command("go", "test", "-C", "..", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", "200ms", "-count", strconv.Itoa(rounds), pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test %s: %w: %s", pkg, err, lastLines(string(out), 4))
	}
	ns, allocs := map[string][]float64{}, map[string][]float64{}
	number := func(line, unit string) float64 {
		f := strings.Fields(line)
		for i := range f {
			if f[i] == unit && i > 0 {
				x, _ := strconv.ParseFloat(f[i-1], 64)
				return x
			}
		}
		return 0
	}
	for line := range strings.Lines(string(out)) {
		if m := regexp.MustCompile(`^(Benchmark\S+?)(-\d+)?\s`).FindStringSubmatch(line); m != nil {
			ns[m[1]] = append(ns[m[1]], number(line, "ns/op"))
			allocs[m[1]] = append(allocs[m[1]], number(line, "allocs/op"))
		}
	}
	results := map[string]measured{}
	for name := range ns {
		results[name] = measured{median(ns[name]), median(allocs[name])}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no benchmark of %s matches %s", pkg, pattern)
	}
	return results, nil
}

func nearCost(l *Lab, r *Report) error {
	m, err := goBench(".", "^(BenchmarkEmpty|BenchmarkNearHit)$", l.rounds)
	if err != nil {
		return err
	}
	empty := m["BenchmarkEmpty"]
	for _, name := range []string{"200", "304"} {
		hit := m["BenchmarkNearHit/"+name]
		us, allocs := (hit.ns-empty.ns)/1e3, hit.allocs-empty.allocs
		r.add(Row{Case: "CPU of a near hit (" + name + "), added", Ours: fmt.Sprintf("%.2f µs, %.0f allocations", hit.ns/1e3, hit.allocs),
			Against: "empty middleware", Theirs: fmt.Sprintf("%.2f µs, %.0f allocations", empty.ns/1e3, empty.allocs),
			Result: fmt.Sprintf("+ %.2f µs, + %.0f allocations", us, allocs), Goal: "≤ 1.5 µs, ≤ 3", Met: us <= 1.5 && allocs <= 3})
	}
	return nil
}
