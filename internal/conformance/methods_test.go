package conformance

import (
	"net/http"
	"time"
)

// methodRows are about which methods are answered from the cache, and whose
// responses are stored.
func methodRows() []section {
	var methods []row
	for _, m := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "PROPFIND", "QUERY", "FOO"} {
		methods = append(methods, test(m, origins(with("Cache-Control", "max-age=3600")),
			request(m, "").miss().says("fwd=method"), request(m, "").miss(), get().miss()))
	}
	methods = append(methods,
		test("POST with explicit freshness alone", origins(with("Cache-Control", "max-age=3600")),
			post("").miss(), get().miss()),
		test("a POST is never answered from the cache", origins(with("Cache-Control", "max-age=3600")),
			get().miss(), post("").miss()),
		test("an OPTIONS is not either", origins(with("Cache-Control", "max-age=3600")),
			get().miss(), request(http.MethodOptions, "").miss(), get().hit()),
		test("the content of a POST goes to the origin", origins(with()), post("").miss().check(func(x *exchange) string {
			if got := x.last(); got.method != http.MethodPost || got.body != "content" {
				return "the origin got " + got.method + " with " + short(got.body)
			}
			return ""
		})),
		test("a GET with content is not answered from the cache", origins(with("Cache-Control", "max-age=3600")),
			get().miss(), withContent(get()).miss(), get().hit()),
	)
	located := func(name string, fields ...string) row {
		w := test(name, origins(with(fields...)), post("").miss(), get().hit(), head().hit(), post("").miss())
		w.quiet, w.near = true, true // what a POST leaves behind is in the process that it went through
		return w
	}
	here := with("Cache-Control", "max-age=3600", "Content-Location", "{path}")
	replaces := test("it replaces what was stored", origins(with("Cache-Control", "max-age=3600"), here), get().miss(), post("").miss(), get().hitOf(2))
	besides := test("while something else is invalidated", origins(here.after(400*time.Millisecond), with()),
		post("").asks(2).of(1).during(post("/other")), get().hit())
	changed := test("not while it is invalidated itself", origins(here.after(400*time.Millisecond), with()),
		post("").asks(2).of(1).during(request(http.MethodDelete, "")), get().miss())
	replaces.quiet, besides.quiet, changed.quiet = true, true, true
	replaces.near, besides.near = true, true
	not := func(name string, fields ...string) row {
		return test(name, origins(with(fields...)), post("").miss(), get().miss())
	}
	return []section{
		{"RFC 9111 §3 methods", methods},
		{"RFC 9110 §9.3.3 POST with Content-Location", []row{
			located("its path, and max-age", "Cache-Control", "max-age=3600", "Content-Location", "{path}"),
			located("its path, and s-maxage", "Cache-Control", "s-maxage=3600", "Content-Location", "{path}"),
			located("its path, and Expires", "Expires", in(time.Hour), "Content-Location", "{path}"),
			located("its whole URI", "Cache-Control", "max-age=3600", "Content-Location", "http://"+host+"{path}"),
			not("no freshness", "Content-Location", "{path}"),
			not("a heuristic alone", "Last-Modified", in(-100*time.Hour), "Content-Location", "{path}"),
			not("public alone", "Cache-Control", "public", "Content-Location", "{path}"),
			not("another path", "Cache-Control", "max-age=3600", "Content-Location", "{path}/other"),
			not("another query", "Cache-Control", "max-age=3600", "Content-Location", "{path}?other"),
			not("another host", "Cache-Control", "max-age=3600", "Content-Location", "http://other.test{path}"),
			not("no-store", "Cache-Control", "max-age=3600, no-store", "Content-Location", "{path}"),
			not("private", "Cache-Control", "max-age=3600, private", "Content-Location", "{path}"),
			replaces, besides, changed,
		}},
		{"RFC 9110 §8.7 Content-Location of a GET is no other name", []row{
			test("the other URI is asked for", origins(with("Cache-Control", "max-age=3600", "Content-Location", "{path}/other")),
				get().miss(), getAt("/other").miss(), get().hit().has("Content-Location", "{path}/other")),
		}},
	}
}

func withContent(s *step) *step { s.content = "content"; return s }
