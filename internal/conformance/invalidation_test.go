package conformance

import (
	"fmt"
	"net/http"
	"strings"
)

// invalidationRows are about what unsafe requests make invalid.
func invalidationRows() []section {
	good := with("Cache-Control", "max-age=3600")
	var methods, safe, statuses, errors []row
	for _, m := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "M-SEARCH", "FOO", "MKCOL", "PURGE"} {
		methods = append(methods, test(m, origins(good, with()), get().miss(), get().hit(), request(m, "").miss(), get().miss()))
	}
	for _, m := range []string{http.MethodHead, http.MethodOptions, "PROPFIND", "SEARCH", "REPORT", "QUERY"} {
		s := request(m, "").miss()
		if m == http.MethodHead {
			s = head().hit()
		}
		safe = append(safe, test(m, origins(good), get().miss(), s, get().hit()))
	}
	for _, status := range []int{200, 201, 202, 204, 205, 299, 301, 302, 303, 307} {
		statuses = append(statuses, test(fmt.Sprint(status), origins(good, with().is(status).saying("")), get().miss(), post("").miss(), get().miss()))
	}
	for _, status := range []int{400, 403, 404, 405, 409, 499, 500, 502, 503, 599} {
		errors = append(errors, test(fmt.Sprint(status), origins(good, with().is(status)), get().miss(), post("").miss(), get().hit()))
	}
	errors = append(errors, test("no answer at all", origins(good, gone()), get().miss(), post("").asks(1).status(502), get().hit()))
	// located is the row of a POST elsewhere whose response names what is stored.
	located := func(name string, asked bool, fields ...string) row {
		last := getAt("/page").hit()
		if asked {
			last = getAt("/page").miss()
		}
		return test(name, origins(good, answer{fields: fields, status: 201}), getAt("/page").miss(), post("").miss(), last)
	}
	vary := with("Cache-Control", "max-age=3600", "Vary", "A")
	return []section{
		{"RFC 9111 §4.4 unsafe methods", methods},
		{"RFC 9111 §4.4 not safe ones", safe},
		{"RFC 9111 §4.4 statuses that are no errors", statuses},
		{"RFC 9111 §4.4 errors invalidate nothing", errors},
		{"RFC 9111 §4.4 Location and Content-Location", []row{
			located("Location, a path", true, "Location", "{path}/page"),
			located("Content-Location, a path", true, "Content-Location", "{path}/page"),
			located("Location, a whole URI", true, "Location", "http://"+host+"{path}/page"),
			located("Content-Location, a whole URI", true, "Content-Location", "http://"+host+"{path}/page"),
			located("Location, the host in upper case", true, "Location", "http://"+strings.ToUpper(host)+"{path}/page"),
			located("Location, with the default port", true, "Location", "http://"+host+":80{path}/page"),
			located("Location, without a scheme", true, "Location", "//"+host+"{path}/page"),
			located("Location, with dots", true, "Location", "{path}/x/../page"),
			located("Location, with a fragment", true, "Location", "{path}/page#there"),
			located("both", true, "Location", "/elsewhere", "Content-Location", "{path}/page"),
			located("Location, another host", false, "Location", "http://other.test{path}/page"),
			located("Content-Location, another host", false, "Content-Location", "http://other.test{path}/page"),
			located("Location, another port", false, "Location", "http://"+host+":8080{path}/page"),
			located("Location, another scheme", false, "Location", "https://"+host+"{path}/page"),
			located("Location, another path", false, "Location", "{path}/other"),
			located("Location, another query", false, "Location", "{path}/page?a"),
			located("no Location", false),
			test("Location, relative", origins(good, answer{fields: []string{"Location", "page"}, status: 201}),
				getAt("/page").miss(), post("/new").miss(), getAt("/page").miss()),
			test("Location of an error", origins(good, answer{fields: []string{"Location", "{path}/page"}, status: 400}),
				getAt("/page").miss(), post("").miss(), getAt("/page").hit()),
			test("Location of a GET", origins(good, with("Location", "{path}/page").is(301)),
				getAt("/page").miss(), get().miss(), getAt("/page").hit()),
			test("another host's", origins(good, answer{fields: []string{"Location", "http://" + host + "{path}/page"}, status: 201}),
				getAt("/page").miss(), post("", "Host", "other.test").miss(), getAt("/page").hit()),
		}},
		{"RFC 9111 §4.4 what is invalidated", []row{
			test("all variants", origins(vary, vary, with()),
				get("A", "1").miss(), get("A", "2").miss(), get("A", "1").hit(), post("").miss(), get("A", "1").miss(), get("A", "2").miss()),
			test("not what is beneath the path", origins(good), getAt("/below").miss(), post("").miss(), getAt("/below").hit()),
			test("not another query", origins(good), getAt("?a=1").miss(), post("?a=2").miss(), getAt("?a=1").hit()),
			test("not without the query", origins(good), get().miss(), post("?a").miss(), get().hit()),
			test("not another host", origins(good), get("Host", "other.test").miss(), post("").miss(), get("Host", "other.test").hit()),
			test("a part", origins(with("Cache-Control", "max-age=3600", "Content-Range", "bytes 0-4/10", "ETag", `"a"`).is(206).saying("01234"), with()),
				get("Range", "bytes=0-4").miss(), post("").miss(), get("Range", "bytes=0-1").miss().unsent("If-Range")),
			test("a 404", origins(good.is(404), with().is(201), good), get().miss(), request(http.MethodPut, "").miss(), get().miss(), get().hitOf(3)),
			test("what comes after it is stored", origins(good, with(), good), get().miss(), post("").miss(), get().miss(), get().hitOf(3)),
			test("what was stale is not served when the origin fails", origins(expired("ETag", `"a"`), with(), with().is(500)),
				get().miss(), request(http.MethodDelete, "").miss(), get().miss()),
		}},
	}
}
