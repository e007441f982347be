package conformance

import (
	"fmt"
	"net/http"
	"strings"
)

// groupRows are about Cache-Groups.
func groupRows() []section {
	// Groups are of an origin, which all rows share: theirs have their paths in them.
	named := strings.NewReplacer(`"a`, `"{row}a`, `"b`, `"{row}b`, `"c`, `"{row}c`, `"A`, `"{row}A`)
	in := func(groups ...string) answer {
		fields := []string{"Cache-Control", "max-age=3600"}
		for _, g := range groups {
			fields = append(fields, "Cache-Groups", named.Replace(g))
		}
		return with(fields...)
	}
	invalidates := func(groups ...string) answer {
		var fields []string
		for _, g := range groups {
			fields = append(fields, "Cache-Group-Invalidation", named.Replace(g))
		}
		return with(fields...)
	}
	hit := func(name string, stored, changes answer) row {
		return test(name, origins(stored, changes), get().miss(), post("/form").miss(), get().hit())
	}
	gone := func(name string, stored, changes answer) row {
		return test(name, origins(stored, changes), get().miss(), post("/form").miss(), get().miss())
	}
	var many []string
	for i := range 32 {
		many = append(many, fmt.Sprintf(`"%032d"`, i))
	}
	return []section{
		{"RFC 9875 §2 Cache-Groups", []row{
			gone("one group", in(`"a"`), invalidates(`"a"`)),
			gone("the second of several", in(`"a", "b", "c"`), invalidates(`"b"`)),
			gone("on several lines", in(`"a"`, `"b"`), invalidates(`"b"`)),
			gone("one of those that are invalidated", in(`"b"`), invalidates(`"a", "b"`)),
			gone("on several lines of those that are invalidated", in(`"b"`), invalidates(`"a"`, `"b"`)),
			gone("parameters do not count", in(`"a";foo=1`), invalidates(`"a";bar`)),
			gone("32 groups of 32 characters, the first", in(strings.Join(many, ", ")), invalidates(many[0])),
			gone("32 groups of 32 characters, the last", in(strings.Join(many, ", ")), invalidates(many[31])),
			gone("a group of a hundred characters", in(`"`+zeros(100)+`"`), invalidates(`"`+zeros(100)+`"`)),
			gone("a space in a name", in(`"a b"`), invalidates(`"a b"`)),
			hit("another group", in(`"a"`), invalidates(`"b"`)),
			hit("another case", in(`"a"`), invalidates(`"A"`)),
			hit("a part of the name", in(`"ab"`), invalidates(`"a"`)),
			hit("a word of the name", in(`"a b"`), invalidates(`"a"`)),
			hit("a token is no string", in("a"), invalidates(`"a"`)),
			hit("a token invalidates nothing", in(`"a"`), invalidates("a")),
			hit("a list with a number is no list of strings", in(`"a"`), invalidates(`"a", 1`)),
			hit("no list at all", in(`"a"`), invalidates(`"a`)),
			hit("no groups", in(), invalidates(`"a"`)),
			test("the fields are passed on", origins(in(`"a"`)), get().miss().has("Cache-Groups", `"{row}a"`), get().hit().has("Cache-Groups", `"{row}a"`)),
			test("all of a group", origins(in(`"a"`), in(`"a"`), in(`"b"`), invalidates(`"a"`)),
				getAt("/1").miss(), getAt("/2").miss(), getAt("/3").miss(), post("").miss(), getAt("/3").hitOf(3), getAt("/1").miss(), getAt("/2").miss()),
		}},
		{"RFC 9875 §3 Cache-Group-Invalidation", []row{
			test("a GET invalidates nothing", origins(in(`"a"`), invalidates(`"a"`)), get().miss(), getAt("/other").miss(), get().hit()),
			test("an OPTIONS invalidates nothing", origins(in(`"a"`), invalidates(`"a"`)), get().miss(), request(http.MethodOptions, "/other").miss(), get().hit()),
			test("a PUT does", origins(in(`"a"`), invalidates(`"a"`)), get().miss(), request(http.MethodPut, "/other").miss(), get().miss()),
			test("another origin has other groups", origins(in(`"a"`), invalidates(`"a"`)), get().miss(), post("/form", "Host", "other.test").miss(), get().hit()),
			test("what is stored later is not invalidated", origins(in(`"a"`), invalidates(`"a"`), in(`"a"`)),
				get().miss(), post("/form").miss(), get().miss(), get().hitOf(3)),
		}},
	}
}
