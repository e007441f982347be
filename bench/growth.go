package main

import (
	"fmt"
	"strings"
)

// growthCases show how the cost of an operation grows with what there is.
func growthCases() []Case {
	return []Case{
		{"growth entries", func(l *Lab, r *Report) error {
			return grows(l, r, "near cache: a lookup", "./near", "BenchmarkEntries", "entries", []string{"1k", "10k", "100k", "1M"})
		}},
		{"growth nodes", func(l *Lab, r *Report) error {
			return grows(l, r, "picking a node", "./shard", "BenchmarkNodes", "nodes", []string{"1", "3", "8", "16", "64"})
		}},
		{"growth tags", func(l *Lab, r *Report) error {
			if err := grows(l, r, "near hit, by tags", ".", "BenchmarkTags/hit", "tags", []string{"0", "8", "64"}); err != nil {
				return err
			}
			return grows(l, r, "the same after an invalidation", ".", "BenchmarkTags/judged", "tags", []string{"0", "8", "64"})
		}},
	}
}

// grows adds a row with the time of a benchmark at each size.
func grows(l *Lab, r *Report, what, pkg, name, unit string, sizes []string) error {
	pattern := "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	m, err := l.goBench(pkg, pattern)
	if err != nil {
		return err
	}
	g := Growth{What: what, Unit: unit}
	for _, size := range sizes {
		got := m[name+"/"+unit+"="+size]
		if len(got) == 0 {
			return fmt.Errorf("no benchmark %s/%s=%s", name, unit, size)
		}
		g.Sizes, g.Ns = append(g.Sizes, size), append(g.Ns, medianOf(got).ns)
	}
	r.growth = append(r.growth, g)
	return nil
}
