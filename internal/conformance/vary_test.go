package conformance

import (
	"fmt"
	"time"
)

// varyRows are about which stored response a request selects.
func varyRows() []section {
	by := func(vary ...string) answer {
		fields := []string{"Cache-Control", "max-age=3600"}
		for _, v := range vary {
			fields = append(fields, "Vary", v)
		}
		return with(fields...)
	}
	never := func(name string, vary ...string) row {
		return test(name, origins(by(vary...)), get("A", "1").miss(), get("A", "1").miss(), get().miss())
	}
	same := func(name, vary string, first, second []string) row {
		return test(name, origins(by(vary)), get(first...).miss(), get(second...).hit())
	}
	other := func(name, vary string, first, second []string) row {
		return test(name, origins(by(vary)), get(first...).miss(), get(second...).miss(), get(first...).hit(), get(second...).hitOf(2))
	}
	f := func(fields ...string) []string { return fields }
	return []section{
		{"RFC 9111 §4.1 Vary", []row{
			same("the same value", "A", f("A", "1"), f("A", "1")),
			other("another value", "A", f("A", "1"), f("A", "2")),
			other("no value, then one", "A", f(), f("A", "1")),
			other("a value, then none", "A", f("A", "1"), f()),
			same("no value twice", "A", f(), f()),
			same("a field that Vary does not name", "A", f("A", "1", "B", "1"), f("A", "1", "B", "2")),
			other("a value that the first begins with", "A", f("A", "12"), f("A", "1")),
			other("case counts where it is not known not to", "A", f("A", "x"), f("A", "X")),
			other("order counts where it is not known not to", "A", f("A", "1, 2"), f("A", "2, 1")),
			same("several fields", "A, B", f("A", "1", "B", "2"), f("A", "1", "B", "2")),
			other("several fields, one differs", "A, B", f("A", "1", "B", "2"), f("A", "1", "B", "3")),
			other("several fields, the values change places", "A, B", f("A", "1", "B", "2"), f("A", "2", "B", "1")),
			other("several fields, one is missing", "A, B", f("A", "1", "B", "2"), f("A", "1")),
			same("several fields, one missing twice", "A, B", f("A", "1"), f("A", "1")),
			same("the name in another case", "a", f("A", "1"), f("A", "1")),
			other("the name in another case, another value", "aA-bB", f("Aa-Bb", "1"), f("Aa-Bb", "2")),
			same("empty", "", f("A", "1"), f("A", "2")),
			same("empty members", ", A,,", f("A", "1"), f("A", "1")),
			other("empty members, another value", ", A,,", f("A", "1"), f("A", "2")),
			other("no white space", "B,A", f("A", "1"), f("A", "2")),
			same("a field that no request has", "X-Never", f(), f("A", "2")),
			same("Vary on Host", "Host", f(), f()),
			other("Vary on Cookie", "Cookie", f("Cookie", "a=1"), f("Cookie", "a=2")),
			other("Vary on User-Agent", "User-Agent", f("User-Agent", "a"), f("User-Agent", "b")),
			other("Vary on Accept", "Accept", f("Accept", "text/html"), f("Accept", "application/json")),
			test("two lines, both count", origins(by("A", "B")),
				get("A", "1", "B", "1").miss(), get("A", "1", "B", "2").miss(), get("A", "2", "B", "1").miss(), get("A", "1", "B", "1").hit()),
			test("the response has its Vary", origins(by("A, B")), get("A", "1").miss(), get("A", "1").hit().has("Vary", "A, B")),
			test("a 404 varies", origins(by("A").is(404)), get("A", "1").miss(), get("A", "1").hit(), get("A", "2").miss()),
			test("a HEAD selects as a GET", origins(by("A")), get("A", "1").miss(), head("A", "1").hit(), head("A", "2").miss()),
			test("the miss is told", origins(by("A")), get("A", "1").miss().says("fwd=uri-miss"), get("A", "2").miss().says("fwd=vary-miss")),
		}},
		{"RFC 9111 §4.1 Vary: *", []row{
			never("alone", "*"),
			never("first of a list", "*, A"),
			never("last of a list", "A, *"),
			never("amid a list", "A, *, B"),
			never("on the first line", "*", "A"),
			never("on the last line", "A", "*"),
			never("after an empty member", ", *"),
			never("white space around", "  *  "),
			test("a stored variant is not touched by it", origins(by("A"), by("*")),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "2").miss(), get("A", "1").hit()),
		}},
		{"RFC 9111 §4.1 normalizing", []row{
			same("two lines are a list", "A", f("A", "1", "A", "2"), f("A", "1, 2")),
			same("a list is two lines", "A", f("A", "1, 2"), f("A", "1", "A", "2")),
			same("white space between members", "A", f("A", "1,2"), f("A", "1 ,\t 2")),
			same("white space around the value", "A", f("A", "1"), f("A", "  1  ")),
			other("lines in another order", "A", f("A", "1", "A", "2"), f("A", "2", "A", "1")),
			other("a comma in quotes is no separator", "A", f("A", `"1,2"`), f("A", `"1, 2"`)),
			test("the order of the names of Vary", origins(by("A, B"), by("B, A")),
				get("A", "1", "B", "1").miss(), get("A", "2", "B", "1").miss(), get("A", "1", "B", "1").hit(), get("A", "2", "B", "1").hitOf(2)),
			test("a name twice", origins(by("A, a, A")), get("A", "1").miss(), get("A", "1").hit(), get("A", "2").miss()),
		}},
		{"RFC 9111 §4.1 many variants", []row{
			test("three", origins(by("A")),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "3").miss(),
				get("A", "1").hitOf(1), get("A", "2").hitOf(2), get("A", "3").hitOf(3)),
			test("three of two fields", origins(by("A, B")),
				get("A", "1", "B", "1").miss(), get("A", "1", "B", "2").miss(), get("A", "2", "B", "1").miss(),
				get("A", "2", "B", "1").hitOf(3), get("A", "1", "B", "2").hitOf(2), get("A", "1", "B", "1").hitOf(1), get("A", "2", "B", "2").miss()),
			test("each is as fresh as it says", origins(by("A"), with("Cache-Control", "max-age=0", "Vary", "A")),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "1").hit(), get("A", "2").miss()),
			test("each has its status", origins(by("A"), by("A").is(404)),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "1").hit(), get("A", "2").hitOf(2)),
			test("Vary differs between them", origins(by("A"), by("B")),
				get("A", "1", "B", "9").miss(), get("A", "2", "B", "1").miss(),
				get("A", "1", "B", "8").hitOf(1), get("A", "3", "B", "1").hitOf(2), get("A", "3", "B", "7").miss()),
			test("32 are kept", origins(by("A")), manyVariants(32)...),
			test("of 33, the one used least recently goes", origins(by("A")), append(manyVariants(32),
				get("A", "1").after(30*time.Millisecond).hitOf(1),
				get("A", "33").miss(),
				get("A", "1").hitOf(1), get("A", "3").hitOf(3), get("A", "32").hitOf(32), get("A", "33").hitOf(33),
				get("A", "2").miss())...),
		}},
	}
}

// manyVariants makes n variants, and asks for each again.
func manyVariants(n int) (steps []*step) {
	for i := 1; i <= n; i++ {
		steps = append(steps, get("A", fmt.Sprint(i)).miss())
	}
	for i := 1; i <= n; i++ {
		steps = append(steps, get("A", fmt.Sprint(i)).hitOf(i))
	}
	return steps
}

// negotiationRows are about fields of which it is known what they mean.
func negotiationRows() []section {
	by := func(field string, more ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=3600", "Vary", field}, more...)...)
	}
	pair := func(field string) (same, other func(name, first, second string) row) {
		same = func(name, first, second string) row {
			return test(name, origins(by(field)), get(field, first).miss(), get(field, second).hit())
		}
		other = func(name, first, second string) row {
			return test(name, origins(by(field)), get(field, first).miss(), get(field, second).miss(), get(field, first).hit(), get(field, second).hitOf(2))
		}
		return same, other
	}
	sameE, otherE := pair("Accept-Encoding")
	sameL, otherL := pair("Accept-Language")
	in := func(name, stored, first, second string, hits bool) row {
		s := get("Accept-Language", second).miss()
		if hits {
			s = get("Accept-Language", second).hit()
		}
		return test(name, origins(by("Accept-Language", "Content-Language", stored)), get("Accept-Language", first).miss(), s)
	}
	return []section{
		{"RFC 9110 §12.5.3 Accept-Encoding", []row{
			sameE("order", "gzip, br", "br, gzip"),
			sameE("case", "gzip, br", "GZIP, Br"),
			sameE("white space", "gzip,br", "gzip ,  br"),
			sameE("a weight of one", "gzip, br", "gzip;q=1.0, br;q=1"),
			sameE("zeros of a weight", "gzip;q=0.5, br", "br, gzip;q=0.500"),
			sameE("white space before the weight", "gzip;q=0.5", "gzip ; q=0.5"),
			otherE("one more", "gzip", "gzip, br"),
			otherE("another weight", "gzip, br", "gzip, br;q=0.5"),
			otherE("refused", "gzip", "gzip;q=0"),
			otherE("identity alone", "gzip", "identity"),
			test("absent is not empty", origins(by("Accept-Encoding")), get().miss(), get("Accept-Encoding", "").miss(), get().hit()),
		}},
		{"RFC 9110 §12.5.4 Accept-Language", []row{
			sameL("case", "en-GB, de", "EN-gb, DE"),
			sameL("white space", "en,de", "en ,  de"),
			sameL("order by weight", "en;q=0.5, de", "de, en;q=0.5"),
			sameL("a weight of one", "en, de;q=0.5", "en;q=1.000, de;q=0.5"),
			otherL("another language", "en", "de"),
			otherL("weights change places", "en, de;q=0.5", "de, en;q=0.5"),
			otherL("a range of it", "en", "en-GB"),
			in("the stored language is the best", "de", "de", "de, en;q=0.5", true),
			in("the stored language is the best by its weight", "de", "de", "en;q=0.5, de;q=0.9", true),
			in("a range of the stored language is the best", "de-AT", "de-AT", "de, en;q=0.5", true),
			in("the stored language in another case", "DE", "de", "de, en;q=0.5", true),
			in("the stored language is not the best", "de", "de", "en, de;q=0.5", false),
			in("the stored language is not asked for", "de", "de", "en", false),
			in("the stored language is refused", "de", "de", "de;q=0, en", false),
			in("something that begins like it", "den", "den", "de", false),
			in("several stored languages", "de, en", "de", "en", false),
			test("not where another field differs", origins(with("Cache-Control", "max-age=3600", "Vary", "Accept-Language, A", "Content-Language", "de")),
				get("Accept-Language", "de", "A", "1").miss(), get("Accept-Language", "de, en;q=0.5", "A", "2").miss()),
		}},
	}
}
