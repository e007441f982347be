package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what was found, of the cache or of the queue. Each has its place in
// the page.
type Report struct {
	lab      *Lab
	what     string // cache or queue
	rows     []Row
	skipped  []string
	growth   []Growth
	compared []compared
}

// A Row is one line of the table.
type Row struct {
	Case, Ours, Against, Theirs, Result, Goal string
	Met                                       bool
}

// A Growth is the time of one operation at several sizes.
type Growth struct {
	What, Unit string
	Sizes      []string
	Ns         []float64
}

// compared is a comparison for the plots.
type compared struct {
	name         string
	ours, theirs Side
	Comparison
}

func newReport(l *Lab, what string) *Report { return &Report{lab: l, what: what} }

// isEmpty reports whether nothing was to be measured.
func (r *Report) isEmpty() bool {
	return len(r.rows)+len(r.skipped)+len(r.growth) == 0
}

func (r *Report) add(row Row) { r.rows = append(r.rows, row) }

// addRatio adds a comparison of throughput; a goal of 0 is none.
func (r *Report) addRatio(name string, ours, theirs Side, c Comparison, goal float64) {
	row := Row{
		Case: name, Against: theirs.Name,
		Ours:   fmt.Sprintf("%.0f/s, %.1f µs", c.Ours.PerSecond, c.Ours.CPU),
		Theirs: fmt.Sprintf("%.0f/s, %.1f µs", c.Theirs.PerSecond, c.Theirs.CPU),
		Result: fmt.Sprintf("%.2f × (%.2f–%.2f)", c.Ratio, c.Low, c.High),
		Goal:   "—", Met: true,
	}
	if goal > 0 {
		row.Goal, row.Met = fmt.Sprintf("≥ %.2f ×", goal), c.Ratio >= goal-0.005 // as it is printed
	}
	r.add(row)
	if r.what == "cache" { // the plots are of it alone
		r.compared = append(r.compared, compared{name, ours, theirs, c})
	}
	fmt.Fprintf(os.Stderr, "  %s against %s: %s\n", name, theirs.Name, row.Result)
}

// skip notes a case that could not be measured.
func (r *Report) skip(name string, err error) {
	r.skipped = append(r.skipped, fmt.Sprintf("%s: not measured: %s", name, strings.ReplaceAll(err.Error(), r.lab.dir, "")))
	fmt.Fprintf(os.Stderr, "  not measured: %v\n", err)
}

func met(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

// print prints the table for people.
func (r *Report) print(w io.Writer) {
	fmt.Fprintln(w, machine())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tours\tagainst\ttheirs\tresult\tgoal\tmet")
	for _, row := range r.rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Case, row.Ours, row.Against, row.Theirs, row.Result, row.Goal, met(row.Met))
	}
	for _, g := range r.growth {
		fmt.Fprintf(t, "%s\t", g.What)
		for i := range g.Sizes {
			fmt.Fprintf(t, "%s %s: %.0f ns  ", g.Sizes[i], g.Unit, g.Ns[i])
		}
		fmt.Fprintln(t)
	}
	t.Flush() //nolint:errcheck // standard output
	for _, s := range r.skipped {
		fmt.Fprintln(w, s)
	}
}

// marks are the lines of the page between which the results are.
func (r *Report) marks() (begin, end string) {
	return "<!-- the " + r.what + ": from here on written by make bench -->", "<!-- the " + r.what + ": to here written by make bench -->"
}

// write writes the results between the marks of a page, and the plots beside it.
func (r *Report) write(page string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	beginMark, endMark := r.marks()
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has not the lines %q and %q", page, beginMark, endMark)
	}
	plots, err := r.plot(filepath.Join(filepath.Dir(page), "performance"))
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(before+beginMark+"\n"+r.markdown(plots)+endMark+after), 0o644) //nolint:gosec // a page of the documentation
}

func (r *Report) markdown(plots []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMeasured on %s, on %s: medians of %d rounds of %v, with %d connections.%s\n\n",
		time.Now().UTC().Format(time.DateOnly), machine(), r.lab.rounds, r.lab.length, connections, r.lab.othersAtWork())
	b.WriteString("| case | ours | against | theirs | result | goal | met |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", row.Case, row.Ours, row.Against, row.Theirs, row.Result, row.Goal, met(row.Met))
	}
	if len(r.skipped) > 0 {
		b.WriteString("\n")
	}
	for _, s := range r.skipped {
		fmt.Fprintf(&b, "- %s\n", s)
	}
	for _, p := range plots {
		fmt.Fprintf(&b, "\n![%s](performance/%s)\n", strings.TrimSuffix(p, ".svg"), p)
	}
	if len(r.growth) > 0 {
		b.WriteString("\n### How cost grows\n\n| what | at each size |\n|---|---|\n")
	}
	for _, g := range r.growth {
		fmt.Fprintf(&b, "| %s |", g.What)
		for i := range g.Sizes {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s %s: %.0f ns", g.Sizes[i], g.Unit, g.Ns[i])
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\n")
	return b.String()
}
