package httpcache

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

// names returns the sorted names of the fields.
func names(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }

// RFC 9110, Section 7.6.1; RFC 9111, Section 3.1.
func TestEndToEnd(t *testing.T) {
	h := header("A: 1", "A: 2", "B: 3", "Connection: close, x-foo ,", "Connection: X-Bar", "X-Foo: 1", "X-Bar: 1", "X-Baz: 1",
		"Keep-Alive: 1", "Proxy-Connection: 1", "TE: 1", "Trailer: T", "Transfer-Encoding: chunked", "Upgrade: 1",
		"Proxy-Authenticate: 1", "Proxy-Authentication-Info: 1", "Proxy-Authorization: 1")
	h[http.TrailerPrefix+"T"] = []string{"1"}
	before := h.Clone()
	got := EndToEnd(h)
	if want := []string{"A", "B", "X-Baz"}; !slices.Equal(names(got), want) {
		t.Errorf("got %q, want %q", names(got), want)
	}
	if want := []string{"1", "2"}; !slices.Equal(got["A"], want) {
		t.Errorf("A: got %q, want %q", got["A"], want)
	}
	got["A"][0] = "changed"
	got.Add("A", "3")
	got.Add("B", "4")
	if !maps.EqualFunc(h, before, slices.Equal) {
		t.Errorf("the copy shares its lines: got %v, want %v", h, before)
	}
}

// RFC 9111, Section 3.2.
func TestFreshen(t *testing.T) {
	stored := header("A: old", "Keep: me", `ETag: "x"`, "Content-Type: text/plain", "Content-Length: 9",
		"Content-Encoding: gzip", "Content-Range: bytes 0-8/9", "Age: 9", "Date: "+at(-9), "Cache-Control: max-age=1")
	fresh := header("A: new", "A: newer", "New: 1", `ETag: "y"`, "Content-Type: text/html", "Content-Length: 0",
		"Content-Encoding: br", "Content-Range: bytes 0-1/2", "Date: "+at(0), "Cache-Control: max-age=2",
		"Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 1")
	got := Freshen(stored, fresh)
	want := header("A: new", "A: newer", "Keep: me", "New: 1", `ETag: "y"`, "Content-Type: text/html", "Content-Length: 9",
		"Content-Encoding: gzip", "Content-Range: bytes 0-8/9", "Date: "+at(0), "Cache-Control: max-age=2")
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	equal(t, "the stored header is untouched", stored.Get("A"), "old")
	equal(t, "an old Date does not live on", Freshen(stored, header()).Get("Date"), "")
}
