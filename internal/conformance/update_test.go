package conformance

import "time"

// updateRows are about what a 304 (Not Modified) changes of what is stored.
func updateRows() []section {
	const h = time.Hour
	var updated, kept []row
	for _, f := range [][3]string{
		{"X-Something", "1", "2"}, {"Content-Type", "text/plain", "text/plain; charset=utf-8"}, {"Content-Language", "de", "en"},
		{"Content-Location", "/a", "/b"}, {"Content-Disposition", "inline", "attachment"}, {"Content-Security-Policy", "default-src 'self'", "default-src 'none'"},
		{"X-Content-Something", "1", "2"}, {"Content-Something", "1", "2"}, {"Expires", in(-h), in(h)}, {"Link", "</a>", "</b>"},
		{"Last-Modified", in(-20 * h), in(-10 * h)}, {"Set-Cookie", "a=1", "a=2"}, {"Strict-Transport-Security", "max-age=1", "max-age=2"},
		{"X-Frame-Options", "DENY", "SAMEORIGIN"}, {"Retry-After", "1", "2"}, {"Allow", "GET", "GET, POST"}, {"Warning", `299 - "a"`, `299 - "b"`},
		{"Clear-Site-Data", `"cache"`, `"cookies"`}, {"Access-Control-Allow-Origin", "a.test", "b.test"},
		{"Digest", "sha-256=a", "sha-256=b"}, {"Date", in(-5 * time.Minute), in(-time.Minute)},
	} {
		name, old, new := f[0], f[1], f[2]
		updated = append(updated, test(name,
			origins(with("Cache-Control", "max-age=0", "ETag", `"a"`, name, old), not304("ETag", `"a"`, "Cache-Control", "max-age=3600", name, new)),
			get().miss().has(name, old), get().validated(1).has(name, new), get().hit().has(name, new)))
	}
	for _, f := range [][3]string{{"Content-Encoding", "x-old", "x-new"}, {"Content-Length", "8", "100"}, {"Content-Range", "", "bytes 0-1/2"}} {
		name, old, new := f[0], f[1], f[2]
		fields := []string{"Cache-Control", "max-age=0", "ETag", `"a"`}
		judge := func(s *step) *step { return s.lacks(name) }
		if old != "" {
			fields = append(fields, name, old)
			judge = func(s *step) *step { return s.has(name, old) }
		}
		kept = append(kept, test(name,
			origins(with(fields...), not304("ETag", `"a"`, "Cache-Control", "max-age=3600", name, new)),
			judge(get().miss()), judge(get().validated(1)), judge(get().hit())))
	}
	stored := with("Cache-Control", "max-age=0", "ETag", `"a"`, "X-A", "1", "X-A", "2", "X-B", "3")
	return []section{
		{"RFC 9111 §3.2 fields that a 304 updates", updated},
		{"RFC 9111 §3.2 fields that it does not", kept},
		{"RFC 9111 §3.2 updating", []row{
			test("a field that is not in the 304 stays", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600")),
				get().miss(), get().validated(1).has("X-B", "3"), get().hit().has("X-A", "1, 2", "X-B", "3")),
			test("a field that was not stored is added", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "X-C", "4")),
				get().miss(), get().validated(1).has("X-C", "4"), get().hit().has("X-C", "4")),
			test("all lines are replaced", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "X-A", "9")),
				get().miss(), get().validated(1).has("X-A", "9"), get().hit().has("X-A", "9")),
			test("one line by several", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "X-B", "7", "X-B", "8")),
				get().miss(), get().validated(1), get().hit().has("X-B", "7, 8")),
			test("hop-by-hop fields are not taken", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "Keep-Alive", "timeout=5", "Proxy-Authenticate", "Basic")),
				get().miss(), get().validated(1), get().hit().lacks("Keep-Alive", "Proxy-Authenticate", "Connection")),
			test("nor what Connection names", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "Connection", "X-B, X-D", "X-B", "9", "X-D", "9")),
				get().miss(), get().validated(1), get().hit().lacks("X-D").has("X-B", "3")),
			test("who has the old one gets a 304 with the new fields", origins(with("Cache-Control", "max-age=0", "ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "Expires", in(h))),
				get().miss(), get("If-None-Match", `"a"`).asks(1).status(304).has("Cache-Control", "max-age=3600", "Expires", in(h))),
			test("the old Age is gone", origins(expired("ETag", `"a"`), not304("ETag", `"a"`)),
				get().miss(), get().validated(1), get().hit().age(0)),
			test("must-revalidate comes by a 304", origins(with("Cache-Control", "max-age=0", "ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "max-age=0, must-revalidate"), with().is(500)),
				get().miss(), get().validated(1), get().miss().status(500)),
			test("a 304 may make it private", origins(with("Cache-Control", "max-age=0", "ETag", `"a"`), not304("ETag", `"a"`, "Cache-Control", "private, max-age=3600"), with("Cache-Control", "max-age=3600")),
				get().miss(), get().validated(1), get().miss()),
			test("the size is that of the content", origins(stored, not304("ETag", `"a"`, "Cache-Control", "max-age=3600", "Content-Length", "0")),
				get().miss(), get().validated(1), get().hit().has("Content-Length", "8")),
		}},
	}
}

// headRows are about HEAD.
func headRows() []section {
	stored := with("Cache-Control", "max-age=3600", "ETag", `"a"`, "X-A", "1")
	old := with("Cache-Control", "max-age=60", "Age", "70", "ETag", `"a"`, "Last-Modified", in(-10*time.Hour), "X-A", "1")
	return []section{
		{"RFC 9111 §4 HEAD is answered from GET", []row{
			test("with its fields", origins(stored), get().miss(), head().hit().has("ETag", `"a"`, "X-A", "1", "Content-Length", "8")),
			test("of content in chunks", origins(stored.inChunks()), get().miss(), head().hit().has("ETag", `"a"`)),
			test("and not a GET from HEAD", origins(stored), head().miss(), get().miss(), get().hitOf(2)),
			test("with a 304", origins(stored), get().miss(), head("If-None-Match", `"a"`).hit().status(304)),
			test("only-if-cached", origins(stored), get().miss(), head("Cache-Control", "only-if-cached").hit()),
			test("a HEAD that is not stored goes to the origin", origins(with("Cache-Control", "no-store")), get().miss(), head().miss()),
		}},
		{"RFC 9111 §4.3.5 freshening by HEAD", []row{
			test("the same tag and length", origins(old, with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Length", "8", "X-A", "2")),
				get().miss(), head().miss().has("X-A", "2"), get().hit().has("X-A", "2")),
			test("the same tag, no length", origins(old, answer{fields: []string{"Cache-Control", "max-age=3600", "ETag", `"a"`}, unsized: true}),
				get().miss(), head().miss(), get().hit()),
			test("the same date and length", origins(
				with("Cache-Control", "max-age=60", "Age", "70", "Last-Modified", in(-10*time.Hour)),
				with("Cache-Control", "max-age=3600", "Last-Modified", in(-10*time.Hour), "Content-Length", "8")),
				get().miss(), head().miss(), get().hit()),
			test("the body stays", origins(old, with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Length", "8")),
				get().miss(), head().miss(), get().hit().has("Content-Length", "8")),
			test("another tag makes it stale", origins(fromGet("max-age=3600"), with("Cache-Control", "max-age=3600", "ETag", `"b"`, "Content-Length", "8"), with("Cache-Control", "max-age=3600")),
				get().miss(), head("Cache-Control", "no-cache").miss(), get().miss()),
			test("another length makes it stale", origins(fromGet("max-age=3600"), with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Content-Length", "9"), with("Cache-Control", "max-age=3600")),
				get().miss(), head("Cache-Control", "no-cache").miss(), get().miss()),
			test("another date makes it stale", origins(fromGet("max-age=3600"), with("Cache-Control", "max-age=3600", "ETag", `"a"`, "Last-Modified", in(-time.Hour), "Content-Length", "8"), with("Cache-Control", "max-age=3600")),
				get().miss(), head("Cache-Control", "no-cache").miss(), get().miss()),
			test("a 404 does not freshen", origins(old, with("Cache-Control", "max-age=3600", "ETag", `"a"`).is(404), with("Cache-Control", "max-age=3600")),
				get().miss(), head().miss(), get().miss()),
			test("a HEAD makes no GET fresh that was never there", origins(with("Cache-Control", "max-age=3600", "ETag", `"a"`)),
				head().miss(), head().miss(), get().miss()),
		}},
	}
}

// fromGet is the response to a GET that a HEAD is then compared with.
func fromGet(cc string) answer {
	return with("Cache-Control", cc, "ETag", `"a"`, "Last-Modified", in(-10*time.Hour))
}
