package conformance

import (
	"strconv"
	"time"
)

// heuristicRows are about freshness that is guessed from Last-Modified: a tenth
// of the time since then.
func heuristicRows() []section {
	const h = time.Hour
	old := in(-100 * h)
	var by, not, public []row
	for _, status := range []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501} {
		by = append(by, fresh(strconv.Itoa(status), "Last-Modified", old).status(status))
	}
	for _, status := range []int{201, 202, 302, 303, 307, 400, 401, 403, 406, 409, 418, 422, 500, 502, 503, 504, 299, 499, 599} {
		name := strconv.Itoa(status)
		not = append(not, stale(name, "Last-Modified", old).status(status))
		public = append(public, fresh(name+" with public", "Last-Modified", old, "Cache-Control", "public").status(status))
	}
	return []section{
		{"RFC 9110 §15.1 heuristically cacheable statuses", by},
		{"RFC 9111 §4.2.2 no heuristics for other statuses", not},
		{"RFC 9111 §4.2.2 but with public", public},
		{"RFC 9111 §4.2.2 heuristics", []row{
			fresh("a tenth, before", "Last-Modified", in(-20*h), "Age", "3600"),
			stale("a tenth, after", "Last-Modified", in(-20*h), "Age", "10800"),
			fresh("a day at most, before", "Last-Modified", in(-10000*h), "Age", "80000"),
			stale("a day at most, after", "Last-Modified", in(-10000*h), "Age", "90000"),
			stale("modified just now", "Last-Modified", in(0), "Date", in(0)),
			stale("modified in the future", "Last-Modified", in(h)),
			stale("an invalid Last-Modified", "Last-Modified", "foo"),
			stale("a Last-Modified of another zone", "Last-Modified", old[:len(old)-3]+"UTC"),
			fresh("an RFC 850 Last-Modified", "Last-Modified", dateAs(rfc850, -100*h)),
			fresh("an asctime Last-Modified", "Last-Modified", dateAs(asctime, -100*h)),
			stale("no Last-Modified"),
			stale("an entity tag alone", "ETag", `"a"`),
			stale("public alone", "Cache-Control", "public"),
			stale("not with max-age", "Last-Modified", old, "Cache-Control", "max-age=0"),
			stale("not with s-maxage", "Last-Modified", old, "Cache-Control", "s-maxage=0"),
			stale("not with an invalid max-age", "Last-Modified", old, "Cache-Control", "max-age=foo"),
			stale("not with Expires", "Last-Modified", old, "Expires", in(-h)),
			stale("not with an invalid Expires", "Last-Modified", old, "Expires", "0"),
			stale("not with no-cache", "Last-Modified", old, "Cache-Control", "no-cache"),
			stale("not with no-store", "Last-Modified", old, "Cache-Control", "no-store"),
			stale("not with private", "Last-Modified", old, "Cache-Control", "private"),
			fresh("with an unknown directive", "Last-Modified", old, "Cache-Control", "foo"),
			fresh("with must-revalidate", "Last-Modified", old, "Cache-Control", "must-revalidate"),
			test("the age is told", origins(with("Last-Modified", old, "Age", "600")), get().miss(), get().hit().age(600)),
		}},
	}
}
