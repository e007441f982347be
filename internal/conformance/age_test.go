package conformance

import "time"

// ageRows are about the Age field and the age that is computed.
func ageRows() []section {
	const hour = "max-age=3600"
	aged := func(lines ...string) []string {
		fields := []string{"Cache-Control", hour}
		for _, l := range lines {
			fields = append(fields, "Age", l)
		}
		return fields
	}
	return []section{
		{"RFC 9111 §5.1 Age", []row{
			fresh("less than the lifetime", aged("1800")...),
			stale("the lifetime", aged("3600")...),
			stale("more than the lifetime", aged("7200")...),
			stale("leading zeros", aged("0007200")...),
			stale("2³¹", aged("2147483648")...),
			stale("2⁶⁴ and more", aged("99999999999999999999")...),
			stale("a number of fifty digits", aged("1"+zeros(49))...),
			fresh("zero", aged("0")...),
			fresh("white space around", aged("  1800  ")...),
		}},
		{"RFC 9111 §5.1 an invalid Age is ignored", []row{
			fresh("negative", aged("-7200")...),
			fresh("a fraction", aged("7200.0")...),
			fresh("a word", aged("foo")...),
			fresh("a letter before", aged("a7200")...),
			fresh("a letter after", aged("7200a")...),
			fresh("with a plus", aged("+7200")...),
			fresh("quoted", aged(`"7200"`)...),
			fresh("empty", aged("")...),
			fresh("with a parameter", aged("7200;foo=bar")...),
		}},
		{"RFC 9111 §5.1 of a list, the first member", []row{
			stale("old, then new", aged("7200, 0")...),
			fresh("new, then old", aged("0, 7200")...),
			stale("an old line, then a new one", aged("7200", "0")...),
			fresh("a new line, then an old one", aged("0", "7200")...),
			stale("old three times", aged("7200,7200,7200")...),
		}},
		{"RFC 9111 §4.2.3 the age is computed", []row{
			test("a hit has an Age", origins(with(aged()...)), get().miss(), get().hit().age(0)),
			test("from the Age that came", origins(with(aged("1800")...)), get().miss(), get().hit().age(1800)),
			test("from the Date", origins(with("Cache-Control", hour, "Date", in(-30*time.Minute))),
				get().miss(), get().hit().age(1800)),
			test("from the older of both", origins(with("Cache-Control", hour, "Date", in(-30*time.Minute), "Age", "100")),
				get().miss(), get().hit().age(1800)),
			test("from the Age if that is more", origins(with("Cache-Control", hour, "Date", in(-10*time.Minute), "Age", "1800")),
				get().miss(), get().hit().age(1800)),
			test("one Age only", origins(with(aged("100", "200")...)), get().miss(), get().hit().age(100)),
			stale("stale by its Date", "Cache-Control", hour, "Date", in(-2*time.Hour)),
			fresh("a Date in the future has no age", "Cache-Control", hour, "Date", in(2*time.Hour)),
			fresh("an invalid Date has no age", "Cache-Control", hour, "Date", "yesterday"),
			test("no Date", origins(with("Cache-Control", hour).withoutDate()), get().miss(), get().hit()),
			test("the time that the response took", origins(with("Cache-Control", "max-age=1").after(1200*time.Millisecond)),
				get().miss(), get().miss()),
			test("a HEAD has an Age", origins(with(aged("1800")...)), get().miss(), head().hit().age(1800)),
			test("a 304 has an Age", origins(with("Cache-Control", hour, "Age", "1800", "ETag", `"a"`)),
				get().miss(), get("If-None-Match", `"a"`).hit().status(304).age(1800)),
		}},
	}
}
