package httpcache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// RFC 9111, Section 4.1: the order and case of names and the lines they stand on do not count.
func TestNominated(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"empty", []string{"Vary:"}, nil},
		{"one", []string{"Vary: Foo"}, []string{"foo"}},
		{"several", []string{"Vary: foo, Bar,,baz ,"}, []string{"bar", "baz", "foo"}},
		{"lines", []string{"Vary: Foo", "Vary: bar"}, []string{"bar", "foo"}},
		{"twice", []string{"Vary: Foo, foo", "Vary: FOO"}, []string{"foo"}},
	} {
		v := store(Policy{}, append(row.lines, "Cache-Control: max-age=60")...)
		if !v.Store || !slices.Equal(v.Nominated, row.want) {
			t.Errorf("%s: got %t, %q, want %q", row.name, v.Store, v.Nominated, row.want)
		}
	}
}

// What varies by who asks is for nobody else: proxies tell it to the origin behind the cache.
func TestVaryByAddress(t *testing.T) {
	if v := store(Policy{}, "Vary: foo, x-forwarded-FOR", "Cache-Control: max-age=60"); v.Store || v.Detail != "vary" {
		t.Errorf("got %t, %q, want it not stored for its vary", v.Store, v.Detail)
	}
}

// RFC 9111, Section 4.1.
func TestNominatedValue(t *testing.T) {
	for _, row := range []struct {
		name, field string
		a, b        []string
		match       bool
	}{
		{"same", "foo", []string{"Foo: 1"}, []string{"foo: 1"}, true},
		{"another value", "foo", []string{"Foo: 1"}, []string{"Foo: 2"}, false},
		{"both absent", "foo", nil, nil, true},
		{"one absent", "foo", []string{"Foo: 1"}, nil, false},
		{"one empty", "foo", []string{"Foo:"}, nil, false},
		{"space after comma", "foo", []string{"Foo: 1,2"}, []string{"Foo: 1, 2"}, true},
		{"space around comma", "foo", []string{"Foo: 1 ,\t2 "}, []string{"Foo: 1,2"}, true},
		{"lines combined", "foo", []string{"Foo: 1", "Foo: 2"}, []string{"Foo: 1, 2"}, true},
		{"order", "foo", []string{"Foo: 1, 2"}, []string{"Foo: 2, 1"}, false},
		{"case", "foo", []string{"Foo: a"}, []string{"Foo: A"}, false},
		{"space inside", "foo", []string{"Foo: a b"}, []string{"Foo: ab"}, false},
		{"spaces in quotes", "foo", []string{`Foo: "a,b"`}, []string{`Foo: "a, b"`}, false},
		{"a value is not its parts", "foo", []string{"Foo: 1"}, []string{"Foo: 1, 2"}, false},
		{"comma behind", "foo", []string{"Foo: a,"}, []string{"Foo: a"}, false},
		{"comma before", "foo", []string{"Foo: , a"}, []string{"Foo: a"}, false},
		{"commas between", "foo", []string{"Foo: a,,b"}, []string{"Foo: a, b"}, false},
		{"nothing but a comma", "foo", []string{"Foo: ,"}, []string{"Foo:"}, false},
		{"an empty line", "foo", []string{"Foo: a", "Foo:"}, []string{"Foo: a"}, false},
		{"comma in User-Agent", "user-agent", []string{"User-Agent: (a,b)"}, []string{"User-Agent: (a, b)"}, false},
		{"split Cookie", "cookie", []string{"Cookie: a=1", "Cookie: b=2"}, []string{"Cookie: a=1; b=2"}, true},

		{"codings in any order", "accept-encoding", []string{"Accept-Encoding: gzip, br"}, []string{"Accept-Encoding: BR,gzip"}, true},
		{"codings over lines", "accept-encoding", []string{"Accept-Encoding: gzip", "Accept-Encoding: br"}, []string{"Accept-Encoding: br, gzip"}, true},
		{"codings with weights", "accept-encoding", []string{"Accept-Encoding: gzip;q=1.0, br;q=0.50"}, []string{"Accept-Encoding: br ; Q=0.5, gzip"}, true},
		{"coding twice", "accept-encoding", []string{"Accept-Encoding: gzip, gzip"}, []string{"Accept-Encoding: gzip"}, true},
		{"other weights", "accept-encoding", []string{"Accept-Encoding: gzip, br;q=0.5"}, []string{"Accept-Encoding: gzip, br;q=0.4"}, false},
		{"weights of others", "accept-encoding", []string{"Accept-Encoding: gzip, br;q=0.5"}, []string{"Accept-Encoding: gzip;q=0.5, br"}, false},
		{"refused", "accept-encoding", []string{"Accept-Encoding: gzip, br;q=0"}, []string{"Accept-Encoding: gzip, br"}, false},
		{"one less", "accept-encoding", []string{"Accept-Encoding: gzip, br"}, []string{"Accept-Encoding: gzip"}, false},
		{"none at all", "accept-encoding", []string{"Accept-Encoding:"}, nil, false},
		{"no weight", "accept-encoding", []string{"Accept-Encoding: gzip;q=2"}, []string{"Accept-Encoding: gzip"}, false},

		{"languages by case", "accept-language", []string{"Accept-Language: en-GB"}, []string{"Accept-Language: EN-gb"}, true},
		{"languages by weight", "accept-language", []string{"Accept-Language: de;q=0.5, en"}, []string{"Accept-Language: en,de;q=0.5"}, true},
		{"languages of one weight", "accept-language", []string{"Accept-Language: de, en"}, []string{"Accept-Language: en, de"}, false},
		{"languages and spaces", "accept-language", []string{"Accept-Language: en , de ; q=0.5"}, []string{"Accept-Language: en,de;q=0.500"}, true},
	} {
		a, b := NominatedValue(row.field, header(row.a...)), NominatedValue(row.field, header(row.b...))
		if (a == b) != row.match {
			t.Errorf("%s: got %q and %q, want match %t", row.name, a, b, row.match)
		}
	}
}

func TestNominatedValueForm(t *testing.T) {
	for _, row := range []struct{ field, value, want string }{
		{"Foo", "a", "a"},
		{"Foo", ",a", ", a"},
		{"Foo", "a,b ,, c", "a, b, , c"},
		{"Accept-Encoding", "GZIP", "gzip"},
		{"Accept-Encoding", "gzip;q=0.50", "gzip;q=0.5"},
		{"Accept-Language", "de;q=0.1, en", "en, de;q=0.1"},
	} {
		equal(t, row.value, NominatedValue(row.field, header(row.field+": "+row.value)), row.want)
	}
}

func TestVaryOfManyNames(t *testing.T) {
	var list []string
	for i := range maxNominated {
		list = append(list, fmt.Sprintf("foo-%d", i))
	}
	_, ok := nominated(header("Vary: " + strings.Join(list, ",")))
	equal(t, "as many as may be", ok, true)
	_, ok = nominated(header("Vary: bar," + strings.Join(list, ",")))
	equal(t, "one more", ok, false)
}

// RFC 9110, Section 12.4.2.
func TestParseWeight(t *testing.T) {
	for _, row := range []struct {
		s    string
		want int // −1: invalid
	}{
		{"q=0", 0}, {"q=1", 1000}, {"q=0.", 0}, {"q=1.", 1000}, {"q=0.5", 500}, {"q=0.05", 50}, {"q=0.123", 123},
		{"q=1.0", 1000}, {"q=1.000", 1000}, {"q=0.9", 900}, {"q=0.0", 0},
		{"q=1.001", -1}, {"q=0.1234", -1}, {"q=2", -1}, {"q=.5", -1}, {"q=", -1}, {"q=-1", -1}, {"q=0,5", -1}, {"q=0.a", -1},
		{"q=0.5a", -1}, {"q=05", -1}, {"q=0/5", -1}, {"q=0.:", -1}, {"p=1", -1}, {"", -1}, {"1", -1},
	} {
		got, ok := parseWeight(row.s)
		if ok != (row.want >= 0) || ok && got != row.want {
			t.Errorf("%q: got %d, %t, want %d", row.s, got, ok, row.want)
		}
	}
}

// RFC 9110, Section 12.5.4; RFC 4647, Section 3.3.1.
func TestLanguageSelected(t *testing.T) {
	for _, row := range []struct {
		accept, content string
		want            bool
	}{
		{"de", "de", true},
		{"de", "DE", true},
		{"de", "en", false},
		{"de", "", false},
		{"", "de", false},
		{"*", "de", false},
		{"de, *;q=0.5", "de", true},
		{"en;q=0.5, de", "de", true},
		{"en;q=0.5, de", "en", false},
		{"en, de", "en", true},
		{"en, de", "de", false},
		{"en;q=0.8, de;q=0.9, fr;q=0.1", "de", true},
		{"en", "en-GB", true},
		{"en-GB", "en", false},
		{"e", "en", false},
		{"en, en-GB;q=0.5", "en-GB", false},
		{"en;q=0.5, en-GB", "en-GB", true},
		{"en-GB, en;q=0.9", "en-US", false},
		{"de;q=0", "de", false},
		{"de", "de, en", false},
		{"de" + strings.Repeat(", x;q=0.1", 30), "de", true},
		{"de" + strings.Repeat(", x;q=0.1", 1000), "de", false}, // nobody's; it takes long to read
	} {
		if got := LanguageSelected(row.accept, row.content); got != row.want {
			t.Errorf("%q, %q: got %t, want %t", row.accept, row.content, got, row.want)
		}
	}
}

func BenchmarkNominatedValue(b *testing.B) {
	for _, row := range []struct{ name, field, line string }{
		{"codings", "accept-encoding", "Accept-Encoding: gzip, deflate, br, zstd"},
		{"languages", "accept-language", "Accept-Language: en-GB,en;q=0.9,de;q=0.8"},
		{"another", "x-requested-with", "X-Requested-With: XMLHttpRequest"},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			h := header(row.line)
			for b.Loop() {
				NominatedValue(row.field, h)
			}
		})
	}
}
