package conformance

// interimRows are about informational responses.
func interimRows() []section {
	good := with("Cache-Control", "max-age=3600", "X-Final", "1")
	return []section{
		{"RFC 9110 §15.2 informational responses", []row{
			test("103 is forwarded, and not stored", origins(good.early(103, "Link", "</a>; rel=preload")),
				get().miss().early(103).check(func(x *exchange) string {
					return x.compare("the 103", x.got.interims[0].header, "Link", "</a>; rel=preload")
				}),
				get().hit().early().has("X-Final", "1").lacks("Link")),
			test("102", origins(good.early(102)), get().miss().early(102), get().hit().early()),
			test("several", origins(good.early(103, "Link", "</a>").early(103, "Link", "</b>")), get().miss().early(103, 103), get().hit().early()),
			test("102 and 103", origins(good.early(102).early(103)), get().miss().early(102, 103), get().hit()),
			test("100", origins(good.early(100)), get().miss(), get().hit().early()),
			test("an unknown one", origins(good.early(199)), get().miss().early(199), get().hit().early()),
			test("its fields are not those of the final one", origins(good.early(103, "X-Early", "1")),
				get().miss().lacks("X-Early").has("X-Final", "1"), get().hit().lacks("X-Early")),
			test("it gives no freshness", origins(with().early(103, "Cache-Control", "max-age=3600")), get().miss(), get().miss()),
			test("it takes none", origins(good.early(103, "Cache-Control", "no-store")), get().miss(), get().hit()),
			test("it is no validation", origins(expired("ETag", `"a"`), not304("ETag", `"a"`).early(103, "Link", "</a>")),
				get().miss(), get().validated(1).early(103), get().hit()),
			test("before an error", origins(with().is(404).early(103)), get().miss().early(103)),
			test("before what breaks off", origins(answer{mute: true}.early(103), good), get().asks(1).status(502), get().miss(), get().hitOf(2)),
			test("of a POST", origins(with().early(103)), post("").miss().early(103)),
			test("that is not stored", origins(with("Cache-Control", "no-store").early(103)), get().miss().early(103), get().miss().early(103)),
			test("of a HEAD", origins(with("Cache-Control", "no-store").early(103)), head().miss().early(103)),
		}},
	}
}
