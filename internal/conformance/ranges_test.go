package conformance

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"time"
)

// rangeRows are about parts of what is stored whole.
func rangeRows() []section {
	const digits = "0123456789"
	whole := func(fields ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Type", "text/x"}, fields...)...).saying(digits)
	}
	ranged := func(r string) *step { return get("Range", r) }
	part := func(name, r, contentRange, body string) row {
		return test(name, origins(whole()), get().miss(), ranged(r).hit().partOf(contentRange, body).says("hit"))
	}
	all := func(name, r string) row {
		return test(name, origins(whole()), get().miss(), ranged(r).hit().lacks("Content-Range"))
	}
	none := func(name, r string) row {
		return test(name, origins(whole()), get().miss(), ranged(r).hit().status(416).has("Content-Range", "bytes */10"))
	}
	several := func(name, r string, parts ...string) row {
		return test(name, origins(whole()), get().miss(), ranged(r).hit().status(206).parts(parts...))
	}
	ifRange := func(name string, a answer, condition string, holds bool) row {
		s := get("Range", "bytes=2-3", "If-Range", condition).hit()
		if holds {
			s = s.partOf("bytes 2-3/10", "23")
		}
		return test(name, origins(a), get().miss(), s)
	}
	modified := in(-10 * time.Hour)
	dated := func(fields ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=3600", "Last-Modified", modified}, fields...)...).saying(digits)
	}
	weak := with("Cache-Control", "max-age=3600", "ETag", `W/"a"`).saying(digits)
	return []section{
		{"RFC 9110 §14.1.2 one range", []row{
			part("from the start", "bytes=0-4", "bytes 0-4/10", "01234"),
			part("from the middle", "bytes=3-5", "bytes 3-5/10", "345"),
			part("to the end", "bytes=5-9", "bytes 5-9/10", "56789"),
			part("one byte", "bytes=9-9", "bytes 9-9/10", "9"),
			part("open", "bytes=7-", "bytes 7-9/10", "789"),
			part("open from the start", "bytes=0-", "bytes 0-9/10", digits),
			part("a suffix", "bytes=-3", "bytes 7-9/10", "789"),
			part("a suffix as long as the whole", "bytes=-10", "bytes 0-9/10", digits),
			part("a suffix longer than the whole", "bytes=-100", "bytes 0-9/10", digits),
			part("an end beyond the end", "bytes=8-100", "bytes 8-9/10", "89"),
			part("an end beyond all numbers", "bytes=8-99999999999999999999", "bytes 8-9/10", "89"),
			part("the unit in upper case", "BYTES=0-1", "bytes 0-1/10", "01"),
			part("leading zeros", "bytes=000-001", "bytes 0-1/10", "01"),
			part("white space and empty members", "bytes= , 0-1 ,", "bytes 0-1/10", "01"),
			part("one of two that is satisfiable", "bytes=0-1, 50-60", "bytes 0-1/10", "01"),
			test("the fields of the whole", origins(whole("X-A", "1")), get().miss(),
				ranged("bytes=0-1").hit().partOf("bytes 0-1/10", "01").has("ETag", `"a"`, "X-A", "1", "Content-Type", "text/x", "Cache-Control", "max-age=3600").age(0)),
			test("of content in chunks", origins(whole().inChunks()), get().miss(), ranged("bytes=0-1").hit().partOf("bytes 0-1/10", "01")),
			test("of content in two hundred kB", origins(with("Cache-Control", "max-age=3600").saying(strings.Repeat(digits, 20000))),
				get().miss(), ranged("bytes=150000-150004").hit().partOf("bytes 150000-150004/200000", "01234")),
		}},
		{"RFC 9110 §14.2 what is no range is ignored", []row{
			all("the end before the start", "bytes=5-2"),
			all("no numbers", "bytes=a-b"),
			all("no dash", "bytes=5"),
			all("nothing", "bytes="),
			all("a dash alone", "bytes=-"),
			all("another unit", "items=0-1"),
			all("no unit", "0-1"),
			all("negative", "bytes=-1-2"),
			all("one invalid of two", "bytes=0-1, foo"),
			test("of a HEAD", origins(whole()), get().miss(), head("Range", "bytes=0-1").hit().status(200).lacks("Content-Range")),
			test("of a stored 404", origins(whole().is(404)), get().miss(), ranged("bytes=0-1").hit()),
			test("of a stored 203 it is the cache's choice", origins(whole().is(203)), get().miss(), ranged("bytes=0-1").hit()),
		}},
		{"RFC 9110 §15.5.17 unsatisfiable ranges", []row{
			none("after the end", "bytes=10-"),
			none("far after the end", "bytes=20-30"),
			none("two after the end", "bytes=20-30, 40-50"),
			none("a suffix of nothing", "bytes=-0"),
			none("a start beyond all numbers", "bytes=99999999999999999999-"),
			test("what is stored stays", origins(whole()), get().miss(), ranged("bytes=10-").hit().status(416), get().hit()),
		}},
		{"RFC 9110 §14.6 several ranges", []row{
			several("two", "bytes=0-1, 5-6", "bytes 0-1/10 01", "bytes 5-6/10 56"),
			several("three", "bytes=0-0,2-2,4-4", "bytes 0-0/10 0", "bytes 2-2/10 2", "bytes 4-4/10 4"),
			several("a suffix", "bytes=0-1, -2", "bytes 0-1/10 01", "bytes 8-9/10 89"),
			several("two of three that are satisfiable", "bytes=0-1, 50-60, 5-6", "bytes 0-1/10 01", "bytes 5-6/10 56"),
			test("two that overlap come at most once", origins(whole()), get().miss(), ranged("bytes=0-5, 3-7").hit().partOf("bytes 0-7/10", "01234567")),
			test("a hundred are not served one by one", origins(whole()), get().miss(), ranged("bytes=0-"+strings.Repeat(",0-", 99)).hit().status(200).body(digits)),
		}},
		{"RFC 9110 §13.1.5 If-Range", []row{
			ifRange("the same tag", whole(), `"a"`, true),
			ifRange("another tag", whole(), `"b"`, false),
			ifRange("a weak tag", whole(), `W/"a"`, false),
			ifRange("a stored weak tag", weak, `W/"a"`, false),
			ifRange("a stored weak tag, a strong one", weak, `"a"`, false),
			ifRange("no stored tag", dated(), `"a"`, false),
			ifRange("the same date", dated(), modified, true),
			ifRange("an earlier date", dated(), in(-20*time.Hour), false),
			ifRange("a later date", dated(), in(-5*time.Hour), false),
			ifRange("a date that is not strong", with("Cache-Control", "max-age=3600", "Date", in(-time.Minute), "Last-Modified", in(-time.Minute)).saying(digits), in(-time.Minute), false),
			ifRange("no stored date", whole(), modified, false),
			ifRange("neither", whole(), "foo", false),
			test("without Range it does not count", origins(whole()), get().miss(), get("If-Range", `"b"`).hit()),
		}},
		{"RFC 9110 §14.2 ranges of what is stale", []row{
			test("validated, then a part", origins(expired("ETag", `"a"`).saying(digits), not304("ETag", `"a"`)),
				get().miss(), ranged("bytes=0-1").asks(1).partOf("bytes 0-1/10", "01").sent("If-None-Match", `"a"`).unsent("Range")),
			test("replaced, then stored whole", origins(expired("ETag", `"a"`).saying(digits), with("Cache-Control", "max-age=3600", "ETag", `"b"`).saying("abcdefghij")),
				get().miss(), ranged("bytes=0-1").asks(1).status(200).body("abcdefghij"), get().hitOf(2)),
			test("replaced by what the client has", origins(expired("ETag", `"a"`).saying(digits), with("Cache-Control", "max-age=3600", "ETag", `"b"`).saying("abcdefghij")),
				get().miss(), get("Range", "bytes=0-1", "If-None-Match", `"b"`).asks(1).status(304).unsent("Range"), get().hitOf(2)),
			test("replaced by what the client has and may not be stored", origins(expired("ETag", `"a"`).saying(digits), with("Cache-Control", "no-store", "ETag", `"b"`).saying("abcdefghij")),
				get().miss(), get("Range", "bytes=0-1", "If-None-Match", `"b"`).asks(1).status(304).unsent("Range")),
		}},
	}
}

// parts expects a multipart/byteranges body with these parts: Content-Range, a
// space, and the bytes.
func (s *step) parts(want ...string) *step {
	s.from = -1
	return s.lacks("Content-Range").check(func(x *exchange) string {
		kind, params, err := mime.ParseMediaType(x.got.header.Get("Content-Type"))
		if err != nil || kind != "multipart/byteranges" {
			return fmt.Sprintf("got Content-Type %q", x.got.header.Get("Content-Type"))
		}
		r := multipart.NewReader(strings.NewReader(x.got.body), params["boundary"])
		var got []string
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				return "the body is no multipart: " + err.Error()
			}
			b, _ := io.ReadAll(p)
			if kind := p.Header.Get("Content-Type"); kind != "text/x" {
				return fmt.Sprintf("a part has Content-Type %q, want text/x", kind)
			}
			got = append(got, p.Header.Get("Content-Range")+" "+string(b))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			return fmt.Sprintf("got parts %q, want %q", got, want)
		}
		return ""
	})
}
