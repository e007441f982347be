package httpcache

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newRand returns a source of chance, and logs its seed; HTTPCACHE_SEED repeats a run.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HTTPCACHE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HTTPCACHE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// ReuseFor never says fresh where freshness_lifetime > current_age does not hold, by the formulas of RFC 9111,
// Sections 4.2.1 and 4.2.3, computed here once more from the chosen numbers; nor serves what is forbidden to be served
// stale.
func TestReuseIsNeverFresherThanTheResponse(t *testing.T) {
	rnd := newRand(t)
	chance := func(n int) bool { return rnd.IntN(n) == 0 }
	for range 20000 {
		var control []string
		lifetime, explicit := 0, false
		h := http.Header{}
		date := 0 // seconds after epoch
		apparent, age := 0, 0
		if chance(2) {
			date = rnd.IntN(41) - 20
			h.Set("Date", at(date))
			apparent = max(0, -date)
		}
		if chance(2) {
			lifetime, explicit = rnd.IntN(60), true
			h.Set("Expires", at(date+lifetime))
		}
		if chance(2) {
			lifetime, explicit = rnd.IntN(60), true
			control = append(control, fmt.Sprintf("max-age=%d", lifetime))
		}
		shared := chance(4)
		if shared {
			lifetime, explicit = rnd.IntN(60), true
			control = append(control, fmt.Sprintf("s-maxage=%d", lifetime))
		}
		if chance(3) {
			age = rnd.IntN(30)
			h.Set("Age", strconv.Itoa(age))
		}
		if !explicit {
			since := rnd.IntN(600)
			h.Set("Last-Modified", at(date-since))
			lifetime = since / heuristicFraction // at most: the tenth has a fraction
			if since%heuristicFraction != 0 {
				lifetime++
			}
		}
		swr := 0
		if chance(3) {
			swr = rnd.IntN(20)
			control = append(control, fmt.Sprintf("stale-while-revalidate=%d", swr))
		}
		forbidden := false
		for _, directive := range []string{"must-revalidate", "proxy-revalidate", "no-cache"} {
			if chance(6) {
				forbidden = true
				control = append(control, directive)
			}
		}
		rnd.Shuffle(len(control), func(i, j int) { control[i], control[j] = control[j], control[i] })
		h.Set("Cache-Control", strings.Join(control, ", "))
		h.Set("ETag", `"x"`)

		delay := time.Duration(rnd.IntN(3000)) * time.Millisecond
		p := Policy{}
		v := p.MayStore(get(), http.StatusOK, h, Times{epoch.Add(-delay), epoch})
		if !v.Store {
			t.Fatalf("%v: not stored: %s", h, v.Detail)
		}
		after := time.Duration(rnd.IntN(90000)) * time.Millisecond
		current := max(time.Duration(apparent)*time.Second, time.Duration(age)*time.Second+delay) + after
		stale := current - time.Duration(lifetime)*time.Second

		r := p.ReuseFor(RequestDirectives{}, &v.Terms, epoch.Add(after))
		bad := false
		switch r.Use {
		case UseFresh:
			bad = stale >= 0 || strings.Contains(h.Get("Cache-Control"), "no-cache")
		case UseStale:
			bad = true // nobody asked for it
		case UseStaleRevalidate:
			bad = forbidden || stale >= time.Duration(swr)*time.Second
		case UseValidate:
			bad = r.IfError && (forbidden || shared && stale >= time.Duration(swr)*time.Second)
		}
		if bad {
			t.Fatalf("%v, delay %v, after %v: got %+v, stale by %v", h, delay, after, r, stale)
		}
	}
}

// What is quoted, and never closed, is looked for once, however often it begins: a few kB of a request would else take
// seconds, and this hours.
func TestQuotesThatAreNeverClosed(t *testing.T) {
	for _, unit := range []string{`"\`, `\"`, `"\,`, `a="\,`} {
		line := `x,` + strings.Repeat(unit, 1<<20)
		ParseRequestDirectives(http.Header{"Cache-Control": {line}})
		parseResponseDirectives([]string{line})
		NominatedValue("Foo", http.Header{"Foo": {line}})
		listsETag([]string{line}, entityTag{opaque: `"x"`})
	}
	d := parseResponseDirectives([]string{`a="\", no-store`, `b="c", private="d`, `max-age="5"`})
	if !d.noStore || !d.private || d.maxAge != 5 {
		t.Errorf("got %+v, want each line read by itself", d)
	}
}

// No parser allocates more than in proportion to its input.
func TestParsersAllocateInProportion(t *testing.T) {
	canonical := ParseNoVarySearch(header("No-Vary-Search: key-order"))
	parsers := map[string]func(s string){
		"date":          func(s string) { ParseDate(s, epoch) },
		"directives":    func(s string) { parseResponseDirectives([]string{s}) },
		"request":       func(s string) { ParseRequestDirectives(http.Header{"Cache-Control": {s}}) },
		"targeted":      func(s string) { parseTargeted([]string{s}) },
		"age":           func(s string) { parseAge(http.Header{"Age": {s}}) },
		"entity tags":   func(s string) { listsETag([]string{s}, entityTag{opaque: `"x"`}) },
		"ranges":        func(s string) { SelectRanges(http.MethodGet, http.Header{"Range": {s}}, nil, 1<<40) },
		"content range": func(s string) { ParseContentRange(s) },
		"vary":          func(s string) { nominated(http.Header{"Vary": {s}}) },
		"list":          func(s string) { NominatedValue("Foo", http.Header{"Foo": {s}}) },
		"codings":       func(s string) { NominatedValue("Accept-Encoding", http.Header{"Accept-Encoding": {s}}) },
		"language":      func(s string) { LanguageSelected(s, "en") },
		"connection":    func(s string) { EndToEnd(http.Header{"Connection": {s}}) },
		"tags":          func(s string) { Tags(http.Header{"Foo": {s}}, []string{"Foo"}) },
		"groups":        func(s string) { readGroups([]string{s}) },
		"variance":      func(s string) { ParseNoVarySearch(http.Header{"No-Vary-Search": {s}}) },
		"query":         func(s string) { canonical.Canonical(s) },
	}
	inputs := map[string]string{
		"commas":    ",",
		"members":   "a,",
		"pairs":     "a=1&",
		"quotes":    `"`,
		"escapes":   `\"`,
		"strings":   `"a",`,
		"qualified": `private="a,`,
		"ranges":    "bytes=0-0,",
		"weights":   "en;q=0.5,",
		"bytes":     "\xff%ff+",
		"lists":     "(",
		"digits":    "9",
	}
	const size, perByte = 1 << 16, 512
	for parser, parse := range parsers {
		for input, s := range inputs {
			s = strings.Repeat(s, size/len(s))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			parse(s)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > perByte*size {
				t.Errorf("%s of %s: got %d bytes for %d", parser, input, n, size)
			}
		}
	}
}
