package conformance

import "time"

// staleRows are about using what is stale.
func staleRows() []section {
	// old is stale by forty seconds.
	old := func(more string, fields ...string) answer {
		return with(append([]string{"Cache-Control", "max-age=60" + more, "Age", "100"}, fields...)...)
	}
	good := with("Cache-Control", "max-age=3600")
	served := func(name string, first, second answer) row {
		return test(name, origins(first, second), get().miss(), get().validated(1))
	}
	failed := func(name string, first, second answer) row {
		s := get().asks(1).status(502)
		if !second.mute {
			s = get().miss()
		}
		return test(name, origins(first, second), get().miss(), s)
	}
	var errors []row
	for _, failure := range []struct {
		name   string
		answer answer
	}{
		{"500", with().is(500)}, {"502", with().is(502)}, {"503", with("Retry-After", "1").is(503)}, {"504", with().is(504)},
		{"599", with().is(599)}, {"the connection breaks off", gone()},
	} {
		name, second := failure.name, failure.answer
		errors = append(errors,
			served(name+" within the window", old(", stale-if-error=600"), second),
			failed(name+" after the window", old(", stale-if-error=10"), second),
			served(name+" where nothing forbids it", old(""), second),
			failed(name+" with must-revalidate", old(", must-revalidate"), second),
			failed(name+" with proxy-revalidate", old(", proxy-revalidate"), second),
			failed(name+" with s-maxage", with("Cache-Control", "s-maxage=60", "Age", "100", "ETag", `"a"`), second),
			failed(name+" with no-cache", with("Cache-Control", "no-cache", "ETag", `"a"`), second),
		)
	}
	return []section{
		{"RFC 9111 §4.2.4 and RFC 5861 §4 when the origin fails", errors},
		{"RFC 5861 §4 stale-if-error", []row{
			test("the window has passed by a second", origins(old(", stale-if-error=39"), with().is(503)), get().miss(), get().miss()),
			test("the window ends in a while", origins(old(", stale-if-error=60"), with().is(503)), get().miss(), get().validated(1).ttl(-60, -40)),
			test("a 404 is no error", origins(old(", stale-if-error=600"), with().is(404)), get().miss(), get().miss()),
			test("a 200 is preferred", origins(old(", stale-if-error=600"), good), get().miss(), get().miss(), get().hitOf(2)),
			test("zero", origins(old(", stale-if-error=0"), with().is(503)), get().miss(), get().miss()),
			test("a word", origins(old(", stale-if-error=foo"), with().is(503)), get().miss(), get().miss()),
			test("with must-revalidate", origins(old(", stale-if-error=600, must-revalidate"), with().is(503)), get().miss(), get().miss()),
			test("again and again", origins(old(", stale-if-error=600"), with().is(503)), get().miss(), get().validated(1), get().validated(1)),
			test("it has an Age, and no Warning", origins(old(", stale-if-error=600"), with().is(503)), get().miss(), get().validated(1).age(100).lacks("Warning")),
			test("a validator is used first", origins(old(", stale-if-error=600", "ETag", `"a"`), with().is(503)),
				get().miss(), get().validated(1).sent("If-None-Match", `"a"`)),
			test("a stored 404 is served", origins(old(", stale-if-error=600").is(404), with().is(503)), get().miss(), get().validated(1)),
			test("nothing stored, nothing served", origins(with().is(503)), get().miss()),
			test("a HEAD is served", origins(old(", stale-if-error=600"), with().is(503)), get().miss(), head().validated(1)),
			test("a condition is heeded", origins(old(", stale-if-error=600", "ETag", `"a"`), with().is(503)),
				get().miss(), get("If-None-Match", `"a"`).asks(1).status(304)),
			test("the response breaks off in its content", origins(old(", stale-if-error=600"), good.broken(4)), get().miss(), get().asks(1).breaks()),
		}},
		{"RFC 5861 §4 stale-if-error of a request", []row{
			test("within its window", origins(old(""), with().is(503)), get().miss(), get("Cache-Control", "stale-if-error=600").validated(1)),
			test("after its window", origins(old(""), with().is(503)), get().miss(), get("Cache-Control", "stale-if-error=10").miss()),
			test("with must-revalidate", origins(old(", must-revalidate"), with().is(503)), get().miss(), get("Cache-Control", "stale-if-error=600").miss()),
		}},
		{"RFC 5861 §3 stale-while-revalidate", []row{
			test("within the window", origins(old(", stale-while-revalidate=600"), good),
				get().miss(), get().hit().background(1), get().hitOf(2)),
			test("with a validator", origins(old(", stale-while-revalidate=600", "ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "max-age=3600")),
				get().miss(), get().hit().background(1).sent("If-None-Match", `"a"`), get().hit().has("Cache-Control", "max-age=3600")),
			test("what is served is stale, and says so", origins(old(", stale-while-revalidate=600"), good),
				get().miss(), get().hit().background(1).says("hit").ttl(-60, -40).age(100)),
			test("after the window", origins(old(", stale-while-revalidate=10"), good), get().miss(), get().miss(), get().hitOf(2)),
			test("after the window by a second", origins(old(", stale-while-revalidate=39"), good), get().miss(), get().miss()),
			test("zero", origins(old(", stale-while-revalidate=0"), good), get().miss(), get().miss()),
			test("a word", origins(old(", stale-while-revalidate=foo"), good), get().miss(), get().miss()),
			test("it begins when freshness ends", origins(with("Cache-Control", "max-age=2, stale-while-revalidate=600"), good),
				get().miss(), get().hit(), get().after(2200*time.Millisecond).hit().background(1), get().hitOf(2)),
			test("it ends", origins(with("Cache-Control", "max-age=1, stale-while-revalidate=1"), good),
				get().miss(), get().after(2300*time.Millisecond).miss(), get().hitOf(2)),
			test("with must-revalidate", origins(old(", stale-while-revalidate=600, must-revalidate"), good), get().miss(), get().miss()),
			test("with proxy-revalidate", origins(old(", stale-while-revalidate=600, proxy-revalidate"), good), get().miss(), get().miss()),
			test("with no-cache", origins(old(", stale-while-revalidate=600, no-cache"), good), get().miss(), get().miss()),
			test("the validation fails, and the window goes on", origins(old(", stale-while-revalidate=600"), with().is(500), good),
				get().miss(), get().hit().background(1), get().hit().background(1), get().hitOf(3)),
			test("the origin breaks off, and the window goes on", origins(old(", stale-while-revalidate=600"), gone(), good),
				get().miss(), get().hit().background(1), get().hit().background(1), get().hitOf(3)),
			test("a condition of the client", origins(old(", stale-while-revalidate=600", "ETag", `"a"`), good),
				get().miss(), get("If-None-Match", `"a"`).hit().status(304).background(1), get().hitOf(2)),
			test("the client's condition is not that of the background", origins(old(", stale-while-revalidate=600", "ETag", `"a"`), good),
				get().miss(), get("If-None-Match", `"x"`, "Range", "bytes=0-1").hit().partOf("bytes 0-1/8", "an").background(1).sent("If-None-Match", `"a"`).unsent("Range")),
			test("a HEAD is served, and a GET validates", origins(old(", stale-while-revalidate=600"), good),
				get().miss(), head().hit().background(1), get().hitOf(2)),
			test("a variant is validated by its own request", origins(old(", stale-while-revalidate=600", "Vary", "A"), good),
				get("A", "1").miss(), get("A", "1").hit().background(1).sent("A", "1")),
		}},
		{"RFC 8246 immutable", []row{
			fresh("while fresh", "Cache-Control", "max-age=3600, immutable"),
			stale("not when stale", "Cache-Control", "max-age=60, immutable", "Age", "100"),
			stale("it gives no freshness", "Cache-Control", "immutable"),
			test("a reload is validated", origins(with("Cache-Control", "max-age=3600, immutable", "ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get("Cache-Control", "no-cache").validated(1)),
			test("stale, it is validated", origins(with("Cache-Control", "max-age=60, immutable", "Age", "100", "ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get().validated(1).sent("If-None-Match", `"a"`)),
		}},
	}
}
