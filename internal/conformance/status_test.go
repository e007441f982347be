package conformance

import (
	"fmt"
	"time"
)

// statusRows are about which statuses are stored.
func statusRows() []section {
	var maxAge, expires, nothing []row
	statuses := []int{
		200, 201, 202, 203, 204, 205, 226, 299,
		300, 301, 302, 303, 307, 308, 399,
		400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 414, 415, 418, 421, 422, 451, 499,
		500, 501, 502, 503, 504, 505, 508, 599,
	}
	for _, status := range statuses {
		fields := []string{"Cache-Control", "max-age=3600"}
		if status/100 == 3 {
			fields = append(fields, "Location", "/elsewhere")
		}
		w := fresh(fmt.Sprint(status), fields...).status(status)
		if status/100 == 3 {
			w.steps[1].has("Location", "/elsewhere")
		}
		if status == 205 {
			w.answers[0] = w.answers[0].saying("") // RFC 9110, Section 15.3.6: it has no content
		}
		maxAge = append(maxAge, w)
	}
	for _, status := range []int{200, 299, 302, 307, 403, 404, 499, 500, 503, 599} {
		expires = append(expires, fresh(fmt.Sprint(status), "Expires", in(time.Hour)).status(status))
	}
	for _, status := range []int{200, 203, 299, 301, 302, 307, 404, 410, 499, 500, 503, 599} {
		nothing = append(nothing, stale(fmt.Sprint(status)).status(status))
	}
	var never []row
	for _, status := range []int{428, 429, 431, 511} {
		never = append(never, stale(fmt.Sprint(status), "Cache-Control", "max-age=3600").status(status))
	}
	return []section{
		{"RFC 9111 §3 any final status with max-age", maxAge},
		{"RFC 9111 §3 any final status with Expires", expires},
		{"RFC 9111 §4.2 no status without freshness", nothing},
		{"RFC 6585 §§3–6 not stored by a cache", never},
		{"RFC 9111 §3 statuses of one request", []row{
			stale("416 to a request without Range, no-store", "Cache-Control", "no-store").status(416),
			test("412 is for one request", origins(with("Cache-Control", "max-age=3600").is(412), with("Cache-Control", "max-age=3600")),
				get("If-Match", `"x"`).miss(), get().miss()),
			test("416 is for one request", origins(with("Cache-Control", "max-age=3600", "Content-Range", "bytes */10").is(416), with()),
				get("Range", "bytes=20-").miss(), get().miss()),
			test("a HEAD of a stored 404", origins(with("Cache-Control", "max-age=3600").is(404)),
				get().miss(), head().hit()),
			test("the status is that of the first", origins(with("Cache-Control", "max-age=3600").is(410), with("Cache-Control", "max-age=3600")),
				get().miss(), get().hit(), get().hit()),
			test("404, stale, then 200", origins(with("Cache-Control", "max-age=10", "Age", "20").is(404), with("Cache-Control", "max-age=3600")),
				get().miss(), get().miss(), get().hitOf(2)),
		}},
	}
}
