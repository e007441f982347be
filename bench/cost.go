package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// costCases are what an operation costs, by the benchmarks beside the code.
func costCases() []Case { return []Case{{"cost of a near hit", nearCost}} }

// A measured is what a Go benchmark says of one operation.
type measured struct{ ns, allocs float64 }

// goBench runs Go benchmarks of a package of this repository in rounds, all of
// them in each, and returns what each round said, by their names.
func (l *Lab) goBench(pkg, pattern string) (map[string][]measured, error) {
	binary := filepath.Join(l.dir, "bench.test")
	if out, err := exec.Command("go", "test", "-C", "..", "-c", "-o", binary, pkg).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c %s: %w: %s", pkg, err, lastLines(string(out), 4))
	}
	results := map[string][]measured{}
	for range l.rounds {
		cmd := exec.Command(binary, "-test.run", "^$", "-test.bench", pattern, "-test.benchmem", "-test.benchtime", "100ms")
		cmd.Dir = filepath.Join("..", pkg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("benchmarks of %s: %w: %s", pkg, err, lastLines(string(out), 4))
		}
		for line := range strings.Lines(string(out)) {
			if m := benchLine.FindStringSubmatch(line); m != nil {
				results[m[1]] = append(results[m[1]], measured{numberBefore(line, "ns/op"), numberBefore(line, "allocs/op")})
			}
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no benchmark of %s matches %s", pkg, pattern)
	}
	return results, nil
}

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(-\d+)?\s`)

// numberBefore returns the number before a unit in a line.
func numberBefore(line, unit string) float64 {
	f := strings.Fields(line)
	for i := 1; i < len(f); i++ {
		if f[i] == unit {
			x, _ := strconv.ParseFloat(f[i-1], 64)
			return x
		}
	}
	return 0
}

// medianOf returns the medians of rounds.
func medianOf(rounds []measured) measured {
	var ns, allocs []float64
	for _, m := range rounds {
		ns, allocs = append(ns, m.ns), append(allocs, m.allocs)
	}
	return measured{median(ns), median(allocs)}
}

// nearCost compares a near hit with a handler that only writes, in the same
// rounds.
func nearCost(l *Lab, r *Report) error {
	m, err := l.goBench(".", "^(BenchmarkEmpty|BenchmarkNearHit)$")
	if err != nil {
		return err
	}
	for _, name := range []string{"200", "304"} {
		hits, empties := m["BenchmarkNearHit/"+name], m["BenchmarkEmpty"]
		if len(hits) != len(empties) {
			return fmt.Errorf("%d rounds of one benchmark and %d of the other", len(hits), len(empties))
		}
		var added []measured
		for i := range hits {
			added = append(added, measured{hits[i].ns - empties[i].ns, hits[i].allocs - empties[i].allocs})
		}
		hit, empty, more := medianOf(hits), medianOf(empties), medianOf(added)
		r.add(Row{Case: "CPU of a near hit (" + name + "), added", Ours: fmt.Sprintf("%.2f µs, %.0f allocations", hit.ns/1e3, hit.allocs),
			Against: "empty middleware", Theirs: fmt.Sprintf("%.2f µs, %.0f allocations", empty.ns/1e3, empty.allocs),
			Result: fmt.Sprintf("%+.2f µs, %+.0f allocations", more.ns/1e3, more.allocs), Goal: "≤ 1.5 µs, ≤ 3", Met: more.ns <= 1500 && more.allocs <= 3})
	}
	return nil
}
