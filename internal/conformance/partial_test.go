package conformance

import (
	"fmt"
	"time"
)

// partialRows are about partial responses: stored, used, combined, completed.
func partialRows() []section {
	const digits = "0123456789"
	cc := []string{"Cache-Control", "max-age=3600"}
	// piece is a 206 for a part of the digits.
	piece := func(first, last int, fields ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=3600", "Content-Range", fmt.Sprintf("bytes %d-%d/10", first, last)}, fields...)...).
			is(206).saying(digits[first : last+1])
	}
	tag := []string{"ETag", `"a"`}
	ranged := func(r string) *step { return get("Range", r) }
	fetched := func(r string) *step { return ranged(r).miss().sent("Range", r) }
	whole := with("Cache-Control", "max-age=3600", "ETag", `"a"`).saying(digits)
	return []section{
		{"RFC 9111 §3.3 partial responses that are stored", []row{
			test("a range on a miss goes to the origin", origins(piece(0, 4, tag...)), fetched("bytes=0-4").has("Content-Range", "bytes 0-4/10")),
			test("the same range", origins(piece(0, 4, tag...)), fetched("bytes=0-4"), ranged("bytes=0-4").hit().partOf("bytes 0-4/10", "01234")),
			test("a range inside", origins(piece(2, 7, tag...)), fetched("bytes=2-7"), ranged("bytes=3-5").hit().partOf("bytes 3-5/10", "345")),
			test("an open one that reaches the end", origins(piece(5, 9, tag...)), fetched("bytes=5-9"), ranged("bytes=6-").hit().partOf("bytes 6-9/10", "6789")),
			test("a suffix inside", origins(piece(5, 9, tag...)), fetched("bytes=-5"), ranged("bytes=-2").hit().partOf("bytes 8-9/10", "89")),
			test("without a validator", origins(piece(0, 4)), fetched("bytes=0-4"), ranged("bytes=1-2").hit().partOf("bytes 1-2/10", "12")),
			test("by Last-Modified alone", origins(with("Last-Modified", in(-100*time.Hour), "Content-Range", "bytes 0-4/10").is(206).saying("01234")),
				ranged("bytes=0-4").miss(), ranged("bytes=0-1").hit().partOf("bytes 0-1/10", "01")),
			test("If-Range that holds", origins(piece(0, 4, tag...)), fetched("bytes=0-4"), get("Range", "bytes=0-1", "If-Range", `"a"`).hit().partOf("bytes 0-1/10", "01")),
			test("If-None-Match comes before Range", origins(piece(0, 4, tag...)),
				fetched("bytes=0-4"), get("Range", "bytes=0-1", "If-None-Match", `"a"`).hit().status(304).has("ETag", `"a"`).lacks("Content-Range")),
			test("If-None-Match that does not hold", origins(piece(0, 4, tag...)), fetched("bytes=0-4"), get("Range", "bytes=0-1", "If-None-Match", `"b"`).hit().partOf("bytes 0-1/10", "01")),
			test("If-Modified-Since comes before Range", origins(piece(0, 4, "Last-Modified", in(-10*time.Hour))),
				fetched("bytes=0-4"), get("Range", "bytes=0-1", "If-Modified-Since", in(-10*time.Hour)).hit().status(304)),
			test("not with no-store", origins(with("Cache-Control", "no-store", "Content-Range", "bytes 0-4/10").is(206).saying("01234")),
				ranged("bytes=0-4").miss(), ranged("bytes=0-4").miss()),
			test("not when stale", origins(with("Cache-Control", "max-age=60", "Age", "70", "Content-Range", "bytes 0-4/10").is(206).saying("01234")),
				ranged("bytes=0-4").miss(), ranged("bytes=0-4").miss()),
			test("not without freshness", origins(with("Content-Range", "bytes 0-4/10").is(206).saying("01234")), ranged("bytes=0-4").miss(), ranged("bytes=0-4").miss()),
			test("not without Content-Range", origins(with(cc...).is(206)), ranged("bytes=0-4").miss(), ranged("bytes=0-4").miss()),
			test("not with an invalid Content-Range", origins(with("Cache-Control", "max-age=3600", "Content-Range", "bytes 4-0/10").is(206)), ranged("bytes=0-4").miss(), ranged("bytes=0-4").miss()),
			test("not in several parts", origins(with("Cache-Control", "max-age=3600", "Content-Type", "multipart/byteranges; boundary=x").is(206).saying("--x\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--x--\r\n")),
				ranged("bytes=0-0,2-2").miss(), ranged("bytes=0-0,2-2").miss(), get().miss()),
			test("each variant its own", origins(piece(0, 4, "ETag", `"a"`, "Vary", "A")),
				get("Range", "bytes=0-4", "A", "1").miss(), get("Range", "bytes=0-1", "A", "2").miss(), get("Range", "bytes=0-1", "A", "1").hit().partOf("bytes 0-1/10", "01")),
			test("a whole one in answer to Range is stored", origins(whole), ranged("bytes=0-4").miss().status(200), ranged("bytes=0-4").hit().partOf("bytes 0-4/10", "01234"), get().hit()),
			test("416 on a miss is passed on", origins(with("Content-Range", "bytes */10", "Cache-Control", "max-age=3600").is(416), whole), ranged("bytes=20-").miss(), get().miss(), get().hitOf(2)),
			test("If-Range on a miss goes to the origin", origins(piece(0, 4, tag...)), get("Range", "bytes=0-4", "If-Range", `"x"`).miss().sent("If-Range", `"x"`)),
			test("Range of a POST is the origin's", origins(with(cc...)), post("", "Range", "bytes=0-4").miss().sent("Range", "bytes=0-4")),
			test("it is never the whole", origins(piece(0, 4), whole), fetched("bytes=0-4"), get().miss().status(200), get().hitOf(2)),
			test("nor for a HEAD", origins(piece(0, 4, tag...), whole), fetched("bytes=0-4"), head().miss().status(200)),
			test("206 that is the whole", origins(piece(0, 9, tag...)), fetched("bytes=0-"), ranged("bytes=3-4").hit().partOf("bytes 3-4/10", "34")),
		}},
		{"RFC 9111 §3.4 combining", []row{
			test("what is missing is fetched", origins(piece(0, 4, tag...), piece(5, 9, tag...)),
				fetched("bytes=0-4"), get().asks(1).status(200).body(digits).sent("Range", "bytes=5-9", "If-Range", `"a"`).lacks("Content-Range").has("Content-Length", "10"),
				get().hit().body(digits).status(200)),
			test("what is missing before it", origins(piece(5, 9, tag...), piece(0, 4, tag...)),
				fetched("bytes=5-9"), get().asks(1).status(200).body(digits).sent("Range", "bytes=0-4", "If-Range", `"a"`)),
			test("a range that begins in it", origins(piece(0, 4, tag...), piece(5, 7, tag...)),
				fetched("bytes=0-4"), ranged("bytes=3-7").asks(1).partOf("bytes 3-7/10", "34567").sent("Range", "bytes=5-7"),
				ranged("bytes=0-7").hit().partOf("bytes 0-7/10", "01234567")),
			test("a range that follows it", origins(piece(0, 4, tag...), piece(5, 9, tag...)),
				fetched("bytes=0-4"), ranged("bytes=5-9").asks(1).partOf("bytes 5-9/10", "56789"), get().hit().body(digits).status(200)),
			test("the client has it", origins(piece(0, 4, tag...), piece(5, 7, tag...)),
				fetched("bytes=0-4"), get("Range", "bytes=3-7", "If-None-Match", `"a"`).asks(1).status(304)),
			test("by a strong date", origins(piece(0, 4, "Last-Modified", in(-10*time.Hour)), piece(5, 9, "Last-Modified", in(-10*time.Hour))),
				fetched("bytes=0-4"), get().asks(1).status(200).body(digits).sent("If-Range", in(-10*time.Hour)), get().hit().body(digits).status(200)),
			test("not by a weak tag", origins(piece(0, 4, "ETag", `W/"a"`), whole),
				fetched("bytes=0-4"), get().miss().status(200).unsent("Range", "If-Range")),
			test("not with another tag", origins(piece(0, 4, tag...), piece(5, 9, "ETag", `"b"`), with("Cache-Control", "max-age=3600", "ETag", `"b"`).saying("abcdefghij")),
				fetched("bytes=0-4"), get().asks(2).status(200).body("abcdefghij").unsent("Range", "If-Range"), get().hitOf(3)),
			test("not with another length", origins(piece(0, 4, tag...),
				with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Range", "bytes 5-9/11").is(206).saying("56789"), whole),
				fetched("bytes=0-4"), get().asks(2).status(200).body(digits)),
			test("not with another range than was asked for", origins(piece(0, 4, tag...), piece(7, 9, tag...), whole),
				fetched("bytes=0-4"), get().asks(2).status(200).body(digits)),
			test("the origin has another one meanwhile", origins(piece(0, 4, tag...), with("Cache-Control", "max-age=3600", "ETag", `"b"`).saying("abcdefghij")),
				fetched("bytes=0-4"), get().miss().status(200), get().hitOf(2)),
			test("the newer fields win", origins(piece(0, 4, "ETag", `"a"`, "X-A", "1"), piece(5, 9, "ETag", `"a"`, "X-A", "2")),
				fetched("bytes=0-4"), get().asks(1).status(200).body(digits).has("X-A", "2"), get().hit().body(digits).status(200).has("X-A", "2")),
			test("Cache-Status tells of it", origins(piece(0, 4, tag...), piece(5, 9, tag...)),
				fetched("bytes=0-4"), get().asks(1).status(200).body(digits).says("fwd=partial", "fwd-status=206")),
			test("the missing part breaks off", origins(piece(0, 4, tag...), piece(5, 9, tag...).broken(2), piece(5, 9, tag...)),
				fetched("bytes=0-4"), get().asks(1).breaks(), get().asks(1).status(200).body(digits)),
			test("what does not touch it is asked for once", origins(piece(0, 2, tag...), piece(7, 9, tag...)),
				fetched("bytes=0-2"), ranged("bytes=7-9").asks(1).partOf("bytes 7-9/10", "789")),
		}},
	}
}
