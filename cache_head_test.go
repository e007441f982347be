package fluster

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// What is not stored of a header takes no memory beside what is: the near cache
// would not know of it, and have no bound.
func TestFieldsThatAreNotStored(t *testing.T) {
	h := http.Header{"Set-Cookie": {strings.Repeat("c", 60<<10)}, "Link": {"<a>", "", "<b>"}, "Etag": {`"a"`}}
	came := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := []stored.Field{{Name: "Date", Value: "Fri, 02 Jan 2026 03:04:05 GMT"}, {Name: "Etag", Value: `"a"`},
		{Name: "Link", Value: "<a>"}, {Name: "Link", Value: ""}, {Name: "Link", Value: "<b>"}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const times = 500
	for range times {
		header := fields(h, came, func(name string) string {
			if name == "Set-Cookie" {
				return ""
			}
			return name
		})
		var got []stored.Field
		for name, value := range header.All() {
			got = append(got, stored.Field{Name: name, Value: value})
		}
		slices.SortStableFunc(got, func(a, b stored.Field) int { return strings.Compare(a.Name, b.Name) })
		if !slices.Equal(got, want) {
			t.Fatal(cmp.Diff(want, got))
		}
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / times; took > 20<<10 {
		t.Errorf("%d bytes were allocated for each, want some hundred", took)
	}
}

// TestListHoldsNoResponse: C5. The list of a URL's variants, which may outlive what it
// lists, holds nothing of the memory of a response: its bound would not know of it.
func TestListHoldsNoResponse(t *testing.T) {
	h := embedded(t, new(Cache))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Language")
		w.Header().Set("Content-Language", "de")
		w.Header().Set("Content-Length", "4")
		_, err := io.WriteString(w, "page")
		return err
	})
	w := httptest.NewRecorder()
	r := request(t, "/", "Accept-Language", "de")
	x := &exchange{Cache: h, r: r}
	x.names, _ = h.Key.name(r)
	if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
		t.Fatal(err)
	}
	list := x.nearList()
	if list == nil || len(list.variants.List) != 1 || list.variants.List[0].Language != "de" {
		t.Fatalf("got the list %v, want one variant in German", list)
	}
	e, _ := h.pool.near.Load().Get(list.variants.List[0].Key)
	if unsafe.StringData(e.field("Content-Language")) == unsafe.StringData(list.variants.List[0].Language) {
		t.Error("the list has its language in the memory of the response")
	}
}

// TestBodyHoldsNoLongHeader: C5. A body lives on when it is confirmed with another
// header, and with it the memory in which it lies: no more of the old header than little.
func TestBodyHoldsNoLongHeader(t *testing.T) {
	for _, tt := range []struct {
		padding int
		isOne   bool
	}{{10, true}, {usualHeader, false}} {
		h := embedded(t, new(Cache))
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("X-Padding", strings.Repeat("p", tt.padding))
			w.Header().Set("Content-Length", "4")
			_, err := io.WriteString(w, "page")
			return err
		})
		w := httptest.NewRecorder()
		r := request(t, "/"+strconv.Itoa(tt.padding))
		key, _ := h.Key.name(r)
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
			t.Fatal(err)
		}
		e, ok := h.pool.near.Load().Get(key.key)
		if !ok || string(e.resp.Body) != "page" {
			t.Fatalf("got %v, want the page", e)
		}
		header, body := unsafe.StringData(string(e.resp.Header)), unsafe.SliceData(e.resp.Body)
		if got := uintptr(unsafe.Pointer(header))+uintptr(len(e.resp.Header)) == uintptr(unsafe.Pointer(body)); got != tt.isOne {
			t.Errorf("with a header of %d bytes the body lies behind it: %t, want %t", len(e.resp.Header), got, tt.isOne)
		}
	}
}
