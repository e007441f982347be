package conformance

import (
	"fmt"

	"github.com/dunglas/httpsfv"
)

// cacheStatusRows are about what this cache tells of itself.
func cacheStatusRows() []section {
	const cc = "Cache-Control"
	good := with(cc, "max-age=3600")
	behind := func(members ...string) answer {
		fields := []string{cc, "max-age=3600"}
		for _, m := range members {
			fields = append(fields, "Cache-Status", m)
		}
		return with(fields...)
	}
	return []section{
		{"RFC 9211 §2 Cache-Status", []row{
			test("a miss that is stored", origins(good), get().miss().says("fwd=uri-miss", "fwd-status=200", "stored", "!hit")),
			test("a hit", origins(good), get().miss(), get().hit().says("hit", "!fwd", "!fwd-status", "!stored", "!collapsed").ttl(3500, 3600)),
			test("the ttl of something aged", origins(with(cc, "max-age=3600", "Age", "600")), get().miss(), get().hit().ttl(2900, 3000)),
			test("a stale hit", origins(expired()), get().miss(), get(cc, "max-stale").hit().says("hit").ttl(-60, -10)),
			test("a miss that is not stored", origins(with(cc, "no-store")), get().miss().says("fwd=uri-miss", "fwd-status=200", "!stored", "detail=no-store")),
			test("why: private", origins(with(cc, "private")), get().miss().says("!stored", "detail=private")),
			test("why: nothing says that it is fresh", origins(with()), get().miss().says("!stored", "detail")),
			test("why: Vary", origins(with(cc, "max-age=3600", "Vary", "*")), get().miss().says("!stored", "detail=vary")),
			test("why: Authorization", origins(good), get("Authorization", "Basic YQ==").miss().says("!stored", "detail=authorization")),
			test("the status of an error", origins(with().is(404)), get().miss().says("fwd-status=404")),
			test("another variant", origins(with(cc, "max-age=3600", "Vary", "A")), get("A", "1").miss(), get("A", "2").miss().says("fwd=vary-miss")),
			test("stale", origins(expired(), good), get().miss(), get().miss().says("fwd=stale", "fwd-status=200", "stored")),
			test("validated", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)), get().miss(), get().validated(1).says("fwd=stale", "fwd-status=304", "stored")),
			test("a request's no-cache", origins(good), get().miss(), get(cc, "no-cache").miss().says("fwd=request")),
			test("a request's max-age", origins(good), get().miss(), get(cc, "max-age=0").miss().says("fwd=request")),
			test("a method", origins(good), post("").miss().says("fwd=method")),
			test("an OPTIONS", origins(good), request("OPTIONS", "").miss().says("fwd=method")),
			test("a part", origins(with(cc, "max-age=3600", "ETag", `"a"`, "Content-Range", "bytes 0-4/10").is(206).saying("01234")),
				get("Range", "bytes=0-4").miss().says("fwd=uri-miss", "fwd-status=206", "stored"), get("Range", "bytes=0-1").hit().partOf("bytes 0-1/10", "01").says("hit")),
			test("a HEAD", origins(good), get().miss(), head().hit().says("hit")),
			test("the origin cannot be reached", origins(gone()), get().asks(1).status(502).says("!hit", "fwd=uri-miss", "!stored")),
			test("only-if-cached", origins(good), get(cc, "only-if-cached").asks(0).status(504).says("!hit")),
			test("one member for each exchange", origins(good), get().miss().members("fluster"), get().hit().members("fluster"), get().hit().members("fluster")),
		}},
		{"RFC 9211 §2 those from behind stay, and come first", []row{
			test("one", origins(behind("Origin; hit; ttl=10")), get().miss().members("Origin", "fluster"), get().hit().members("Origin", "fluster")),
			test("two on one line", origins(behind(`First; hit, "Second cache"; fwd=miss`)), get().miss().members("First", "Second cache", "fluster"), get().hit().members("First", "Second cache", "fluster")),
			test("two lines", origins(behind("First; hit", "Second; fwd=miss")), get().miss().members("First", "Second", "fluster"), get().hit().members("First", "Second", "fluster")),
			test("of what is not stored", origins(with(cc, "no-store", "Cache-Status", "Origin; hit")), get().miss().members("Origin", "fluster")),
			test("of a POST", origins(with("Cache-Status", "Origin; fwd=method")), post("").miss().members("Origin", "fluster")),
		}},
	}
}

// members expects the names of the members of Cache-Status.
func (s *step) members(want ...string) *step {
	return s.check(func(x *exchange) string {
		list, err := httpsfv.UnmarshalList(x.got.header["Cache-Status"])
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, m := range list {
			item, _ := m.(httpsfv.Item)
			got = append(got, fmt.Sprint(item.Value))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("Cache-Status has the members %q, want %q", got, want)
		}
		return ""
	})
}
