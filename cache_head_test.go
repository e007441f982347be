package fluster

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// What is not stored of a header takes no memory beside what is: the near cache
// would not know of it, and have no bound.
func TestFieldsThatAreNotStored(t *testing.T) {
	h := http.Header{"Set-Cookie": {strings.Repeat("c", 60<<10)}, "Link": {"<a>", "", "<b>"}, "Etag": {`"a"`}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const times = 500
	for range times {
		got := fields(h, func(name string) bool { return name == "Set-Cookie" })
		want := []stored.Field{{Name: "Etag", Value: `"a"`}, {Name: "Link", Value: "<a>"}, {Name: "Link", Value: ""}, {Name: "Link", Value: "<b>"}}
		for i := range max(len(got), len(want)) {
			if len(got) != len(want) || got[i] != want[i] {
				t.Fatal(cmp.Diff(want, got))
			}
		}
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / times; took > 20<<10 {
		t.Errorf("%d bytes were allocated for each, want some hundred", took)
	}
}
