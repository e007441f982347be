package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A Side is one of two that are compared: what it is asked, and the servers
// whose CPU time counts.
type Side struct {
	Name    string
	Load    Load
	Servers []*Process
	Measure func(time.Duration) (Run, error) // instead of Load, for what wrk cannot ask
	After   func() error                     // what is to be done behind each run; nil: nothing
}

// measure is one run.
func (s Side) measure(l *Lab, length time.Duration) (r Run, err error) {
	if s.Measure != nil {
		r, err = s.Measure(length)
	} else {
		r, err = l.run(s.Load, length, s.Servers)
	}
	if err == nil && s.After != nil {
		err = s.After()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s.Name, err)
	}
	return r, err
}

// A Comparison is what both sides gave, by medians over the rounds.
type Comparison struct {
	Ours, Theirs Run
	Ratio        float64 // of requests a second, ours by theirs
	Low, High    float64 // the least and the greatest ratio of a round
}

// compare lets two sides run in turns.
func (l *Lab) compare(ours, theirs Side) (Comparison, error) {
	var a, b []Run
	var ratios []float64
	for _, s := range []Side{ours, theirs} { // what is to be stored is stored, and the connections are warm
		if _, err := s.measure(l, time.Second); err != nil {
			return Comparison{}, err
		}
	}
	for round := range l.rounds {
		sides := []Side{ours, theirs}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, s := range sides {
			r, err := s.measure(l, l.length)
			if err != nil {
				return Comparison{}, err
			}
			if s.Name == ours.Name {
				a = append(a, r)
			} else {
				b = append(b, r)
			}
		}
		ratios = append(ratios, a[round].PerSecond/b[round].PerSecond)
	}
	return Comparison{Ours: medianRun(a), Theirs: medianRun(b), Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios)}, nil
}

// medianRun is the median of each figure.
func medianRun(runs []Run) Run {
	pick := func(f func(Run) float64) float64 {
		var all []float64
		for _, r := range runs {
			all = append(all, f(r))
		}
		return median(all)
	}
	m := Run{
		Requests:  int(pick(func(r Run) float64 { return float64(r.Requests) })),
		PerSecond: pick(func(r Run) float64 { return r.PerSecond }),
		CPU:       pick(func(r Run) float64 { return r.CPU }),
		Load:      pick(func(r Run) float64 { return r.Load }),
	}
	for i := range runs[0].Latency {
		m.Latency = append(m.Latency, time.Duration(pick(func(r Run) float64 { return float64(r.Latency[i]) })))
	}
	return m
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
