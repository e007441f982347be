package httpcache

import (
	"testing"
	"time"
)

// RFC 9111, Sections 4, 4.2.4 and 5.2.1; RFC 5861; RFC 8246. Each response is fresh for ten seconds, unless it says
// otherwise.
func TestReuseFor(t *testing.T) {
	tag := `ETag: "x"`
	for _, row := range []struct {
		name    string
		control string // Cache-Control of the response, after max-age=10
		request string // Cache-Control of the request
		after   float64
		use     Use
		asked   bool // it is the request that wants validation
		ifError bool
	}{
		{"fresh", "", "", 9.999, UseFresh, false, false},
		{"stale", "", "", 10, UseValidate, false, true},
		{"stale, must-revalidate", "must-revalidate", "", 10, UseValidate, false, false},
		{"stale, proxy-revalidate", "proxy-revalidate", "", 10, UseValidate, false, false},
		{"stale, s-maxage", "s-maxage=10", "", 10, UseValidate, false, false},
		{"no-cache", "no-cache", "", 1, UseValidate, false, false},
		{"no-cache, stale", "no-cache", "", 11, UseValidate, false, false},
		{"no-cache of both", "no-cache", "no-cache", 1, UseValidate, true, false},
		{"qualified no-cache", `no-cache="X-Foo"`, "", 1, UseFresh, false, false},
		{"fresh, must-revalidate", "must-revalidate", "", 9, UseFresh, false, false},

		{"while revalidating", "stale-while-revalidate=5", "", 10, UseStaleRevalidate, false, true},
		{"while revalidating, at its end", "stale-while-revalidate=5", "", 14.999, UseStaleRevalidate, false, true},
		{"while revalidating, over", "stale-while-revalidate=5", "", 15, UseValidate, false, true},
		{"while revalidating, fresh", "stale-while-revalidate=5", "", 9, UseFresh, false, false},
		{"while revalidating, must-revalidate", "stale-while-revalidate=5, must-revalidate", "", 11, UseValidate, false, false},
		{"while revalidating, no-cache", "stale-while-revalidate=5", "no-cache", 11, UseValidate, true, false},
		{"while revalidating, max-age", "stale-while-revalidate=5", "max-age=60", 11, UseValidate, false, true},
		{"while revalidating, min-fresh", "stale-while-revalidate=5", "min-fresh=0", 11, UseValidate, false, true},
		{"while revalidating, s-maxage", "s-maxage=10, stale-while-revalidate=5", "", 11, UseStaleRevalidate, false, true},
		{"while revalidating, s-maxage, over", "s-maxage=10, stale-while-revalidate=5", "", 15, UseValidate, false, false},

		{"if error", "stale-if-error=5", "", 14.999, UseValidate, false, true},
		{"if error, over", "stale-if-error=5", "", 15, UseValidate, false, false},
		{"if error, 0", "stale-if-error=0", "", 11, UseValidate, false, false},
		{"if error, s-maxage", "s-maxage=10, stale-if-error=5", "", 11, UseValidate, false, true},
		{"if error, must-revalidate", "must-revalidate, stale-if-error=5", "", 11, UseValidate, false, false},
		{"if error, of the request", "", "stale-if-error=5", 14, UseValidate, false, true},
		{"if error, of the request, over", "", "stale-if-error=5", 16, UseValidate, false, false},
		{"if error, of the request, at its end", "", "stale-if-error=5", 15, UseValidate, false, false},
		{"if error, of the request, s-maxage", "s-maxage=10", "stale-if-error=5", 14, UseValidate, false, false},

		{"request no-cache", "", "no-cache", 1, UseValidate, true, false},
		{"request max-age", "", "max-age=5", 5, UseFresh, false, false},
		{"request max-age, older", "", "max-age=5", 5.001, UseValidate, true, true},
		{"request max-age=0", "", "max-age=0", 0, UseValidate, true, true},
		{"request max-age, stale", "", "max-age=60", 11, UseValidate, false, true},
		{"request min-fresh", "", "min-fresh=5", 5, UseFresh, false, false},
		{"request min-fresh, less", "", "min-fresh=5", 5.001, UseValidate, true, true},
		{"request min-fresh, more than all", "", "min-fresh=11", 0, UseValidate, true, true},
		{"request max-stale, fresh", "", "max-stale=5", 5, UseFresh, false, false},
		{"request max-stale", "", "max-stale=5", 15, UseStale, false, true},
		{"request max-stale, staler", "", "max-stale=5", 15.001, UseValidate, false, true},
		{"request max-stale, any", "", "max-stale", 1e6, UseStale, false, true},
		{"request max-stale, must-revalidate", "must-revalidate", "max-stale=5", 11, UseValidate, false, false},
		{"request max-stale, s-maxage", "s-maxage=10", "max-stale=5", 11, UseValidate, false, false},
		{"request max-stale, no-cache", "no-cache", "max-stale=5", 1, UseValidate, false, false},
		{"request max-stale and max-age", "", "max-stale=5, max-age=60", 11, UseStale, false, true},
		{"request max-stale and smaller max-age", "", "max-stale=5, max-age=3", 11, UseValidate, false, true},
		{"request only-if-cached", "", "only-if-cached", 1, UseFresh, false, false},
		{"request no-store", "", "no-store", 1, UseFresh, false, false},

		{"clock a little behind", "", "", -10, UseFresh, false, false},
		{"clock set back", "", "", -10.001, UseValidate, false, true},
		{"clock set back, while revalidating", "stale-while-revalidate=5", "", -3600, UseValidate, false, true},
		{"clock set back, must-revalidate", "must-revalidate", "", -3600, UseValidate, false, false},
		{"clock set back, no-cache", "no-cache", "", -3600, UseValidate, false, false},
		{"clock set back, of the request", "", "max-stale=5", -3600, UseValidate, false, true},
		{"clock set back, immutable", "immutable", "", -3600, UseValidate, false, true},

		{"immutable, reload", "immutable", "max-age=0", 1, UseFresh, false, false},
		{"immutable, no-cache", "immutable", "no-cache", 1, UseValidate, true, false},
		{"immutable, stale", "immutable", "max-age=0", 11, UseValidate, false, true},
		{"immutable, just stale", "immutable", "max-stale=5, max-age=3", 10, UseValidate, false, true},
		{"immutable, min-fresh", "immutable", "min-fresh=60", 1, UseValidate, true, true},
	} {
		p := Policy{}
		v := store(p, "Cache-Control: max-age=10, "+row.control, tag)
		d := RequestDirectives{}
		if row.request != "" {
			d = ParseRequestDirectives(header("Cache-Control: " + row.request))
		}
		got := p.ReuseFor(d, &v.Terms, seconds(row.after))
		equal(t, row.name, got, Reuse{row.use, row.asked, row.ifError})

		safe := Safe()
		equal(t, row.name+": ignored", safe.ReuseFor(d, &v.Terms, seconds(row.after)),
			p.ReuseFor(RequestDirectives{}, &v.Terms, seconds(row.after)))
	}
}

func TestReuseForAllocatesNothing(t *testing.T) {
	p := Policy{}
	v := store(p, "Cache-Control: max-age=10")
	for _, d := range []RequestDirectives{{}, ParseRequestDirectives(header("Cache-Control: max-stale=9, min-fresh=1"))} {
		if n := testing.AllocsPerRun(100, func() { p.ReuseFor(d, &v.Terms, epoch) }); n != 0 {
			t.Errorf("got %v allocations, want none", n)
		}
	}
}

func BenchmarkReuseFor(b *testing.B) {
	b.ReportAllocs()
	p := Policy{}
	terms := Terms{Received: epoch.UnixMilli(), FreshUntil: epoch.UnixMilli() + int64(time.Minute/time.Millisecond)}
	for b.Loop() {
		if p.ReuseFor(RequestDirectives{}, &terms, epoch).Use != UseFresh {
			b.Fatal("got no fresh response")
		}
	}
}
