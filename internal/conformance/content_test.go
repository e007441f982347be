package conformance

import (
	"fmt"
	"strings"
)

// contentRows are about the content of what is stored, its trailers and its
// framing.
func contentRows() []section {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	cc := []string{"Cache-Control", "max-age=3600"}
	return []section{
		{"RFC 9111 §3 content, as it came", []row{
			test("none", origins(with(cc...).saying("")), get().miss(), get().hit()),
			test("none, in chunks", origins(with(cc...).saying("").inChunks()), get().miss(), get().hit()),
			test("in chunks", origins(with(cc...).inChunks()), get().miss(), get().hit().has("Content-Length", "8")),
			test("until the connection ends", origins(answer{fields: cc, unsized: true}), get().miss(), get().hit().has("Content-Length", "8")),
			test("every byte", origins(with(cc...).saying(string(every))), get().miss(), get().hit()),
			test("60 kB", origins(with(cc...).saying(strings.Repeat("0123456789", 6000))), get().miss(), get().hit()),
			test("1 MB", origins(with(cc...).saying(strings.Repeat("0123456789abcdef", 1<<16))), get().miss(), get().hit()),
			test("1 MB in chunks", origins(with(cc...).saying(strings.Repeat("fedcba9876543210", 1<<16)).inChunks()), get().miss(), get().hit()),
			test("more than is stored", origins(with(cc...).saying(strings.Repeat("0", 9<<20))), get().miss().says("!stored"), get().miss()),
			test("Content-Length", origins(with(cc...)), get().miss().has("Content-Length", "8"), get().hit().has("Content-Length", "8")),
			test("a 204 has none", origins(with(cc...).is(204)), get().miss(), get().hit().lacks("Content-Length")),
			test("a redirect's", origins(with("Cache-Control", "max-age=3600", "Location", "/there").is(301).saying("<a>there</a>")),
				get().miss(), get().hit().has("Location", "/there")),
		}},
		{"RFC 9110 §8.4 Content-Encoding", []row{
			test("is stored as it came", origins(with("Cache-Control", "max-age=3600", "Content-Encoding", "gzip").saying("not really gzip")),
				get("Accept-Encoding", "gzip").miss().has("Content-Encoding", "gzip"),
				get("Accept-Encoding", "gzip").hit().has("Content-Encoding", "gzip")),
			test("with Vary, for who accepts it", origins(with("Cache-Control", "max-age=3600", "Content-Encoding", "gzip", "Vary", "Accept-Encoding").saying("gzip"),
				with("Cache-Control", "max-age=3600", "Vary", "Accept-Encoding").saying("plain")),
				get("Accept-Encoding", "gzip").miss(), get().miss().lacks("Content-Encoding"),
				get("Accept-Encoding", "gzip").hit(), get().hitOf(2)),
		}},
		{"RFC 9110 §6.5 trailers", []row{
			test("they pass, and are not stored", origins(with("Cache-Control", "max-age=3600", "Trailer", "X-Sum").inChunks("X-Sum", "1")),
				get().miss().check(func(x *exchange) string {
					if got := x.got.trailer.Get("X-Sum"); got != "1" {
						return fmt.Sprintf("got trailer %q, want 1", got)
					}
					return ""
				}),
				get().hit().lacks("Trailer", "X-Sum").check(func(x *exchange) string {
					if len(x.got.trailer) > 0 {
						return fmt.Sprintf("got trailers %v, want none", x.got.trailer)
					}
					return ""
				})),
			test("they make nothing fresh", origins(with("Trailer", "Cache-Control").inChunks("Cache-Control", "max-age=3600")),
				get().miss(), get().miss()),
			test("they take no freshness", origins(with("Cache-Control", "max-age=3600", "Trailer", "Age").inChunks("Age", "7200")),
				get().miss(), get().hit()),
		}},
	}
}

// brokenRows are about responses that break off.
func brokenRows() []section {
	cc := []string{"Cache-Control", "max-age=3600"}
	tagged := []string{"Cache-Control", "max-age=10", "Age", "20", "ETag", `"a"`}
	return []section{
		{"RFC 9111 §3.3 incomplete responses", []row{
			test("less than Content-Length", origins(with(cc...).broken(4), with(cc...)),
				get().asks(1).breaks(), get().miss(), get().hitOf(2)),
			test("no last chunk", origins(with(cc...).inChunks().broken(4), with(cc...)),
				get().asks(1).breaks(), get().miss(), get().hitOf(2)),
			test("much less than Content-Length", origins(with(cc...).saying(strings.Repeat("0", 300000)).broken(200000), with(cc...)),
				get().asks(1).breaks(), get().miss(), get().hitOf(2)),
			test("before the head", origins(gone(), with(cc...)),
				get().asks(1).status(502), get().miss(), get().hitOf(2)),
			test("it does not take the place of what is stored", origins(with(tagged...), with(cc...).broken(4), not304("ETag", `"a"`)),
				get().miss(), get().asks(1).breaks(), get().validated(1).sent("If-None-Match", `"a"`)),
			test("a part that breaks off is not stored", origins(
				with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Range", "bytes 0-4/10").is(206).saying("01234").broken(3), with(cc...)),
				get("Range", "bytes=0-4").asks(1).breaks(), get("Range", "bytes=0-1").miss().unsent("If-Range")),
		}},
	}
}
