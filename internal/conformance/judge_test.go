package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// An exchange is one step of a row as it went.
type exchange struct {
	row       *row
	script    *script
	path      string
	authority string

	step     *step
	before   int // how many requests the origin had got before
	got      reply
	received []received // what the origin got
}

// A check says what is wrong with an exchange, or "".
type check func(x *exchange) string

// filled returns the step with the row's path in its fields.
func (s *step) filled(path string) *step {
	out := *s
	out.fields = slices.Clone(s.fields)
	for i, f := range out.fields {
		out.fields[i] = strings.ReplaceAll(f, "{path}", path)
	}
	return &out
}

// waitFor waits until the origin was asked n times in all, as long as it may
// take an answer to come out and a validation to begin.
func (x *exchange) waitFor(n int) {
	for end := time.Now().Add(3 * time.Second); len(x.script.since(0)) < n && x.step.later > 0 && time.Now().Before(end); {
		pause(5 * time.Millisecond)
	}
	if x.step.later > 0 {
		pause(150 * time.Millisecond) // the answer comes, and is stored
	}
}

// stores reports whether the exchange says that it wrote something.
func (x *exchange) stores() bool {
	return x.step.later > 0 || strings.Contains(strings.Join(x.got.header["Cache-Status"], ","), "stored")
}

// judge compares what happened with what is expected.
func (x *exchange) judge() (problems []string) {
	s := x.step
	note := func(problem string) {
		if problem != "" {
			problems = append(problems, problem)
		}
	}
	if n := s.asked + s.later; len(x.received) != n {
		note(fmt.Sprintf("the origin was asked %d times, want %d", len(x.received), n))
	}
	if s.broken {
		if x.got.err == nil && x.got.status < 500 {
			note("the answer is whole, want it to break off")
		}
		return problems
	}
	if x.got.err != nil {
		return append(problems, "no whole answer: "+x.got.err.Error())
	}
	note(x.judgeStatus())
	note(x.judgeBody())
	note(x.judgeCacheStatus())
	for _, c := range s.checks {
		note(c(x))
	}
	return problems
}

// answer returns the answer that the step is to be served, and its number.
func (x *exchange) answer() (a answer, n int) {
	n = x.step.from
	if n <= 0 {
		n = max(1, x.before+x.step.asked)
	}
	if len(x.row.answers) == 0 {
		return answer{}, n
	}
	return x.row.answers[min(n, len(x.row.answers))-1], n
}

func (x *exchange) judgeStatus() string {
	want := x.step.code
	if a, _ := x.answer(); want == 0 {
		want = a.code()
	}
	if x.got.status != want {
		return fmt.Sprintf("got status %d, want %d", x.got.status, want)
	}
	return ""
}

func (x *exchange) judgeBody() string {
	a, n := x.answer()
	want := a.text(n)
	switch {
	case x.step.method == http.MethodHead || !mayHaveBody(x.got.status):
		want = ""
	case x.step.from < 0:
		return ""
	}
	if x.got.body != want {
		return fmt.Sprintf("got body %s, want %s", short(x.got.body), short(want))
	}
	return ""
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%.60q… (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}

// judgeCacheStatus holds for every answer: the field is a List, this cache is
// its last member, and a hit is what was not forwarded. RFC 9211, Section 2.
func (x *exchange) judgeCacheStatus() string {
	m, err := member(x.got.header)
	if err != nil {
		return err.Error()
	}
	hit, _ := m.Params.Get("hit")
	if hit != nil && x.step.asked > 0 && x.got.status < 500 && !x.step.replaces() {
		return "Cache-Status says hit, but the origin was asked"
	}
	// What is still coming in for another request is shared before it is stored.
	collapsed, _ := m.Params.Get("collapsed")
	if hit == nil && collapsed == nil && x.step.asked == 0 && x.got.status != http.StatusGatewayTimeout {
		return "Cache-Status says no hit, but the origin was not asked"
	}
	return ""
}

// replaces reports whether the step expects an answer in place of a failure.
func (s *step) replaces() bool { return s.from > 0 || s.code == http.StatusNotModified }

// member returns this cache's member of Cache-Status.
func member(h http.Header) (httpsfv.Item, error) {
	list, err := httpsfv.UnmarshalList(h["Cache-Status"])
	if err != nil || len(list) == 0 {
		return httpsfv.Item{}, fmt.Errorf("Cache-Status %q is no list of caches: %v", h["Cache-Status"], err)
	}
	m, ok := list[len(list)-1].(httpsfv.Item)
	if !ok || m.Value != httpsfv.Token("fluster") {
		return m, fmt.Errorf("the last member of Cache-Status %q is not fluster", h["Cache-Status"])
	}
	return m, nil
}

// report tells of a failed step.
func (x *exchange) report(problems []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s\n", x.step.method, x.path, x.step.suffix)
	for name, value := range pairs(x.step.fields) {
		fmt.Fprintf(&b, "  %s: %s\n", name, value)
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "PROBLEM: %s\n", p)
	}
	fmt.Fprintf(&b, "answer: %d %s err=%v\n%s", x.got.status, short(x.got.body), x.got.err, shown(x.got.header))
	for i, r := range x.received {
		fmt.Fprintf(&b, "the origin got, %d: %s %s\n%s", x.before+i+1, r.method, r.uri, shown(r.header))
	}
	return b.String()
}

func shown(h http.Header) string {
	var b strings.Builder
	names := make([]string, 0, len(h))
	for name := range h {
		if !strings.HasPrefix(name, "X-Forwarded-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), 40)] {
		fmt.Fprintf(&b, "  %s: %s\n", name, short(strings.Join(h[name], " | ")))
	}
	return b.String()
}
