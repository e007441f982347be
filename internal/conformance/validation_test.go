package conformance

import "time"

// expired are fields of a response that is stale when it comes, by ten seconds.
func expired(fields ...string) answer {
	return with(append([]string{"Cache-Control", "max-age=60", "Age", "70"}, fields...)...)
}

// validationRows are about asking the origin whether a stale response is still
// good.
func validationRows() []section {
	const h = time.Hour
	const inm, ims = "If-None-Match", "If-Modified-Since"
	modified := in(-10 * h)
	newer := with("Cache-Control", "max-age=3600", "ETag", `"b"`)
	return []section{
		{"RFC 9111 §4.3.1 conditional requests", []row{
			test("by entity tag", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get().validated(1).sent(inm, `"a"`).unsent(ims)),
			test("by a weak entity tag", origins(expired("ETag", `W/"a"`), not304("ETag", `W/"a"`)),
				get().miss(), get().validated(1).sent(inm, `W/"a"`)),
			test("by an entity tag without quotes", origins(expired("ETag", "a"), not304("ETag", "a")),
				get().miss(), get().validated(1).sent(inm, "a")),
			test("by date", origins(expired("Last-Modified", modified), not304("Last-Modified", modified)),
				get().miss(), get().validated(1).sent(ims, modified).unsent(inm)),
			test("by an RFC 850 date, as it came", origins(expired("Last-Modified", dateAs(rfc850, -10*h)), not304()),
				get().miss(), get().validated(1).sent(ims, dateAs(rfc850, -10*h))),
			test("by both", origins(expired("ETag", `"a"`, "Last-Modified", modified), not304("ETag", `"a"`)),
				get().miss(), get().validated(1).sent(inm, `"a"`, ims, modified)),
			test("by nothing", origins(expired()), get().miss(), get().miss().unsent(inm, ims)),
			test("not by an invalid date", origins(expired("Last-Modified", "foo")), get().miss(), get().miss().unsent(ims)),
			test("with what Vary nominates", origins(expired("ETag", `"a"`, "Vary", "A, B"), not304("ETag", `"a"`)),
				get("A", "1", "B", "2").miss(), get("A", "1", "B", "2").validated(1).sent(inm, `"a"`, "A", "1", "B", "2")),
			test("each variant by its own", origins(expired("ETag", `"a"`, "Vary", "A"), expired("ETag", `"b"`, "Vary", "A"), not304()),
				get("A", "1").miss(), get("A", "2").miss(),
				get("A", "1").validated(1).sent(inm, `"a"`), get("A", "2").validated(2).sent(inm, `"b"`)),
			test("with what the client sends besides", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get("Accept", "text/x", "Cookie", "a=1").validated(1).sent("Accept", "text/x", "Cookie", "a=1")),
			test("not what is no success", origins(expired("ETag", `"a"`, "Last-Modified", modified).is(404)),
				get().miss(), get().miss().unsent(inm, ims)),
			test("Cache-Status tells of it", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get().validated(1).says("fwd=stale", "fwd-status=304", "!hit")),
		}},
		{"RFC 9111 §4.3.1 the client's validators", []row{
			test("are replaced", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get(inm, `"x"`).validated(1).sent(inm, `"a"`)),
			test("a date is left out", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get(inm, `"x"`, ims, in(0)).validated(1).sent(inm, `"a"`).unsent(ims)),
			test("get a 304 where they match", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get(inm, `"a"`).asks(1).status(304)),
			test("get a 304 where they match what is new", origins(expired("ETag", `"a"`), newer),
				get().miss(), get(inm, `"b"`).asks(1).status(304).sent(inm, `"a"`), get().hitOf(2)),
			test("are not sent where nothing can be validated", origins(expired()),
				get().miss(), get(inm, `"x"`).miss().unsent(inm)),
		}},
		{"RFC 9111 §4.3.3 answers to validation", []row{
			test("304 freshens", origins(expired("ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "max-age=3600")),
				get().miss(), get().validated(1), get().hit()),
			test("304 without Cache-Control freshens by what is stored", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get().validated(1), get().hit()),
			test("304 without a validator", origins(expired("ETag", `"a"`), not304("Cache-Control", "max-age=3600")),
				get().miss(), get().validated(1), get().hit()),
			test("304 with Expires", origins(with("Expires", in(-h), "ETag", `"a"`), not304("ETag", `"a"`, "Expires", in(h))),
				get().miss(), get().validated(1), get().hit().has("Expires", in(h))),
			test("304 with an Age", origins(expired("ETag", `"a"`), not304("ETag", `"a"`, "Age", "90")),
				get().miss(), get().validated(1), get().validated(1)),
			test("304 with no freshness left", origins(expired("ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "max-age=0")),
				get().miss(), get().validated(1), get().validated(1)),
			test("200 replaces", origins(expired("ETag", `"a"`), newer),
				get().miss(), get().miss(), get().hitOf(2).has("ETag", `"b"`)),
			test("200 with the same tag replaces", origins(expired("ETag", `"a"`), with("Cache-Control", "max-age=3600", "ETag", `"a"`)),
				get().miss(), get().miss(), get().hitOf(2)),
			test("200 that may not be stored", origins(expired("ETag", `"a"`), with("Cache-Control", "no-store")),
				get().miss(), get().miss(), get().asks(1)),
			test("404 replaces", origins(expired("ETag", `"a"`), with("Cache-Control", "max-age=3600").is(404)),
				get().miss(), get().miss(), get().hitOf(2)),
			test("301 replaces", origins(expired("ETag", `"a"`), with("Cache-Control", "max-age=3600", "Location", "/there").is(301)),
				get().miss(), get().miss(), get().hitOf(2)),
			test("404 without freshness is passed on", origins(expired("ETag", `"a"`), with().is(404)), get().miss(), get().miss()),
			test("a variant's 304 leaves the others", origins(expired("ETag", `"a"`, "Vary", "A"), expired("ETag", `"b"`, "Vary", "A"), not304("ETag", `"a"`), not304("ETag", `"b"`)),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "1").validated(1), get("A", "1").hit(), get("A", "2").validated(2)),
		}},
		{"RFC 9111 §4.3.4 which response a 304 is about", []row{
			test("a strong tag, the same", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)), get().miss(), get().validated(1)),
			test("a strong tag, another", origins(expired("ETag", `"a"`), not304("ETag", `"b"`), newer),
				get().miss(), get().asks(2).sentFirst(inm, `"a"`).unsent(inm), get().hitOf(3)),
			test("a weak tag, the same", origins(expired("ETag", `W/"a"`), not304("ETag", `W/"a"`)), get().miss(), get().validated(1), get().hit()),
			test("a weak tag for a strong one", origins(expired("ETag", `"a"`), not304("ETag", `W/"a"`)), get().miss(), get().validated(1), get().hit()),
			test("a weak tag, another", origins(expired("ETag", `W/"a"`), not304("ETag", `W/"b"`), newer),
				get().miss(), get().asks(2).unsent(inm), get().hitOf(3)),
			test("a date, the same", origins(expired("Last-Modified", modified), not304("Last-Modified", modified)),
				get().miss(), get().validated(1), get().hit()),
			test("a date, another", origins(expired("Last-Modified", modified), not304("Last-Modified", in(-h)), newer),
				get().miss(), get().asks(2).unsent(ims), get().hitOf(3)),
			test("the same tag and another date", origins(expired("ETag", `"a"`, "Last-Modified", modified), not304("ETag", `"a"`, "Last-Modified", in(-h))),
				get().miss(), get().validated(1), get().hit().has("Last-Modified", in(-h))),
		}},
		{"RFC 9111 §4.3.3 failures of validation", []row{
			test("500, where nothing forbids the stale one", origins(expired("ETag", `"a"`), with().is(500)), get().miss(), get().validated(1).says("hit")),
			test("503, where nothing forbids the stale one", origins(expired("ETag", `"a"`), with().is(503)), get().miss(), get().validated(1)),
			test("500 with must-revalidate", origins(with("Cache-Control", "max-age=60, must-revalidate", "Age", "70", "ETag", `"a"`), with().is(500)),
				get().miss(), get().miss().status(500)),
			test("500 with no-cache", origins(with("Cache-Control", "no-cache", "ETag", `"a"`), with().is(500)),
				get().miss(), get().miss().status(500)),
			test("after it the origin is asked again", origins(expired("ETag", `"a"`), with().is(500), not304("ETag", `"a"`)),
				get().miss(), get().validated(1), get().validated(1).says("fwd-status=304"), get().hit()),
		}},
	}
}
