package fluster

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

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
