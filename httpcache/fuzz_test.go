package httpcache

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		date, ok := ParseDate(s, epoch)
		if !ok {
			return
		}
		again, ok := ParseDate(date.Format(http.TimeFormat), epoch)
		if !ok && date.Year() < 10000 || ok && !again.Equal(date) {
			t.Errorf("%q is %v, which is then %v, %t", s, date, again, ok)
		}
	})
}

func FuzzResponseDirectives(f *testing.F) {
	for _, s := range []string{`max-age=60, private="a, b"`, `foo="\"`, `max-age="60`, "=,=;no-store", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parseResponseDirectives([]string{s})
		for _, n := range []int64{d.maxAge, d.sMaxAge, d.swr, d.sie} {
			if n < absent || n > maxDelta {
				t.Errorf("%q: got %d seconds", s, n)
			}
		}
		for _, name := range d.fields {
			if name != http.CanonicalHeaderKey(name) || !isToken(name) {
				t.Errorf("%q: got the field %q", s, name)
			}
		}
		// Whatever a line leaves open, the next one is heard.
		if d := parseResponseDirectives([]string{s, "no-store"}); !d.noStore {
			t.Errorf("%q hides the next line", s)
		}
	})
}

func FuzzRequestDirectives(f *testing.F) {
	for _, s := range []string{"max-age=5, no-cache", "max-stale", `min-fresh="5"`, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := ParseRequestDirectives(http.Header{"Cache-Control": {s}})
		for _, n := range []int64{d.maxAge, d.minFresh, d.maxStale, d.staleIfError} {
			if n < 0 || n > maxDelta {
				t.Errorf("%q: got %d seconds", s, n)
			}
		}
		ParseRequestDirectives(http.Header{"Pragma": {s}})
	})
}

func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=60", `private="a";b=c`, "max-age=-1", "a=(1 2)", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseTargeted([]string{s})
		if ok && (!d.targeted || d.maxAge > maxDelta || d.maxAge < absent) {
			t.Errorf("%q: got %+v", s, d)
		}
	})
}

func FuzzAge(f *testing.F) {
	for _, s := range []string{"30", "30, 0", "-1", "99999999999999999999", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n := parseAge(http.Header{"Age": {s}}); n < 0 || n > maxDelta {
			t.Errorf("%q: got %d", s, n)
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Add("*", "")
	f.Add(`"a,b`, `"a`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		listsETag([]string{list}, parseETag(tag))
		tag = strings.Trim(tag, " \t")
		if parseETag(tag).is() && strings.Count(tag, `"`)%2 == 0 && !strings.Contains(tag, ",") && !listsETag([]string{tag}, parseETag(tag)) {
			t.Errorf("%q does not list itself", tag)
		}
	})
}

func FuzzSelectRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-5, 3-, 7-8", "bytes=5-1", "bytes=9999999999999999999-"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, s string, length int64) {
		length = max(length, 0)
		answer, ranges := SelectRanges(http.MethodGet, http.Header{"Range": {s}}, nil, length)
		if (answer == PartialRanges) != (len(ranges) > 0) || len(ranges) > maxRanges {
			t.Fatalf("%q of %d: got %d, %v", s, length, answer, ranges)
		}
		sum := int64(0)
		for _, r := range ranges {
			if r.Start < 0 || r.Length <= 0 || r.End() > length {
				t.Errorf("%q of %d: got %v", s, length, r)
			}
			sum += r.Length
		}
		if sum > length {
			t.Errorf("%q of %d: got %d bytes", s, length, sum)
		}
		WantedRange(http.MethodGet, http.Header{"Range": {s}}, nil, -1)
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/100", "bytes 0-9/*", "bytes */9", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseContentRange(s)
		if !ok {
			return
		}
		if c.Start < 0 || c.Length <= 0 || c.Complete >= 0 && c.End() > c.Complete {
			t.Errorf("%q: got %v", s, c)
		}
		if again, ok := ParseContentRange(c.String()); !ok || again != c {
			t.Errorf("%q is %v, which is then %v, %t", s, c, again, ok)
		}
	})
}

func FuzzNominatedValue(f *testing.F) {
	f.Add("Accept-Encoding", "gzip;q=0.5, br", "x")
	f.Add("Accept-Language", "de, en;q=0", "")
	f.Add("Foo", `a,"b,c" ,d`, ",,")
	f.Fuzz(func(t *testing.T, name, a, b string) {
		name = http.CanonicalHeaderKey(name)
		once := NominatedValue(name, http.Header{name: {a, b}})
		if twice := NominatedValue(name, http.Header{name: {once}}); twice != once {
			t.Errorf("%s: %q, %q: got %q, and of that %q", name, a, b, once, twice)
		}
		if once == "" {
			t.Errorf("%s: %q, %q: got the value of no field", name, a, b)
		}
		LanguageSelected(a, b)
	})
}

func FuzzNoVarySearch(f *testing.F) {
	f.Add("key-order", "b=1&a=2")
	f.Add(`params, except=("a")`, "a=%zz&+=%f6")
	f.Fuzz(func(t *testing.T, field, query string) {
		v := ParseNoVarySearch(http.Header{"No-Vary-Search": {field}})
		once := v.Canonical(query)
		if twice := v.Canonical(once); twice != once {
			t.Errorf("%q: %q: got %q, and of that %q", field, query, once, twice)
		}
	})
}

func FuzzGroupsAndTags(f *testing.F) {
	f.Add(`"a", "b";c`)
	f.Add("a b,c")
	f.Fuzz(func(t *testing.T, s string) {
		groups := CacheGroups(http.Header{"Cache-Groups": {s}})
		if len(slices.Compact(slices.Clone(groups))) != len(groups) || !slices.IsSorted(groups) {
			t.Errorf("%q: got %q", s, groups)
		}
		for _, field := range []string{"Surrogate-Key", "Cache-Tag", "Foo"} {
			tags := Tags(http.Header{field: {s}}, []string{field})
			slices.Sort(tags)
			if len(slices.Compact(slices.Clone(tags))) != len(tags) || slices.Contains(tags, "") {
				t.Errorf("%s: %q: got %q", field, s, tags)
			}
		}
	})
}

func FuzzCacheStatus(f *testing.F) {
	f.Add("key", "detail")
	f.Add("\"\\\x00é", "a b")
	f.Fuzz(func(t *testing.T, key, detail string) {
		got := string(CacheStatus{Fwd: "miss", Key: key, Detail: detail}.Append(nil, "fluster"))
		if list, err := httpsfv.UnmarshalList([]string{got}); err != nil || len(list) != 1 {
			t.Errorf("%q is no List of one: %v", got, err)
		}
	})
}

func FuzzInvalidatedURIs(f *testing.F) {
	f.Add("/b")
	f.Add("//example.org")
	f.Fuzz(func(t *testing.T, location string) {
		target := &url.URL{Scheme: "https", Host: "example.com", Path: "/a"}
		for _, s := range InvalidatedURIs(target, http.Header{"Location": {location}}) {
			if !strings.HasPrefix(s, "https://example.com/") {
				t.Errorf("%q: got %q", location, s)
			}
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("Foo, bar", "*")
	f.Fuzz(func(t *testing.T, a, b string) {
		names, ok := nominated(http.Header{"Vary": {a, b}})
		if ok && (strings.Contains(a, "*") && strings.Trim(a, " \t") == "*" || !slices.IsSorted(names)) {
			t.Errorf("%q, %q: got %q", a, b, names)
		}
	})
}
