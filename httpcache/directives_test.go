package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// RFC 9111, Sections 1.2.2, 4.2.1 and 5.2: numbers.
func TestMaxAgeArgument(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  int64
	}{
		{"plain", []string{"max-age=60"}, 60},
		{"upper case", []string{"MAX-AGE=60"}, 60},
		{"mixed case", []string{"Max-aGe=60"}, 60},
		{"quoted", []string{`max-age="60"`}, 60},
		{"escaped in quotes", []string{`max-age="6\0"`}, 60},
		{"leading zeros", []string{"max-age=00060"}, 60},
		{"zero", []string{"max-age=0"}, 0},
		{"absent", []string{"public"}, absent},
		{"negative", []string{"max-age=-1"}, 0},
		{"sign", []string{"max-age=+60"}, 0},
		{"not an integer", []string{"max-age=1.5"}, 0},
		{"letters after digits", []string{"max-age=60s"}, 0},
		{"single quotes", []string{"max-age='60'"}, 0},
		{"no argument", []string{"max-age"}, 0},
		{"empty argument", []string{"max-age="}, 0},
		{"space before =", []string{"max-age =60"}, 0},
		{"space after =", []string{"max-age= 60"}, 0},
		{"more after a space", []string{"max-age=60 70"}, 0},
		{"a quote that does not end", []string{`max-age="60`}, 0},
		{"2³¹−1", []string{"max-age=2147483647"}, 1<<31 - 1},
		{"2³¹", []string{"max-age=2147483648"}, 1 << 31},
		{"2³¹+1", []string{"max-age=2147483649"}, 1 << 31},
		{"beyond 64 bits", []string{"max-age=99999999999999999999999999"}, 1 << 31},
		{"the same twice", []string{"max-age=60, max-age=60"}, 60},
		{"conflict, smaller first", []string{"max-age=1, max-age=60"}, 1},
		{"conflict, larger first", []string{"max-age=60, max-age=1"}, 1},
		{"conflict over lines", []string{"max-age=60", "max-age=1"}, 1},
		{"one of two invalid", []string{"max-age=60, max-age=x"}, 0},
		{"second of a list", []string{"public, max-age=60"}, 60},
		{"second line", []string{"public", "max-age=60"}, 60},
		{"no space after comma", []string{"public,max-age=60,foo"}, 60},
		{"empty members", []string{", ,,max-age=60,,"}, 60},
		{"tabs", []string{"public,\tmax-age=60\t,foo"}, 60},
		{"inside quotes", []string{`foo="max-age=60"`}, absent},
		{"inside quotes with commas", []string{`foo="bar, max-age=60, baz"`}, absent},
		{"inside quotes after an escaped quote", []string{`foo="\", max-age=60, "`}, absent},
		{"inside quotes without a name", []string{`"max-age=60, public"`}, absent},
		{"after quotes", []string{`foo="bar, baz", max-age=60`}, 60},
		{"part of a name", []string{"x-max-age=60, max-age-x=60"}, absent},
		{"argument of another", []string{"foo=max-age=60"}, absent},
	} {
		equal(t, row.name, parseResponseDirectives(row.lines).maxAge, row.want)
	}
}

// RFC 9111, Section 5.2.2: directives without a number.
func TestResponseDirectives(t *testing.T) {
	noStore := func(d responseDirectives) bool { return d.noStore }
	noCache := func(d responseDirectives) bool { return d.noCache }
	private := func(d responseDirectives) bool { return d.private }
	public := func(d responseDirectives) bool { return d.public }
	for _, row := range []struct {
		line string
		is   func(responseDirectives) bool
		want bool
	}{
		{"no-store", noStore, true},
		{"NO-STORE", noStore, true},
		{"No-StOrE", noStore, true},
		{"public, no-store", noStore, true},
		{"no-store=1", noStore, true},
		{"no-store; max-age=60", noStore, true},
		{`foo="no-store"`, noStore, false},
		{`foo="a, no-store, b"`, noStore, false},
		{`"no-store"`, noStore, false},
		{`foo="a, no-store`, noStore, true}, // no end: nothing is hidden
		{`foo bar, no-store, baz="x"`, noStore, true},
		{"no-stored", noStore, false},
		{"x-no-store", noStore, false},
		{"no-cache", noCache, true},
		{`no-cache="X-Foo"`, noCache, false},
		{`no-cache=""`, noCache, true},
		{`no-cache=" , "`, noCache, true},
		{`no-cache="not a name"`, noCache, true},
		{`no-cache="X-Foo", no-cache`, noCache, true},
		{`no-cache="Vary"`, noCache, true},
		{"private", private, true},
		{`private="Set-Cookie, X-Foo"`, private, false},
		{"private=X-Foo", private, false},
		{`private="content-encoding"`, private, true},
		{`private="X-Foo`, private, true},
		{`private="X-Foo" foo`, private, true},
		{"public", public, true},
		{"public foo", public, false},
	} {
		equal(t, row.line, row.is(parseResponseDirectives([]string{row.line})), row.want)
	}
}

// RFC 9111, Sections 5.2.2.4 and 5.2.2.7: the qualified forms.
func TestQualifiedFields(t *testing.T) {
	d := parseResponseDirectives([]string{`private="set-cookie, x-foo", no-cache="X-BAR"`})
	want := []string{"Set-Cookie", "X-Foo", "X-Bar"}
	if !slices.Equal(d.fields, want) {
		t.Errorf("got fields %q, want %q", d.fields, want)
	}
}

// RFC 9111, Sections 5.2.1 and 5.4.
func TestParseRequestDirectives(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  RequestDirectives
	}{
		{"none", nil, RequestDirectives{}},
		{"no-store", []string{"Cache-Control: no-store"}, RequestDirectives{noStore: true}},
		{"no-cache", []string{"Cache-Control: No-Cache"}, RequestDirectives{noCache: true}},
		{"only-if-cached", []string{"Cache-Control: only-if-cached"}, RequestDirectives{onlyIfCached: true}},
		{"Pragma", []string{"Pragma: no-cache"}, RequestDirectives{noCache: true}},
		{"Pragma in a list", []string{"Pragma: foo, No-Cache"}, RequestDirectives{noCache: true}},
		{"another Pragma", []string{"Pragma: foo"}, RequestDirectives{}},
		{"Pragma beside Cache-Control", []string{"Pragma: no-cache", "Cache-Control: foo"}, RequestDirectives{}},
		{"max-age", []string{"Cache-Control: max-age=5"}, RequestDirectives{hasMaxAge: true, maxAge: 5}},
		{"smaller max-age", []string{"Cache-Control: max-age=5", "Cache-Control: max-age=3"}, RequestDirectives{hasMaxAge: true, maxAge: 3}},
		{"invalid max-age", []string{"Cache-Control: max-age=x"}, RequestDirectives{hasMaxAge: true}},
		{"min-fresh", []string{"Cache-Control: min-fresh=5"}, RequestDirectives{hasMinFresh: true, minFresh: 5}},
		{"larger min-fresh", []string{"Cache-Control: min-fresh=5, min-fresh=7"}, RequestDirectives{hasMinFresh: true, minFresh: 7}},
		{"invalid min-fresh", []string{"Cache-Control: min-fresh=x"}, RequestDirectives{}},
		{"smaller max-stale", []string{"Cache-Control: max-stale=5, max-stale"}, RequestDirectives{hasMaxStale: true, maxStale: 5}},
		{"invalid stale-if-error", []string{"Cache-Control: stale-if-error=x"}, RequestDirectives{}},
		{"max-stale", []string{"Cache-Control: max-stale=5"}, RequestDirectives{hasMaxStale: true, maxStale: 5}},
		{"any max-stale", []string{"Cache-Control: max-stale"}, RequestDirectives{hasMaxStale: true, maxStale: maxDelta}},
		{"invalid max-stale", []string{"Cache-Control: max-stale=x"}, RequestDirectives{}},
		{"stale-if-error", []string{"Cache-Control: stale-if-error=9"}, RequestDirectives{hasStaleIfError: true, staleIfError: 9}},
	} {
		equal(t, row.name, ParseRequestDirectives(header(row.lines...)), row.want)
	}
	d := ParseRequestDirectives(header("Cache-Control: no-store, no-cache, only-if-cached"))
	equal(t, "NoStore", d.NoStore(), true)
	equal(t, "NoCache", d.NoCache(), true)
	equal(t, "OnlyIfCached", d.OnlyIfCached(), true)
	equal(t, "obeyed", (&Policy{}).RequestDirectives(header("Cache-Control: no-cache")), RequestDirectives{noCache: true})
	safe := Safe()
	equal(t, "ignored", safe.RequestDirectives(header("Cache-Control: no-cache")), RequestDirectives{})
}

func TestParseRequestDirectivesAllocatesNothing(t *testing.T) {
	for _, h := range []http.Header{header("Accept: */*"), header("Cache-Control: max-age=0, no-cache"), header("Pragma: no-cache")} {
		if n := testing.AllocsPerRun(100, func() { ParseRequestDirectives(h) }); n != 0 {
			t.Errorf("%v: got %v allocations, want none", h, n)
		}
	}
}

func TestParseDeltaOfManyDigits(t *testing.T) {
	got, ok := parseDelta(strings.Repeat("9", 1<<20))
	if got != maxDelta || !ok {
		t.Errorf("got %d, %t, want %d", got, ok, maxDelta)
	}
}

// RFC 9110, Section 5.6.2.
func TestIsToken(t *testing.T) {
	const want = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for c := range 256 {
		s := string([]byte{byte(c)})
		if got := isToken(s); got != strings.Contains(want, s) {
			t.Errorf("%q: got %t", s, got)
		}
	}
	equal(t, "nothing", isToken(""), false)
}
