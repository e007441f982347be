package conformance

import "time"

// conditionRows are about the conditions of clients, which the cache evaluates.
func conditionRows() []section {
	const h = time.Hour
	stored := func(fields ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=3600"}, fields...)...)
	}
	// yes is the row of a request that is answered with 304 from what is stored,
	// no that of one that is answered whole.
	yes := func(name string, fields []string, condition ...string) row {
		return test(name, origins(stored(fields...)), get().miss(), get(condition...).hit().status(304))
	}
	no := func(name string, fields []string, condition ...string) row {
		return test(name, origins(stored(fields...)), get().miss(), get(condition...).hit())
	}
	f := func(fields ...string) []string { return fields }
	strong, weak := f("ETag", `"a"`), f("ETag", `W/"a"`)
	modified := f("Last-Modified", in(-10*h))
	const inm, ims = "If-None-Match", "If-Modified-Since"
	return []section{
		{"RFC 9110 §13.1.2 If-None-Match", []row{
			yes("strong and strong", strong, inm, `"a"`),
			yes("strong and weak", strong, inm, `W/"a"`),
			yes("weak and strong", weak, inm, `"a"`),
			yes("weak and weak", weak, inm, `W/"a"`),
			yes("first of a list", strong, inm, `"a", "b", "c"`),
			yes("last of a list", strong, inm, `"b", "c", "a"`),
			yes("amid a list without white space", strong, inm, `"b","a","c"`),
			yes("weak in a list", strong, inm, `"b", W/"a"`),
			yes("on a second line", strong, inm, `"b"`, inm, `"a"`),
			yes("after an empty member", strong, inm, `, "a"`),
			yes("*", strong, inm, "*"),
			yes("* without a stored tag", nil, inm, "*"),
			yes("an empty tag", f("ETag", `""`), inm, `""`),
			yes("a tag with a comma", f("ETag", `"a,b"`), inm, `"x", "a,b"`),
			yes("a tag with a space", f("ETag", `"a b"`), inm, `"a b"`),
			yes("a tag with a backslash", f("ETag", `"a\b"`), inm, `"x\", "a\b"`),
			yes("a tag without quotes", f("ETag", "a"), inm, "a"),
			no("another tag", strong, inm, `"b"`),
			no("another case", strong, inm, `"A"`),
			no("another list", strong, inm, `"b", "c"`),
			no("a part of a tag with a comma", f("ETag", `"a,b"`), inm, `"a`),
			no("a longer tag", strong, inm, `"aa"`),
			no("a lower-case w", strong, inm, `w/"a"`),
			no("no stored tag", modified, inm, `"a"`),
			no("an asterisk in quotes", strong, inm, `"*"`),
		}},
		{"RFC 9110 §13.1.3 If-Modified-Since", []row{
			yes("the same date", modified, ims, in(-10*h)),
			yes("a later date", modified, ims, in(-5*h)),
			yes("now", modified, ims, in(0)),
			yes("RFC 850", modified, ims, dateAs(rfc850, -10*h)),
			yes("asctime", modified, ims, dateAs(asctime, -10*h)),
			yes("RFC 850, later", modified, ims, dateAs(rfc850, -5*h)),
			yes("a stored RFC 850 date", f("Last-Modified", dateAs(rfc850, -10*h)), ims, in(-10*h)),
			yes("a stored asctime date", f("Last-Modified", dateAs(asctime, -10*h)), ims, in(-10*h)),
			no("an earlier date", modified, ims, in(-20*h)),
			no("a second earlier", modified, ims, in(-10*h-time.Second)),
			no("RFC 850, earlier", modified, ims, dateAs(rfc850, -20*h)),
			no("no date", modified, ims, "foo"),
			no("a date of another zone", modified, ims, in(0)[:26]+"EST"),
			no("two dates", modified, ims, in(-5*h), ims, in(-5*h)),
		}},
		{"RFC 9111 §4.3.2 If-Modified-Since without Last-Modified", []row{
			yes("the Date", f("Date", in(-10*time.Minute)), ims, in(-10*time.Minute)),
			yes("later than the Date", f("Date", in(-10*time.Minute)), ims, in(-5*time.Minute)),
			no("earlier than the Date", f("Date", in(-10*time.Minute)), ims, in(-20*time.Minute)),
			no("Last-Modified counts before Date", f("Last-Modified", in(-5*time.Minute), "Date", in(-10*time.Minute)), ims, in(-10*time.Minute)),
			yes("a tag does not matter", f("ETag", `"a"`, "Last-Modified", in(-10*h)), ims, in(-10*h)),
		}},
		{"RFC 9110 §13.2.2 precedence", []row{
			yes("a matching tag before an earlier date", f("ETag", `"a"`, "Last-Modified", in(-10*h)), inm, `"a"`, ims, in(-20*h)),
			no("another tag before a later date", f("ETag", `"a"`, "Last-Modified", in(-10*h)), inm, `"b"`, ims, in(-5*h)),
			no("a tag where none is stored before a later date", modified, inm, `"a"`, ims, in(-5*h)),
			yes("a condition before Range", strong, inm, `"a"`, "Range", "bytes=0-1"),
		}},
		{"RFC 9110 §13.2.1 conditions count for success only", []row{
			test("404", origins(stored(strong...).is(404)), get().miss(), get(inm, `"a"`).hit()),
			test("301", origins(stored("ETag", `"a"`, "Location", "/there").is(301)), get().miss(), get(inm, `"a"`).hit()),
			test("404, by date", origins(stored(modified...).is(404)), get().miss(), get(ims, in(0)).hit()),
			test("203", origins(stored(strong...).is(203)), get().miss(), get(inm, `"a"`).hit().status(304)),
			test("HEAD", origins(stored(strong...)), get().miss(), head(inm, `"a"`).hit().status(304)),
		}},
		{"RFC 9110 §15.4.5 fields of a 304", []row{
			test("those of the 200", origins(stored("ETag", `"a"`, "Expires", in(h), "Vary", "A", "Content-Location", "/x", "Date", in(-time.Minute))),
				get().miss(), get(inm, `"a"`).hit().status(304).
					has("ETag", `"a"`, "Expires", in(h), "Cache-Control", "max-age=3600", "Vary", "A", "Content-Location", "/x", "Date", in(-time.Minute))),
			test("no metadata besides", origins(stored("ETag", `"a"`, "Last-Modified", in(-10*h), "Content-Type", "text/x", "Content-Language", "de", "Content-Encoding", "x")),
				get().miss(), get(inm, `"a"`).hit().status(304).lacks("Content-Type", "Content-Language", "Content-Encoding", "Content-Length", "Last-Modified")),
			test("Last-Modified where there is no tag", origins(stored(modified...)),
				get().miss(), get(ims, in(0)).hit().status(304).has("Last-Modified", in(-10*h))),
			test("Cache-Status says that it was a hit", origins(stored(strong...)), get().miss(), get(inm, `"a"`).hit().status(304).says("hit")),
		}},
		{"RFC 9111 §4.3.2 conditions that are not the cache's", []row{
			test("If-Match goes to the origin", origins(stored(strong...), stored().is(412)),
				get().miss(), get("If-Match", `"b"`).miss().status(412).sent("If-Match", `"b"`)),
			test("If-Unmodified-Since goes to the origin", origins(stored(modified...), stored()),
				get().miss(), get("If-Unmodified-Since", in(-5*h)).miss().sent("If-Unmodified-Since", in(-5*h))),
			test("If-Match leaves what is stored alone", origins(stored(strong...), with("Cache-Control", "no-store").is(412)),
				get().miss(), get("If-Match", `"b"`).miss(), get().hit()),
		}},
		{"RFC 9111 §4.3 conditions of a client on a miss", []row{
			test("the response is fetched whole, and stored", origins(stored(strong...)),
				get(inm, `"b"`).miss().unsent(inm), get().hit()),
			test("and is not sent to who has it", origins(stored(strong...)),
				get(inm, `"a"`).asks(1).status(304).unsent(inm), get().hit()),
			test("by date", origins(stored(modified...)),
				get(ims, in(0)).asks(1).status(304).unsent(ims), get().hit()),
			test("a part is not asked for in their place", origins(stored(strong...)),
				get(inm, `"b"`, ims, in(-20*h)).miss().unsent(inm, ims), get(inm, `"a"`).hit().status(304)),
		}},
	}
}
