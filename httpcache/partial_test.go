package httpcache

import (
	"slices"
	"testing"
)

// RFC 9110, Section 14.4.
func TestParseContentRange(t *testing.T) {
	for _, row := range []struct {
		value string
		want  ContentRange
		ok    bool
	}{
		{"bytes 0-9/100", ContentRange{Range{0, 10}, 100}, true},
		{"bytes 0-9/*", ContentRange{Range{0, 10}, -1}, true},
		{"Bytes 99-99/100", ContentRange{Range{99, 1}, 100}, true},
		{"bytes */100", ContentRange{}, false},
		{"bytes 0-100/100", ContentRange{}, false},
		{"bytes 9-0/100", ContentRange{}, false},
		{"bytes -9/100", ContentRange{}, false},
		{"bytes 9-/100", ContentRange{}, false},
		{"bytes=0-9/100", ContentRange{}, false},
		{"bytes 0-9", ContentRange{}, false},
		{"bytes 0-9/x", ContentRange{}, false},
		{"bytes 0-9/", ContentRange{}, false},
		{"lines 0-9/100", ContentRange{}, false},
		{"", ContentRange{}, false},
	} {
		got, ok := ParseContentRange(row.value)
		if ok != row.ok || ok && got != row.want {
			t.Errorf("%q: got %v, %t, want %v, %t", row.value, got, ok, row.want, row.ok)
		}
	}
	_, ok := ContentRangeOf(header("Content-Range: bytes 0-9/100", "Content-Length: 9"))
	equal(t, "of another length", ok, false)
	_, ok = ContentRangeOf(header("Content-Range: bytes 0-9/100", "Content-Range: bytes 0-9/100"))
	equal(t, "twice", ok, false)
}

// RFC 9111, Section 3.3: what a stored part can answer.
func TestWantedRange(t *testing.T) {
	for _, row := range []struct {
		name     string
		method   string
		lines    []string
		complete int64
		want     Range
		ok       bool
	}{
		{"closed", "GET", []string{"Range: bytes=5-9"}, 100, Range{5, 5}, true},
		{"closed, length unknown", "GET", []string{"Range: bytes=5-9"}, -1, Range{5, 5}, true},
		{"open", "GET", []string{"Range: bytes=5-"}, 100, Range{5, 95}, true},
		{"open, length unknown", "GET", []string{"Range: bytes=5-"}, -1, Range{}, false},
		{"suffix", "GET", []string{"Range: bytes=-5"}, 100, Range{95, 5}, true},
		{"suffix, length unknown", "GET", []string{"Range: bytes=-5"}, -1, Range{}, false},
		{"over the end", "GET", []string{"Range: bytes=95-500"}, 100, Range{95, 5}, true},
		{"behind the end", "GET", []string{"Range: bytes=100-"}, 100, Range{}, false},
		{"several", "GET", []string{"Range: bytes=0-1,5-6"}, 100, Range{}, false},
		{"none", "GET", nil, 100, Range{}, false},
		{"HEAD", "HEAD", []string{"Range: bytes=5-9"}, 100, Range{}, false},
		{"If-Range", "GET", []string{"Range: bytes=5-9", `If-Range: "x"`}, 100, Range{5, 5}, true},
		{"other If-Range", "GET", []string{"Range: bytes=5-9", `If-Range: "y"`}, 100, Range{}, false},
	} {
		got, ok := WantedRange(row.method, header(row.lines...), header(`ETag: "x"`), row.complete)
		if ok != row.ok || ok && got != row.want {
			t.Errorf("%s: got %v, %t, want %v, %t", row.name, got, ok, row.want, row.ok)
		}
	}
}

func TestMissing(t *testing.T) {
	have := Range{10, 10}
	for _, row := range []struct {
		want    Range
		missing []Range
	}{
		{Range{10, 10}, nil},
		{Range{12, 3}, nil},
		{Range{5, 10}, []Range{{5, 5}}},
		{Range{15, 10}, []Range{{20, 5}}},
		{Range{5, 20}, []Range{{5, 5}, {20, 5}}},
		{Range{0, 5}, []Range{{0, 5}}},
		{Range{30, 5}, []Range{{30, 5}}},
	} {
		if got := Missing(have, row.want); !slices.Equal(got, row.missing) {
			t.Errorf("%v: got %v, want %v", row.want, got, row.missing)
		}
		equal(t, "contained", ContentRange{have, 100}.Contains(row.want), row.missing == nil)
	}
}

// RFC 9110, Section 13.1.5: the rest of a part is asked for by its strong validator, or not at all.
func TestAddRange(t *testing.T) {
	lm, date := "Last-Modified: "+at(-60), "Date: "+at(0)
	for _, row := range []struct {
		name   string
		stored []string
		want   string // If-Range; "" is none
	}{
		{"tag", []string{`ETag: "x"`, lm, date}, `"x"`},
		{"weak tag", []string{`ETag: W/"x"`, lm, date}, ""},
		{"date", []string{lm, date}, at(-60)},
		{"weak date", []string{lm}, ""},
		{"none", nil, ""},
	} {
		dst := header(`If-None-Match: "client"`, "Range: bytes=0-1")
		ok := AddRange(dst, header(row.stored...), Range{5, 5})
		equal(t, row.name, ok, row.want != "")
		equal(t, row.name+": If-Range", dst.Get("If-Range"), row.want)
		if ok {
			equal(t, row.name+": Range", dst.Get("Range"), "bytes=5-9")
			equal(t, row.name+": the client's condition", dst.Get("If-None-Match"), "")
		} else {
			equal(t, row.name+": Range", dst.Get("Range"), "bytes=0-1")
		}
	}
}

// RFC 9111, Section 3.4.
func TestCombinable(t *testing.T) {
	lm, date := "Last-Modified: "+at(-60), "Date: "+at(0)
	for _, row := range []struct {
		name string
		a, b []string
		want bool
	}{
		{"same tag", []string{`ETag: "x"`}, []string{`ETag: "x"`}, true},
		{"other tag", []string{`ETag: "x"`, lm, date}, []string{`ETag: "y"`, lm, date}, false},
		{"weak tag", []string{`ETag: W/"x"`}, []string{`ETag: W/"x"`}, false},
		{"one tag", []string{`ETag: "x"`, lm, date}, []string{lm, date}, false},
		{"strong date", []string{lm, date}, []string{lm, date}, true},
		{"strong date, other coding", []string{lm, date, "Content-Encoding: gzip"}, []string{lm, date}, false},
		{"other date", []string{lm, date}, []string{"Last-Modified: " + at(-50), date}, false},
		{"weak date", []string{"Last-Modified: " + at(0), date}, []string{"Last-Modified: " + at(0), date}, false},
		{"none", []string{date}, []string{date}, false},
	} {
		equal(t, row.name, Combinable(header(row.a...), header(row.b...)), row.want)
	}
}

func TestJoin(t *testing.T) {
	for _, row := range []struct {
		name       string
		a, b, want ContentRange
		ok         bool
	}{
		{"adjacent", ContentRange{Range{0, 10}, 100}, ContentRange{Range{10, 10}, 100}, ContentRange{Range{0, 20}, 100}, true},
		{"the other way", ContentRange{Range{10, 10}, 100}, ContentRange{Range{0, 10}, 100}, ContentRange{Range{0, 20}, 100}, true},
		{"overlapping", ContentRange{Range{0, 15}, 100}, ContentRange{Range{10, 10}, 100}, ContentRange{Range{0, 20}, 100}, true},
		{"inside", ContentRange{Range{0, 50}, 100}, ContentRange{Range{10, 10}, 100}, ContentRange{Range{0, 50}, 100}, true},
		{"one length unknown", ContentRange{Range{0, 10}, -1}, ContentRange{Range{10, 10}, 100}, ContentRange{Range{0, 20}, 100}, true},
		{"to the whole", ContentRange{Range{0, 10}, 20}, ContentRange{Range{10, 10}, 20}, ContentRange{Range{0, 20}, 20}, true},
		{"a gap", ContentRange{Range{0, 10}, 100}, ContentRange{Range{11, 10}, 100}, ContentRange{}, false},
		{"other lengths", ContentRange{Range{0, 10}, 100}, ContentRange{Range{10, 10}, 101}, ContentRange{}, false},
		{"more than there is", ContentRange{Range{0, 200}, -1}, ContentRange{Range{10, 10}, 100}, ContentRange{}, false},
	} {
		got, ok := Join(row.a, row.b)
		if ok != row.ok || ok && got != row.want {
			t.Errorf("%s: got %v, %t, want %v, %t", row.name, got, ok, row.want, row.ok)
		}
	}
}

// RFC 9110, Section 15.3.7.3: only the whole is a 200.
func TestJoinedHeader(t *testing.T) {
	stored := header("Content-Range: bytes 0-9/20", "Content-Length: 10", "A: old", "Date: "+at(-9))
	fresh := header("Content-Range: bytes 10-14/20", "Content-Length: 5", "A: new", "Date: "+at(0))
	part := JoinedHeader(stored, fresh, ContentRange{Range{0, 15}, 20})
	equal(t, "Content-Range", part.Get("Content-Range"), "bytes 0-14/20")
	equal(t, "Content-Length", part.Get("Content-Length"), "15")
	equal(t, "A", part.Get("A"), "new")
	whole := ContentRange{Range{0, 20}, 20}
	equal(t, "Content-Range of the whole", JoinedHeader(stored, fresh, whole).Get("Content-Range"), "")
	equal(t, "whole", whole.IsWhole(), true)
	equal(t, "not whole", ContentRange{Range{0, 20}, -1}.IsWhole(), false)
}
