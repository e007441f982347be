package conformance

import "time"

// requestRows are about the cache directives of requests.
func requestRows() []section {
	const cc = "Cache-Control"
	tagged := func(age string) answer { return with(cc, "max-age=3600", "Age", age, "ETag", `"a"`) }
	good := with(cc, "max-age=3600")
	confirmed := not304("ETag", `"a"`)
	// used is the row of a request that is answered from a response of this age
	// and an hour's lifetime, asked that of one that is not.
	used := func(name, age string, fields ...string) row {
		return test(name, origins(tagged(age)), get().miss(), get(fields...).hit())
	}
	asked := func(name, age string, fields ...string) row {
		return test(name, origins(tagged(age), confirmed), get().miss(), get(fields...).validated(1).sent("If-None-Match", `"a"`))
	}
	return []section{
		{"RFC 9111 §5.2.1.4 no-cache of a request", []row{
			asked("it is validated", "0", cc, "no-cache"),
			asked("upper case", "0", cc, "NO-CACHE"),
			asked("with others", "0", cc, "foo, no-cache, max-age=100"),
			asked("on a second line", "0", cc, "foo", cc, "no-cache"),
			asked("with only a good max-age", "0", cc, "no-cache, max-age=3600"),
			used("in quotes it is none", "0", cc, `foo="no-cache"`),
			test("Cache-Status says who wanted it", origins(tagged("0"), confirmed), get().miss(), get(cc, "no-cache").validated(1).says("fwd=request")),
			test("without a validator it is fetched", origins(good), get().miss(), get(cc, "no-cache").miss(), get().hitOf(2)),
			test("what comes is stored", origins(good), get(cc, "no-cache").miss(), get().hit()),
			test("a 500 is not hidden by what is stored", origins(tagged("0"), with().is(500)), get().miss(), get(cc, "no-cache").miss()),
		}},
		{"RFC 9111 §5.4 Pragma", []row{
			asked("no-cache", "0", "Pragma", "no-cache"),
			asked("upper case", "0", "Pragma", "No-Cache"),
			used("something else", "0", "Pragma", "foo"),
			used("with a Cache-Control it does not count", "0", "Pragma", "no-cache", cc, "max-age=100"),
			test("of a response it says nothing", origins(with(cc, "max-age=3600", "Pragma", "no-cache")), get().miss(), get().hit()),
		}},
		{"RFC 9111 §5.2.1.5 no-store of a request", []row{
			test("the response is not stored", origins(good), get(cc, "no-store").miss(), get().miss()),
			test("upper case", origins(good), get(cc, "NO-STORE").miss(), get().miss()),
			test("with others", origins(good), get(cc, "max-age=10, no-store").miss(), get().miss()),
			test("nothing is left to validate", origins(tagged("0")), get(cc, "no-store").miss(), get().miss().unsent("If-None-Match")),
			test("what is stored stays", origins(good), get().miss(), get(cc, "no-store").asks(0).hit(), get().hit()),
		}},
		{"RFC 9111 §5.2.1.1 max-age of a request", []row{
			asked("zero", "0", cc, "max-age=0"),
			used("younger", "50", cc, "max-age=600"),
			asked("older", "700", cc, "max-age=600"),
			used("upper case, younger", "50", cc, "MAX-AGE=600"),
			used("quoted, younger", "50", cc, `max-age="600"`),
			asked("quoted, older", "700", cc, `max-age="600"`),
			used("beyond 2³¹", "50", cc, "max-age=99999999999"),
			asked("stale, but younger", "3700", cc, "max-age=7200"),
		}},
		{"RFC 9111 §5.2.1.3 min-fresh", []row{
			used("fresh for longer", "600", cc, "min-fresh=600"),
			asked("fresh for less", "3300", cc, "min-fresh=600"),
			asked("fresh for less than any", "0", cc, "min-fresh=99999"),
			used("zero", "600", cc, "min-fresh=0"),
			asked("with max-stale it still counts", "3300", cc, "min-fresh=600, max-stale=600"),
		}},
		{"RFC 9111 §5.2.1.2 max-stale", []row{
			used("stale by less", "3700", cc, "max-stale=600"),
			asked("stale by more", "4700", cc, "max-stale=600"),
			used("without a number", "4700", cc, "max-stale"),
			used("fresh", "0", cc, "max-stale=600"),
			asked("a word is none", "3700", cc, "max-stale=foo"),
			used("with a max-age that is met", "3700", cc, "max-stale=600, max-age=7200"),
			asked("with a max-age that is not met", "3700", cc, "max-stale=600, max-age=600"),
			test("the answer says that it is stale", origins(tagged("3700")), get().miss(), get(cc, "max-stale=600").hit().ttl(-200, -100).age(3700)),
			test("not with must-revalidate", origins(with(cc, "max-age=60, must-revalidate", "Age", "70", "ETag", `"a"`), confirmed),
				get().miss(), get(cc, "max-stale=600").validated(1)),
			test("not with proxy-revalidate", origins(with(cc, "max-age=60, proxy-revalidate", "Age", "70", "ETag", `"a"`), confirmed),
				get().miss(), get(cc, "max-stale=600").validated(1)),
			test("not with s-maxage", origins(with(cc, "s-maxage=60", "Age", "70", "ETag", `"a"`), confirmed),
				get().miss(), get(cc, "max-stale=600").validated(1)),
			test("not with no-cache", origins(with(cc, "max-age=60, no-cache", "Age", "70", "ETag", `"a"`), confirmed),
				get().miss(), get(cc, "max-stale=600").validated(1)),
		}},
		{"RFC 9111 §5.2.1.7 only-if-cached", []row{
			test("nothing stored", origins(good), get(cc, "only-if-cached").asks(0).status(504)),
			test("upper case", origins(good), get(cc, "Only-If-Cached").asks(0).status(504)),
			test("fresh", origins(good), get().miss(), get(cc, "only-if-cached").hit()),
			test("stale", origins(expired()), get().miss(), get(cc, "only-if-cached").asks(0).status(504)),
			test("stale, with max-stale", origins(expired()), get().miss(), get(cc, "only-if-cached, max-stale=600").hit()),
			test("another variant", origins(with(cc, "max-age=3600", "Vary", "A")), get("A", "1").miss(), get(cc, "only-if-cached", "A", "2").asks(0).status(504)),
			test("with no-cache", origins(good), get().miss(), get(cc, "only-if-cached, no-cache").asks(0).status(504)),
			test("HEAD, nothing stored", origins(good), head(cc, "only-if-cached").asks(0).status(504)),
			test("nothing is stored by it", origins(good), get(cc, "only-if-cached").asks(0).status(504), get().miss()),
		}},
		{"RFC 9111 §5.2.1 what does not count", []row{
			used("an unknown directive", "0", cc, "foo"),
			used("no-transform", "0", cc, "no-transform"),
			used("a response's directive", "0", cc, "private, must-revalidate, s-maxage=0"),
			used("an empty field", "0", cc, ""),
			used("Expires of a request", "0", "Expires", "0"),
			used("Age of a request", "0", "Age", "9999"),
		}},
	}
}

// profileRows are what the default profile does otherwise, by caution.
func profileRows() []section {
	const cc = "Cache-Control"
	good := with(cc, "max-age=3600")
	safe := func(rows ...row) []row {
		for i := range rows {
			rows[i] = rows[i].at(siteSafe)
		}
		return rows
	}
	return []section{
		{"profile safe: directives of clients are ignored", safe(
			test("no-cache", origins(good), get().miss(), get(cc, "no-cache").hit()),
			test("no-store", origins(good), get(cc, "no-store").miss(), get().hit()),
			test("max-age", origins(good), get().miss(), get(cc, "max-age=0").hit()),
			test("max-stale", origins(expired()), get().miss(), get(cc, "max-stale").miss()),
			test("only-if-cached", origins(good), get(cc, "only-if-cached").miss()),
			test("Pragma", origins(good), get().miss(), get("Pragma", "no-cache").hit()),
		)},
		{"profile safe: Set-Cookie is not shared", safe(
			stale("with max-age", cc, "max-age=3600", "Set-Cookie", "a=1"),
			stale("with public", cc, "public, max-age=3600", "Set-Cookie", "a=1"),
			test("but what no-cache takes out", origins(with(cc, `max-age=3600, no-cache="Set-Cookie"`, "Set-Cookie", "a=1")),
				get().miss().has("Set-Cookie", "a=1"), get().hit().lacks("Set-Cookie")),
		)},
		{"profile safe: heuristics for success only", safe(
			fresh("200", "Last-Modified", in(-300*time.Hour)),
			fresh("301", "Last-Modified", in(-300*time.Hour)).status(301),
			stale("404", "Last-Modified", in(-300*time.Hour)).status(404),
			stale("410", "Last-Modified", in(-300*time.Hour)).status(410),
			test("501", origins(with("Last-Modified", in(-300*time.Hour)).is(501), with("Cache-Control", "max-age=3600")), get().miss(), get().miss()),
			fresh("404 with max-age", cc, "max-age=3600").status(404),
		)},
		{"profile safe: the rules are the same", safe(
			fresh("max-age", cc, "max-age=3600"),
			stale("private", cc, "private, max-age=3600"),
			stale("no freshness"),
			test("validation", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)), get().miss(), get().validated(1), get().hit()),
			test("a condition", origins(with(cc, "max-age=3600", "ETag", `"a"`)), get().miss(), get("If-None-Match", `"a"`).hit().status(304)),
			test("a range", origins(with(cc, "max-age=3600").saying("0123456789")), get().miss(), get("Range", "bytes=2-3").hit().partOf("bytes 2-3/10", "23")),
			test("Vary", origins(with(cc, "max-age=3600", "Vary", "A")), get("A", "1").miss(), get("A", "2").miss(), get("A", "1").hit()),
			test("No-Vary-Search does not count", origins(with(cc, "max-age=3600", "No-Vary-Search", "params")), getAt("?a=1").miss(), getAt("?a=2").miss()),
		)},
	}
}
