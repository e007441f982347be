package httpcache

import (
	"testing"
	"time"
)

// RFC 9111, Sections 4.2.1, 4.2.2 and 5.3.
func TestFreshnessLifetime(t *testing.T) {
	ttl := Policy{TTL: map[int]time.Duration{200: 7 * time.Second, 500: 8 * time.Second}}
	bounds := Policy{MinTTL: 10 * time.Second, MaxTTL: 20 * time.Second}
	lm := "Last-Modified: " + at(-1000)
	for _, row := range []struct {
		name   string
		policy Policy
		status int
		lines  []string
		want   float64 // seconds
	}{
		{"nothing", Policy{}, 200, nil, 0},
		{"max-age", Policy{}, 200, []string{"Cache-Control: max-age=5"}, 5},
		{"s-maxage over max-age", Policy{}, 200, []string{"Cache-Control: max-age=5, s-maxage=3"}, 3},
		{"longer s-maxage over max-age", Policy{}, 200, []string{"Cache-Control: s-maxage=9, max-age=5"}, 9},
		{"invalid s-maxage", Policy{}, 200, []string{"Cache-Control: s-maxage=x, max-age=5"}, 0},
		{"max-age over Expires", Policy{}, 200, []string{"Cache-Control: max-age=5", "Expires: " + at(60)}, 5},
		{"max-age over past Expires", Policy{}, 200, []string{"Cache-Control: max-age=5", "Expires: 0"}, 5},
		{"invalid max-age over Expires", Policy{}, 200, []string{"Cache-Control: max-age=x", "Expires: " + at(60)}, 0},
		{"Expires without Date", Policy{}, 200, []string{"Expires: " + at(60)}, 60},
		{"Expires and Date", Policy{}, 200, []string{"Expires: " + at(60), "Date: " + at(0)}, 60},
		{"Expires and slow Date", Policy{}, 200, []string{"Expires: " + at(60), "Date: " + at(-30)}, 90},
		{"Expires and fast Date", Policy{}, 200, []string{"Expires: " + at(60), "Date: " + at(30)}, 30},
		{"Expires and invalid Date", Policy{}, 200, []string{"Expires: " + at(60), "Date: foo"}, 60},
		{"Expires of Date", Policy{}, 200, []string{"Expires: " + at(0), "Date: " + at(0)}, 0},
		{"Expires in the past", Policy{}, 200, []string{"Expires: " + at(-60)}, 0},
		{"Expires 0", Policy{}, 200, []string{"Expires: 0", lm}, 0},
		{"Expires invalid", Policy{}, 200, []string{"Expires: foo", lm}, 0},
		{"Expires empty", Policy{}, 200, []string{"Expires:", lm}, 0},
		{"Expires twice", Policy{}, 200, []string{"Expires: " + at(60), "Expires: " + at(60)}, 0},
		{"Expires in another zone", Policy{}, 200, []string{"Expires: Sat, 14 Mar 2026 15:10:26 UTC"}, 0},
		{"unknown status", Policy{}, 299, []string{"Cache-Control: max-age=5"}, 5},

		{"heuristic", Policy{}, 200, []string{lm}, 100},
		{"heuristic and Date", Policy{}, 200, []string{lm, "Date: " + at(-500)}, 50},
		{"heuristic, at most a day", Policy{}, 200, []string{"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"}, 86400},
		{"heuristic of the future", Policy{}, 200, []string{"Last-Modified: " + at(10)}, 0},
		{"heuristic of no date", Policy{}, 200, []string{"Last-Modified: foo"}, 0},
		{"heuristic off", Policy{Heuristic: HeuristicOff}, 200, []string{lm}, 0},
		{"heuristic for success", Policy{Heuristic: HeuristicSuccess}, 200, []string{lm}, 100},
		{"heuristic for success: redirect", Policy{Heuristic: HeuristicSuccess}, 301, []string{lm}, 100},
		{"heuristic for success: 404", Policy{Heuristic: HeuristicSuccess}, 404, []string{lm}, 0},
		{"heuristic for success: 404, public", Policy{Heuristic: HeuristicSuccess}, 404, []string{lm, "Cache-Control: public"}, 0},
		{"heuristic for success: 400, public", Policy{Heuristic: HeuristicSuccess}, 400, []string{lm, "Cache-Control: public"}, 0},
		{"heuristic of 404", Policy{}, 404, []string{lm}, 100},
		{"heuristic of 302", Policy{}, 302, []string{lm}, 0},
		{"heuristic of 302, public", Policy{}, 302, []string{lm, "Cache-Control: public"}, 100},
		{"heuristic of 599", Policy{}, 599, []string{lm}, 0},
		{"heuristic of 599, public", Policy{}, 599, []string{lm, "Cache-Control: public"}, 100},

		{"configured", ttl, 200, nil, 7},
		{"configured over heuristic", ttl, 200, []string{lm}, 7},
		{"max-age over configured", ttl, 200, []string{"Cache-Control: max-age=5"}, 5},
		{"Expires over configured", ttl, 200, []string{"Expires: 0"}, 0},
		{"configured for 500", ttl, 500, nil, 8},
		{"not configured for 404", ttl, 404, nil, 0},

		{"raised", bounds, 200, []string{"Cache-Control: max-age=5"}, 10},
		{"raised from 0", bounds, 200, []string{"Cache-Control: max-age=0"}, 10},
		{"lowered", bounds, 200, []string{"Cache-Control: max-age=50"}, 20},
		{"in bounds", bounds, 200, []string{"Cache-Control: max-age=15"}, 15},
		{"heuristic lowered", bounds, 200, []string{lm}, 20},
		{"nothing to raise", bounds, 200, nil, 0},
	} {
		h := header(row.lines...)
		d := row.policy.responseDirectives(h)
		got, _ := row.policy.freshnessLifetime(&d, row.status, h, epoch)
		equal(t, row.name, float64(got)/1000, row.want)
	}
}

// RFC 9110, Section 15.1: the statuses that are heuristically cacheable, and no other.
func TestHeuristicallyCacheable(t *testing.T) {
	var got []int
	for status := 100; status < 1000; status++ {
		v := (&Policy{}).MayStore(get(), status, header("Last-Modified: "+at(-1000), "Content-Range: bytes 0-1/4"), atOnce)
		if v.Store {
			got = append(got, status)
			if !v.Terms.Flags.Has(HeuristicLifetime) {
				t.Errorf("%d: got no HeuristicLifetime", status)
			}
		}
	}
	want := []int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		equal(t, "status", got[i], want[i])
	}
}
