package conformance

import "time"

// keyRows are about which requests are for the same thing.
func keyRows() []section {
	good := with("Cache-Control", "max-age=3600")
	same := func(name string, first, second *step) row {
		return test(name, origins(good), first.miss(), second.hit())
	}
	other := func(name string, first, second *step) row {
		return test(name, origins(good), first.miss(), second.miss())
	}
	return []section{
		{"RFC 9111 §2 the cache key", []row{
			same("the same path and query", getAt("/a?b=1"), getAt("/a?b=1")),
			other("another path", getAt("/a"), getAt("/b")),
			other("another case of the path", getAt("/a"), getAt("/A")),
			other("a slash more", getAt("/a"), getAt("/a/")),
			other("a query, and none", getAt("/a"), getAt("/a?b")),
			other("another query", getAt("/a?b=1"), getAt("/a?b=2")),
			other("another order of the query", getAt("/a?b=1&c=2"), getAt("/a?c=2&b=1")),
			other("another case of the query", getAt("/a?b=x"), getAt("/a?b=X")),
			other("an encoded slash", getAt("/a/b"), getAt("/a%2Fb")),
			other("an encoded question mark", getAt("/a?b"), getAt("/a%3Fb")),
			same("another case of the host", get("Host", "conformance.test"), get("Host", "CONFORMANCE.Test")),
			same("the default port", get("Host", "conformance.test"), get("Host", "conformance.test:80")),
			other("another host", get("Host", "conformance.test"), get("Host", "other.test")),
			other("another port", get("Host", "conformance.test"), get("Host", "conformance.test:8080")),
			same("other request fields", get("X-A", "1"), get("X-A", "2", "Accept", "text/x", "Cookie", "a=1")),
			same("a GET and a HEAD", get(), head()),
			same("a referer", get("Referer", "http://a.test/"), get("Referer", "http://b.test/")),
		}},
		{"RFC 9111 §4 what is the same for all", []row{
			test("three clients, one forward", origins(good), get().miss(), get().hit(), get().hit(), get().hit()),
			test("Location is kept as it came", origins(with("Cache-Control", "max-age=3600", "Location", "../a?b#c").is(302)),
				get().miss().has("Location", "../a?b#c"), get().hit().has("Location", "../a?b#c")),
			test("a permanent redirect without a word", origins(with("Location", "/there", "Last-Modified", in(-300*time.Hour)).is(301)),
				get().miss(), get().hit().has("Location", "/there")),
			test("a temporary redirect without a word", origins(with("Location", "/there").is(302)), get().miss(), get().miss()),
		}},
	}
}

// searchRows are about No-Vary-Search, on the site that has it on.
func searchRows() []section {
	by := func(v ...string) answer {
		fields := []string{"Cache-Control", "max-age=3600"}
		for _, line := range v {
			fields = append(fields, "No-Vary-Search", line)
		}
		return with(fields...)
	}
	same := func(name, v, first, second string) row {
		return test(name, origins(by(v)), getAt(first).miss(), getAt(second).hit(), getAt(first).hit()).at(siteSearch)
	}
	other := func(name, v, first, second string) row {
		return test(name, origins(by(v)), getAt(first).miss(), getAt(second).miss()).at(siteSearch)
	}
	return []section{
		{"draft-ietf-httpbis-no-vary-search §6 equivalent queries", []row{
			same("params", "params", "?a=1", "?a=2"),
			same("params, and no query", "params", "?a=1", ""),
			same("params, and an empty query", "params", "", "?"),
			same("params of some", `params=("a")`, "?a=1&b=1", "?a=2&b=1"),
			same("params of some, missing", `params=("a")`, "?a=1&b=1", "?b=1"),
			same("params of several", `params=("a" "c")`, "?a=1&b=1&c=1", "?c=2&b=1"),
			same("except", `params, except=("b")`, "?a=1&b=1", "?b=1&c=3"),
			same("key-order", "key-order", "?a=1&b=2", "?b=2&a=1"),
			same("key-order and params", `key-order, params=("c")`, "?a=1&b=2&c=3", "?c=4&b=2&a=1"),
			same("an encoded name", `params=("a")`, "?%61=1", "?a=2"),
			same("a plus is a space", `params=("x")`, "?a=1+2", "?a=1%202"),
			same("an encoded name in the list", `params=("%61")`, "?a=1", "?a=2"),
			other("params of others", `params=("a")`, "?a=1&b=1", "?a=1&b=2"),
			other("except, and it differs", `params, except=("b")`, "?a=1&b=1", "?a=1&b=2"),
			other("except, and it is missing", `params, except=("b")`, "?a=1&b=1", "?a=1"),
			other("the order without key-order", `params=("c")`, "?a=1&b=2", "?b=2&a=1"),
			other("the order of one key's values", "key-order", "?a=1&a=2", "?a=2&a=1"),
			other("another path", "params", "/x?a=1", "/y?a=1"),
		}},
		{"draft-ietf-httpbis-no-vary-search §5.1 what does not count", []row{
			other("nothing", "", "?a=1", "?a=2"),
			other("params=?0", "params=?0", "?a=1", "?a=2"),
			other("params that is no list of strings", "params=(a)", "?a=1", "?a=2"),
			other("params that is a string", `params="a"`, "?a=1", "?a=2"),
			other("except without params", `except=("b")`, "?a=1", "?a=2"),
			other("except with a list of params", `params=("a"), except=("b")`, "?a=1", "?a=2"),
			other("except that is no list", "params, except", "?a=1", "?a=2"),
			other("key-order that is no Boolean", `key-order="a"`, "?a=1&b=2", "?b=2&a=1"),
			other("an invalid dictionary", "params=(", "?a=1", "?a=2"),
			other("unknown members", "foo", "?a=1", "?a=2"),
			same("unknown members beside params", "foo, params", "?a=1", "?a=2"),
			test("where it is off", origins(by("params")), getAt("?a=1").miss(), getAt("?a=2").miss()),
			test("what is not fresh", origins(with("Cache-Control", "no-store", "No-Vary-Search", "params")), getAt("?a=1").miss(), getAt("?a=2").miss()).at(siteSearch),
			test("Vary still counts", origins(with("Cache-Control", "max-age=3600", "No-Vary-Search", "params", "Vary", "A")),
				getAt("?a=1", "A", "1").miss(), getAt("?a=2", "A", "2").miss(), getAt("?a=3", "A", "1").hit()).at(siteSearch),
			test("what is invalidated", origins(by("params"), with(), by("params")),
				getAt("?a=1").miss(), post("?a=1").miss(), getAt("?a=1").miss()).at(siteSearch),
		}},
	}
}
