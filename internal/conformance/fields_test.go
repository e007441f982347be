package conformance

import (
	"fmt"
	"strings"
	"time"
)

// fieldRows are about which fields of a response are stored.
func fieldRows() []section {
	kept := [][2]string{
		{"X-Something", "1"}, {"Something-Unknown", "a, b;c=d"}, {"Content-Type", "text/x-test; charset=utf-8"},
		{"Content-Language", "de, en"}, {"Content-Location", "/somewhere"}, {"Content-Disposition", `attachment; filename="a"`},
		{"Content-Encoding", "x-test"}, {"Content-Security-Policy", "default-src 'none'"}, {"ETag", `"a"`}, {"Last-Modified", in(-3 * time.Hour)},
		{"Link", `</a>; rel="next"`}, {"Location", "/there"}, {"Retry-After", "120"}, {"Allow", "GET, HEAD"},
		{"Accept-Ranges", "bytes"}, {"WWW-Authenticate", `Basic realm="a"`}, {"Access-Control-Allow-Origin", "*"},
		{"Strict-Transport-Security", "max-age=10"}, {"Clear-Site-Data", `"cache"`}, {"P3P", "foo"}, {"X-Frame-Options", "DENY"},
		{"Warning", `299 - "miscellaneous"`}, {"Digest", "sha-256=abc"}, {"Refresh", "5"}, {"Timing-Allow-Origin", "*"}, {"NEL", "{}"},
		{"Server-Timing", "a;dur=1"}, {"Expires", in(3 * time.Hour)}, {"Permissions-Policy", "geolocation=()"}, {"SourceMap", "/a.map"},
	}
	var keeps []row
	for _, f := range kept {
		keeps = append(keeps, test(f[0], origins(with("Cache-Control", "max-age=3600", f[0], f[1])),
			get().miss().has(f[0], f[1]), get().hit().has(f[0], f[1])))
	}
	var drops []row
	for _, f := range [][2]string{
		{"Keep-Alive", "timeout=5"}, {"Proxy-Connection", "keep-alive"}, {"Proxy-Authenticate", "Basic"},
		{"Proxy-Authentication-Info", "foo"}, {"Proxy-Authorization", "Basic YQ=="}, {"TE", "trailers"}, {"Upgrade", "h2c"},
	} {
		drops = append(drops, test(f[0], origins(with("Cache-Control", "max-age=3600", f[0], f[1], "X-Kept", "1")),
			get().miss(), get().hit().lacks(f[0]).has("X-Kept", "1")))
	}
	drops = append(drops,
		test("Connection", origins(with("Cache-Control", "max-age=3600", "Connection", "close")),
			get().miss().lacks("Connection"), get().hit().lacks("Connection")),
		test("a field that Connection names", origins(with("Cache-Control", "max-age=3600", "Connection", "X-A", "X-A", "1", "X-B", "2")),
			get().miss().lacks("X-A", "Connection"), get().hit().lacks("X-A", "Connection").has("X-B", "2")),
		test("fields that Connection names, in any case", origins(with("Cache-Control", "max-age=3600", "Connection", "x-a , X-B", "X-A", "1", "X-B", "2", "X-C", "3")),
			get().miss(), get().hit().lacks("X-A", "X-B").has("X-C", "3")),
		test("fields that two lines of Connection name", origins(with("Cache-Control", "max-age=3600", "Connection", "X-A", "Connection", "X-B", "X-A", "1", "X-B", "2", "X-C", "3")),
			get().miss(), get().hit().lacks("X-A", "X-B").has("X-C", "3")),
		test("a named field that stands before Connection", origins(with("Cache-Control", "max-age=3600", "X-A", "1", "Connection", "X-A")),
			get().miss(), get().hit().lacks("X-A")),
	)
	many := []string{"Cache-Control", "max-age=3600"}
	for i := range 150 {
		many = append(many, fmt.Sprintf("X-Many-%d", i), fmt.Sprint(i))
	}
	long := strings.Repeat("0123456789", 2000)
	return []section{
		{"RFC 9111 §3.1 fields that are stored", keeps},
		{"RFC 9111 §3.1 and RFC 9110 §7.6.1 fields that are not", drops},
		{"RFC 9111 §3.1 all lines, as they came", []row{
			test("several lines", origins(with("Cache-Control", "max-age=3600", "X-A", "1", "X-A", "2", "X-A", "3")),
				get().miss().has("X-A", "1, 2, 3"), get().hit().check(func(x *exchange) string {
					if n := len(x.got.header["X-A"]); n != 3 {
						return fmt.Sprintf("got %d lines of X-A, want 3", n)
					}
					return ""
				}).has("X-A", "1, 2, 3")),
			test("several lines of Cache-Control", origins(with("Cache-Control", "max-age=3600", "Cache-Control", "foo")),
				get().miss(), get().hit().has("Cache-Control", "max-age=3600, foo")),
			test("a field without a value", origins(with("Cache-Control", "max-age=3600", "X-Empty", "")),
				get().miss().has("X-Empty", ""), get().hit().has("X-Empty", "")),
			test("bytes beyond ASCII", origins(with("Cache-Control", "max-age=3600", "X-A", "caf\xc3\xa9 \xff")),
				get().miss(), get().hit().has("X-A", "caf\xc3\xa9 \xff")),
			test("quotes and commas", origins(with("Cache-Control", "max-age=3600", "X-A", `"a, b", "c\"d"`)),
				get().miss(), get().hit().has("X-A", `"a, b", "c\"d"`)),
			test("150 fields", origins(with(many...)), get().miss(), get().hit().has(many...)),
			test("a field of 20 kB", origins(with("Cache-Control", "max-age=3600", "X-Long", long)),
				get().miss(), get().hit().has("X-Long", long)),
			test("the entity tag as it came", origins(with("Cache-Control", "max-age=3600", "ETag", `W/"a, b"`)),
				get().miss(), get().hit().has("ETag", `W/"a, b"`)),
			test("an invalid Expires as it came", origins(with("Cache-Control", "max-age=3600", "Expires", "0")),
				get().miss(), get().hit().has("Expires", "0")),
			test("no Warning is made", origins(with("Cache-Control", "max-age=10", "Age", "20")),
				get().miss(), get("Cache-Control", "max-stale").hit().lacks("Warning")),
			test("one Date", origins(with("Cache-Control", "max-age=3600", "Date", in(-10*time.Second))),
				get().miss(), get().hit().has("Date", in(-10*time.Second))),
			test("a Date where there was none", origins(with("Cache-Control", "max-age=3600").withoutDate()),
				get().miss(), get().hit().check(func(x *exchange) string {
					if x.got.header.Get("Date") == "" {
						return "no Date"
					}
					return ""
				})),
			test("the origin's Server", origins(with("Cache-Control", "max-age=3600", "Server", "scripted")),
				get().miss().has("Server", "scripted"), get().hit().has("Server", "scripted")),
			test("tags are for this cache alone", origins(with("Cache-Control", "max-age=3600", "Surrogate-Key", "a b", "Cache-Tag", "c,d")),
				get().miss().lacks("Surrogate-Key", "Cache-Tag"), get().hit().lacks("Surrogate-Key", "Cache-Tag")),
		}},
	}
}
