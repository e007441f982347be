package conformance

import "time"

// storingRows are about the directives that forbid to store, or to use.
func storingRows() []section {
	return []section{
		{"RFC 9111 §5.2.2.5 no-store", []row{
			stale("alone", "Cache-Control", "no-store"),
			stale("after max-age", "Cache-Control", "max-age=3600, no-store"),
			stale("before max-age", "Cache-Control", "no-store, max-age=3600"),
			stale("upper case", "Cache-Control", "NO-STORE, max-age=3600"),
			stale("mixed case", "Cache-Control", "No-StOrE, max-age=3600"),
			stale("no white space", "Cache-Control", "max-age=3600,no-store"),
			stale("on the first line", "Cache-Control", "no-store", "Cache-Control", "max-age=3600"),
			stale("on the last line", "Cache-Control", "max-age=3600", "Cache-Control", "no-store"),
			stale("after something quoted", "Cache-Control", `foo="bar", max-age=3600, no-store`),
			stale("with an argument that it does not have", "Cache-Control", "no-store=foo, max-age=3600"),
			stale("with public", "Cache-Control", "public, no-store, max-age=3600"),
			stale("with Expires", "Expires", in(time.Hour), "Cache-Control", "no-store"),
			test("nothing is left to validate", origins(with("Cache-Control", "no-store", "ETag", `"a"`)),
				get().miss(), get().miss().unsent("If-None-Match")),
			test("a 404", origins(with("Cache-Control", "max-age=3600, no-store").is(404)), get().miss(), get().miss()),
			test("what was stored before stays", origins(with("Cache-Control", "max-age=3600", "Vary", "A"), with("Cache-Control", "no-store", "Vary", "A")),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "1").hit(), get("A", "2").miss()),
		}},
		{"RFC 9111 §5.2.2.7 private", []row{
			stale("alone", "Cache-Control", "private"),
			stale("with max-age", "Cache-Control", "private, max-age=3600"),
			stale("upper case", "Cache-Control", "PRIVATE, max-age=3600"),
			stale("with Expires", "Expires", in(time.Hour), "Cache-Control", "private"),
			stale("with an empty list of fields", "Cache-Control", `private="", max-age=3600`),
			test("nothing is left to validate", origins(with("Cache-Control", "private", "ETag", `"a"`)),
				get().miss(), get().miss().unsent("If-None-Match")),
			test("a list of one field", origins(with("Cache-Control", `private="X-A", max-age=3600`, "X-A", "1", "X-B", "2")),
				get().miss().has("X-A", "1"), get().hit().lacks("X-A").has("X-B", "2")),
			test("a list of fields in any case", origins(with("Cache-Control", `private="x-a,X-B", max-age=3600`, "X-A", "1", "X-B", "2", "X-C", "3")),
				get().miss(), get().hit().lacks("X-A", "X-B").has("X-C", "3")),
			test("a list with white space", origins(with("Cache-Control", `private=" X-A ,  X-B ", max-age=3600`, "X-A", "1", "X-B", "2", "X-C", "3")),
				get().miss(), get().hit().lacks("X-A", "X-B").has("X-C", "3")),
			test("a list, and no list", origins(with("Cache-Control", `private="X-A", private, max-age=3600`)),
				get().miss(), get().miss()),
			test("a list with Set-Cookie", origins(with("Cache-Control", `private="Set-Cookie", max-age=3600`, "Set-Cookie", "a=1")),
				get().miss().has("Set-Cookie", "a=1"), get().hit().lacks("Set-Cookie")),
		}},
		{"RFC 9111 §5.2.2.4 no-cache", []row{
			stale("alone", "Cache-Control", "no-cache"),
			stale("with max-age", "Cache-Control", "max-age=3600, no-cache"),
			stale("upper case", "Cache-Control", "NO-CACHE, max-age=3600"),
			stale("with s-maxage", "Cache-Control", "s-maxage=3600, no-cache"),
			stale("with an empty list of fields", "Cache-Control", `no-cache="", max-age=3600`),
			test("it is validated", origins(with("Cache-Control", "no-cache, max-age=3600", "ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(),
				get().validated(1).sent("If-None-Match", `"a"`).says("fwd=stale", "fwd-status=304"),
				get().validated(1).sent("If-None-Match", `"a"`)),
			test("a list of one field", origins(with("Cache-Control", `no-cache="X-A", max-age=3600`, "X-A", "1", "X-B", "2")),
				get().miss().has("X-A", "1"), get().hit().lacks("X-A").has("X-B", "2")),
			test("a list of fields", origins(with("Cache-Control", `max-age=3600, no-cache="X-A, x-b"`, "X-A", "1", "X-B", "2", "X-C", "3")),
				get().miss(), get().hit().lacks("X-A", "X-B").has("X-C", "3")),
			test("a list with Set-Cookie", origins(with("Cache-Control", `no-cache="Set-Cookie", max-age=3600`, "Set-Cookie", "a=1", "Set-Cookie", "b=2")),
				get().miss().has("Set-Cookie", "a=1, b=2"), get().hit().lacks("Set-Cookie")),
			test("a list, and no list", origins(with("Cache-Control", `no-cache="X-A", max-age=3600, no-cache`)),
				get().miss(), get().miss()),
		}},
		{"RFC 9111 §5.2.2.3 must-understand", []row{
			fresh("a status that is understood, with no-store", "Cache-Control", "must-understand, no-store, max-age=3600"),
			fresh("the other order", "Cache-Control", "max-age=3600, no-store, must-understand"),
			fresh("on another line", "Cache-Control", "no-store, max-age=3600", "Cache-Control", "must-understand"),
			fresh("404", "Cache-Control", "must-understand, no-store, max-age=3600").status(404),
			fresh("without no-store", "Cache-Control", "must-understand, max-age=3600"),
			test("299, with no-store", origins(with("Cache-Control", "must-understand, no-store, max-age=3600").is(299)), get().miss(), get().miss()),
			test("299, without no-store", origins(with("Cache-Control", "must-understand, max-age=3600").is(299)), get().miss(), get().miss()),
			test("499", origins(with("Cache-Control", "must-understand, max-age=3600").is(499)), get().miss(), get().miss()),
			test("599", origins(with("Cache-Control", "must-understand, no-store, max-age=3600").is(599)), get().miss(), get().miss()),
			stale("with private", "Cache-Control", "must-understand, no-store, private, max-age=3600"),
			stale("in quotes", "Cache-Control", `foo="must-understand", no-store, max-age=3600`),
		}},
		{"RFC 9111 §5.2.2.6 no-transform", []row{
			test("what is stored is what came", origins(with("Cache-Control", "no-transform, max-age=3600", "Content-Type", "text/html").saying("  <p>  a  </p>  ")),
				get().miss(), get().hit().has("Content-Type", "text/html")),
		}},
		{"RFC 6265 and RFC 9111 §7.3 Set-Cookie", []row{
			test("is stored where nothing forbids it", origins(with("Cache-Control", "max-age=3600", "Set-Cookie", "a=1")),
				get().miss().has("Set-Cookie", "a=1"), get().hit().has("Set-Cookie", "a=1")),
		}},
	}
}

// authorizationRows are about requests with Authorization.
func authorizationRows() []section {
	as := func(who string) []string { return []string{"Authorization", "Basic " + who} }
	shared := func(name, cc string) row {
		return test(name, origins(with("Cache-Control", cc)),
			get(as("YQ==")...).miss(), get(as("YQ==")...).hit(), get(as("Yg==")...).hit(), get().hit())
	}
	own := func(name string, fields ...string) row {
		return test(name, origins(with(fields...)), get(as("YQ==")...).miss(), get(as("YQ==")...).miss(), get(as("Yg==")...).miss())
	}
	return []section{
		{"RFC 9111 §3.5 Authorization", []row{
			own("max-age is no permission", "Cache-Control", "max-age=3600"),
			own("Expires is no permission", "Expires", in(time.Hour)),
			own("nor is a heuristic", "Last-Modified", in(-300*time.Hour)),
			own("Vary is no permission", "Cache-Control", "max-age=3600", "Vary", "Authorization"),
			own("nor is proxy-revalidate", "Cache-Control", "max-age=3600, proxy-revalidate"),
			own("nor is an invalid s-maxage", "Cache-Control", "max-age=3600, s-maxage=foo"),
			own("nor is public in quotes", "Cache-Control", `max-age=3600, foo="public"`),
			own("private, with public", "Cache-Control", "max-age=3600, public, private"),
			shared("public", "public, max-age=3600"),
			shared("public in upper case", "PUBLIC, max-age=3600"),
			shared("s-maxage", "s-maxage=3600"),
			shared("must-revalidate", "must-revalidate, max-age=3600"),
			test("not for a client without it either", origins(with("Cache-Control", "max-age=3600")),
				get(as("YQ==")...).miss(), get().miss()),
			test("s-maxage, stale, is validated", origins(with("Cache-Control", "s-maxage=10", "Age", "20", "ETag", `"a"`), not304("ETag", `"a"`)),
				get(as("YQ==")...).miss(), get(as("Yg==")...).validated(1).sent("Authorization", "Basic Yg==", "If-None-Match", `"a"`)),
			test("what was stored for a client without it is for all", origins(with("Cache-Control", "max-age=3600")),
				get().miss(), get(as("YQ==")...).hit()),
			test("it goes to the origin", origins(with("Cache-Control", "no-store")), get(as("YQ==")...).miss().sent("Authorization", "Basic YQ==")),
			test("public and Vary", origins(with("Cache-Control", "public, max-age=3600", "Vary", "Authorization")),
				get(as("YQ==")...).miss(), get(as("YQ==")...).hit(), get(as("Yg==")...).miss()),
		}},
	}
}
