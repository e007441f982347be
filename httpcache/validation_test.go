package httpcache

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

// RFC 9111, Section 4.3.1.
func TestAddValidators(t *testing.T) {
	for _, row := range []struct {
		name   string
		stored []string
		want   []string
	}{
		{"both", []string{`ETag: "x"`, "Last-Modified: " + at(0)}, []string{`If-None-Match: "x"`, "If-Modified-Since: " + at(0)}},
		{"weak", []string{`ETag: W/"x"`}, []string{`If-None-Match: W/"x"`}},
		{"a tag without quotes", []string{"ETag: x"}, []string{"If-None-Match: x"}},
		{"a date", []string{"Last-Modified: " + at(0)}, []string{"If-Modified-Since: " + at(0)}},
		{"no date", []string{"Last-Modified: foo"}, nil},
		{"none", nil, nil},
	} {
		dst := header(`If-None-Match: "client"`, "If-Modified-Since: "+at(9), `If-Match: "client"`, "If-Unmodified-Since: "+at(9),
			`If-Range: "client"`, "Range: bytes=0-1", "Accept: */*")
		AddValidators(dst, header(row.stored...))
		want := header(append(row.want, "Accept: */*")...)
		if !maps.EqualFunc(dst, want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", row.name, dst, want)
		}
	}
}

// RFC 9111, Section 4.3.4.
func TestSelectedBy304(t *testing.T) {
	lm := "Last-Modified: " + at(-60)
	for _, row := range []struct {
		name        string
		stored, got []string
		want        bool
	}{
		{"same strong", []string{`ETag: "x"`}, []string{`ETag: "x"`}, true},
		{"other strong", []string{`ETag: "x"`}, []string{`ETag: "y"`}, false},
		{"other strong, same date", []string{`ETag: "x"`, lm}, []string{`ETag: "y"`, lm}, false},
		{"strong for a weak one", []string{`ETag: W/"x"`}, []string{`ETag: "x"`}, false},
		{"strong for none", []string{lm}, []string{`ETag: "x"`, lm}, false},
		{"weak for a strong one", []string{`ETag: "x"`}, []string{`ETag: W/"x"`}, true},
		{"same weak", []string{`ETag: W/"x"`}, []string{`ETag: W/"x"`}, true},
		{"other weak", []string{`ETag: W/"x"`}, []string{`ETag: W/"y"`}, false},
		{"same date", []string{lm}, []string{lm}, true},
		{"other date", []string{lm}, []string{"Last-Modified: " + at(-50)}, false},
		{"date for none", []string{`ETag: "x"`}, []string{lm}, false},
		{"none", []string{`ETag: "x"`, lm}, nil, true},
		{"none for none", nil, nil, true},
	} {
		equal(t, row.name, SelectedBy304(header(row.stored...), header(row.got...)), row.want)
	}
}

// RFC 9111, Section 4.3.5.
func TestHeadFreshens(t *testing.T) {
	for _, row := range []struct {
		name         string
		stored, head []string
		length       int64
		want         bool
	}{
		{"nothing to compare", []string{`ETag: "x"`}, nil, 9, true},
		{"same tag", []string{`ETag: "x"`}, []string{`ETag: "x"`}, 9, true},
		{"other tag", []string{`ETag: "x"`}, []string{`ETag: "y"`}, 9, false},
		{"tag of none", nil, []string{`ETag: "y"`}, 9, false},
		{"same date", []string{"Last-Modified: " + at(0)}, []string{"Last-Modified: " + at(0)}, 9, true},
		{"other date", []string{`ETag: "x"`, "Last-Modified: " + at(0)}, []string{`ETag: "x"`, "Last-Modified: " + at(1)}, 9, false},
		{"same length", nil, []string{"Content-Length: 9"}, 9, true},
		{"other length", []string{`ETag: "x"`}, []string{`ETag: "x"`, "Content-Length: 8"}, 9, false},
		{"of nothing", []string{"Content-Length: 0"}, []string{"Content-Length: 1"}, 0, false},
		{"length of nothing", nil, []string{"Content-Length: 0"}, 0, true},
		{"invalid length", nil, []string{"Content-Length: x"}, 9, false},
		{"same field", []string{"Content-Length: 9"}, []string{"Content-Length: 9"}, -1, true},
		{"other field", []string{"Content-Length: 9"}, []string{"Content-Length: 8"}, -1, false},
		{"no field", nil, []string{"Content-Length: 9"}, -1, false},
	} {
		equal(t, row.name, HeadFreshens(header(row.stored...), header(row.head...), row.length), row.want)
	}
}

// RFC 9111, Section 4.3.2; RFC 9110, Sections 13.1.2, 13.1.3 and 13.2.2.
func TestEvaluatePreconditions(t *testing.T) {
	lm, date := "Last-Modified: "+at(-60), "Date: "+at(-30)
	for _, row := range []struct {
		name           string
		request        []string
		stored         []string
		method         string // GET where empty
		status         int    // 200 where 0
		wantConditions bool
	}{
		{name: "none", stored: []string{`ETag: "x"`, lm}},
		{name: "tag", request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "other tag", request: []string{`If-None-Match: "y"`}, stored: []string{`ETag: "x"`}},
		{name: "weak for strong", request: []string{`If-None-Match: W/"x"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "strong for weak", request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: W/"x"`}, wantConditions: true},
		{name: "other case", request: []string{`If-None-Match: "X"`}, stored: []string{`ETag: "x"`}},
		{name: "list", request: []string{`If-None-Match: "y", W/"x" , "z"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "list without spaces", request: []string{`If-None-Match: "y","x","z"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "lines", request: []string{`If-None-Match: "y"`, `If-None-Match: "x"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "comma in a tag", request: []string{`If-None-Match: "a,b", "c"`}, stored: []string{`ETag: "a,b"`}, wantConditions: true},
		{name: "part of a tag", request: []string{`If-None-Match: "a, "x", b"`}, stored: []string{`ETag: "y"`}},
		{name: "star", request: []string{"If-None-Match: *"}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "star for none", request: []string{"If-None-Match: *"}, wantConditions: true},
		{name: "tag for none", request: []string{`If-None-Match: "x"`}},
		{name: "quotes or none", request: []string{`If-None-Match: "x"`}, stored: []string{"ETag: x"}},
		{name: "no quotes in both", request: []string{"If-None-Match: x"}, stored: []string{"ETag: x"}, wantConditions: true},
		{name: "tag before date", request: []string{`If-None-Match: "y"`, "If-Modified-Since: " + at(0)}, stored: []string{`ETag: "x"`, lm}},
		{name: "tag before older date", request: []string{`If-None-Match: "x"`, "If-Modified-Since: " + at(-90)}, stored: []string{`ETag: "x"`, lm}, wantConditions: true},

		{name: "date", request: []string{"If-Modified-Since: " + at(-60)}, stored: []string{lm, date}, wantConditions: true},
		{name: "later date", request: []string{"If-Modified-Since: " + at(-59)}, stored: []string{lm, date}, wantConditions: true},
		{name: "earlier date", request: []string{"If-Modified-Since: " + at(-61)}, stored: []string{lm, date}},
		{name: "date, only Date stored", request: []string{"If-Modified-Since: " + at(-30)}, stored: []string{date}, wantConditions: true},
		{name: "earlier date, only Date stored", request: []string{"If-Modified-Since: " + at(-31)}, stored: []string{date}},
		{name: "date, nothing stored", request: []string{"If-Modified-Since: " + at(0)}},
		{name: "invalid date", request: []string{"If-Modified-Since: foo"}, stored: []string{lm, date}},
		{name: "two dates", request: []string{"If-Modified-Since: " + at(0), "If-Modified-Since: " + at(0)}, stored: []string{lm, date}},
		{name: "date in another form", request: []string{"If-Modified-Since: Saturday, 14-Mar-26 15:09:26 GMT"}, stored: []string{lm}, wantConditions: true},

		{name: "HEAD", method: "HEAD", request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "POST", method: "POST", request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: "x"`}},
		{name: "404", status: 404, request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: "x"`}},
		{name: "299", status: 299, request: []string{"If-None-Match: *"}, wantConditions: true},
		{name: "300", status: 300, request: []string{"If-None-Match: *"}},
		{name: "301", status: 301, request: []string{"If-None-Match: *"}, stored: []string{`ETag: "x"`}},
		{name: "203", status: 203, request: []string{`If-None-Match: "x"`}, stored: []string{`ETag: "x"`}, wantConditions: true},
		{name: "If-Match", request: []string{`If-Match: "x"`}, stored: []string{`ETag: "x"`}},
		{name: "If-Unmodified-Since", request: []string{"If-Unmodified-Since: " + at(-90)}, stored: []string{lm}},
	} {
		method, status := row.method, row.status
		if method == "" {
			method = http.MethodGet
		}
		if status == 0 {
			status = http.StatusOK
		}
		got := EvaluatePreconditions(method, header(row.request...), status, header(row.stored...), epoch)
		equal(t, row.name, got, row.wantConditions)
	}
}

// RFC 9110, Section 15.4.5.
func TestNotModifiedHeader(t *testing.T) {
	stored := header(`ETag: "x"`, "Date: "+at(0), "Expires: "+at(1), "Cache-Control: max-age=1", "Vary: Foo",
		"Content-Location: /", "Last-Modified: "+at(-60), "CDN-Cache-Control: max-age=2", "Content-Type: text/plain",
		"Content-Length: 9", "Set-Cookie: a=b", "X-Foo: 1")
	want := []string{"Cache-Control", "Cdn-Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Vary"}
	if got := names(NotModifiedHeader(stored)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stored.Del("ETag")
	equal(t, "Last-Modified where there is no tag", NotModifiedHeader(stored).Get("Last-Modified"), at(-60))
}
