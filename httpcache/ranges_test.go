package httpcache

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// RFC 9110, Sections 14.1.2 and 14.2, of 100 bytes.
func TestSelectRanges(t *testing.T) {
	many := "0-0"
	for i := 1; i <= maxRanges; i++ {
		many += fmt.Sprintf(",%d-%d", 2*i, 2*i)
	}
	for _, row := range []struct {
		name, value string
		answer      RangeAnswer
		want        []Range
	}{
		{"first", "bytes=0-9", PartialRanges, []Range{{0, 10}}},
		{"one byte", "bytes=5-5", PartialRanges, []Range{{5, 1}}},
		{"open", "bytes=90-", PartialRanges, []Range{{90, 10}}},
		{"suffix", "bytes=-5", PartialRanges, []Range{{95, 5}}},
		{"longer suffix", "bytes=-500", PartialRanges, []Range{{0, 100}}},
		{"just over the end", "bytes=90-100", PartialRanges, []Range{{90, 10}}},
		{"up to the end", "bytes=90-99", PartialRanges, []Range{{90, 10}}},
		{"adjacent", "bytes=10-19,0-9", PartialRanges, []Range{{10, 10}, {0, 10}}},
		{"over the end", "bytes=90-500", PartialRanges, []Range{{90, 10}}},
		{"to the largest number", "bytes=90-99999999999999999999999", PartialRanges, []Range{{90, 10}}},
		{"unit in upper case", "BYTES=0-9", PartialRanges, []Range{{0, 10}}},
		{"several", "bytes=50-59, 0-9,,-5", PartialRanges, []Range{{50, 10}, {0, 10}, {95, 5}}},
		{"several, one satisfiable", "bytes=0-9, 200-", PartialRanges, []Range{{0, 10}}},
		{"overlapping", "bytes=40-59, 0-9, 50-69", PartialRanges, []Range{{0, 10}, {40, 30}}},
		{"the same often", "bytes=0-,0-,0-,0-", PartialRanges, []Range{{0, 100}}},
		{"inside another", "bytes=0-50,10-20", PartialRanges, []Range{{0, 51}}},
		{"behind the end", "bytes=100-", Unsatisfiable, nil},
		{"behind the end, twice", "bytes=100-110, 200-", Unsatisfiable, nil},
		{"empty suffix", "bytes=-0", Unsatisfiable, nil},
		{"backwards", "bytes=9-0", WholeResponse, nil},
		{"one of two backwards", "bytes=0-9, 9-0", WholeResponse, nil},
		{"no number", "bytes=a-b", WholeResponse, nil},
		{"negative", "bytes=--5", WholeResponse, nil},
		{"nothing", "bytes=", WholeResponse, nil},
		{"only a dash", "bytes=-", WholeResponse, nil},
		{"no dash", "bytes=5", WholeResponse, nil},
		{"spaces inside", "bytes=0 - 9", WholeResponse, nil},
		{"another unit", "lines=0-9", WholeResponse, nil},
		{"no unit", "0-9", WholeResponse, nil},
		{"too many", "bytes=" + many, WholeResponse, nil},
	} {
		answer, got := SelectRanges(http.MethodGet, header("Range: "+row.value), nil, 100)
		if answer != row.answer || !slices.Equal(got, row.want) {
			t.Errorf("%s: %q: got %d, %v, want %d, %v", row.name, row.value, answer, got, row.answer, row.want)
		}
	}
	for _, row := range []struct {
		name, method string
		length       int64
		lines        []string
		want         RangeAnswer
	}{
		{"no Range", "GET", 100, nil, WholeResponse},
		{"HEAD", "HEAD", 100, []string{"Range: bytes=0-9"}, WholeResponse},
		{"two lines", "GET", 100, []string{"Range: bytes=0-9", "Range: bytes=0-9"}, WholeResponse},
		{"of nothing", "GET", 0, []string{"Range: bytes=0-"}, WholeResponse},
		{"suffix of nothing", "GET", 0, []string{"Range: bytes=-5"}, WholeResponse},
	} {
		answer, _ := SelectRanges(row.method, header(row.lines...), nil, row.length)
		equal(t, row.name, answer, row.want)
	}
}

// RFC 9110, Sections 13.1.5 and 8.8.2.2.
func TestIfRange(t *testing.T) {
	lm, date := "Last-Modified: "+at(-60), "Date: "+at(0)
	for _, row := range []struct {
		name, value string
		stored      []string
		want        bool
	}{
		{"tag", `"x"`, []string{`ETag: "x"`}, true},
		{"other tag", `"y"`, []string{`ETag: "x"`}, false},
		{"weak tag", `W/"x"`, []string{`ETag: W/"x"`}, false},
		{"weak tag of a strong one", `W/"x"`, []string{`ETag: "x"`}, false},
		{"strong tag of a weak one", `"x"`, []string{`ETag: W/"x"`}, false},
		{"tag of none", `"x"`, []string{lm, date}, false},
		{"date", at(-60), []string{lm, date}, true},
		{"later date", at(-59), []string{lm, date}, false},
		{"weak date", at(0), []string{"Last-Modified: " + at(0), date}, false},
		{"date without Date", at(-60), []string{lm}, false},
		{"no date", "foo", []string{lm, date}, false},
	} {
		answer, _ := SelectRanges(http.MethodGet, header("Range: bytes=0-9", "If-Range: "+row.value), header(row.stored...), 100)
		equal(t, row.name, answer == PartialRanges, row.want)
	}
}

// RFC 9110, Sections 14.4 and 15.3.7.1.
func TestPartialHeader(t *testing.T) {
	h := PartialHeader(header(`ETag: "x"`, "Content-Length: 100"), Range{90, 10}, 100)
	equal(t, "Content-Range", h.Get("Content-Range"), "bytes 90-99/100")
	equal(t, "Content-Length", h.Get("Content-Length"), "10")
	equal(t, "ETag", h.Get("ETag"), `"x"`)
	equal(t, "unsatisfied", UnsatisfiedRange(100), "bytes */100")
}

// RFC 9110, Sections 14.6 and 15.3.7.2, read by the standard library.
func TestMultipart(t *testing.T) {
	body := "0123456789"
	m := Multipart{Boundary: "b0undary", ContentType: "text/plain", Ranges: []Range{{2, 3}, {0, 1}, {9, 1}}, Complete: 10}
	var b []byte
	for i, r := range m.Ranges {
		b = m.AppendPart(b, i)
		b = append(b, body[r.Start:r.End()]...)
	}
	b = m.AppendEnd(b)
	equal(t, "length", m.Length(), int64(len(b)))
	h := m.Header(header("Content-Type: text/plain", "Content-Length: 10", `ETag: "x"`))
	equal(t, "Content-Length", h.Get("Content-Length"), fmt.Sprint(len(b)))
	equal(t, "Content-Range", h.Get("Content-Range"), "")
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("got Content-Type %q: %v", h.Get("Content-Type"), err)
	}
	var got []string
	for r := multipart.NewReader(strings.NewReader(string(b)), params["boundary"]); ; {
		part, err := r.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.Header.Get("Content-Type")+" "+part.Header.Get("Content-Range")+" "+string(bytes))
	}
	want := []string{"text/plain bytes 2-4/10 234", "text/plain bytes 0-0/10 0", "text/plain bytes 9-9/10 9"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
