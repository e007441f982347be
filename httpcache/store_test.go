package httpcache

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// RFC 9111, Section 3: what may be stored, and why not.
func TestMayStore(t *testing.T) {
	fresh := "Cache-Control: max-age=60"
	tag := `ETag: "x"`
	for _, row := range []struct {
		name   string
		policy Policy
		method string // GET where empty
		status int    // 200 where 0
		req    []string
		lines  []string
		want   string // "" stored, else the detail
	}{
		{name: "max-age", lines: []string{fresh}},
		{name: "Expires", lines: []string{"Expires: " + at(60)}},
		{name: "s-maxage", lines: []string{"Cache-Control: s-maxage=60"}},
		{name: "nothing", want: "no-freshness"},
		{name: "only a validator", lines: []string{tag}},
		{name: "only Last-Modified", lines: []string{"Last-Modified: " + at(-10)}},
		{name: "only an invalid Last-Modified", lines: []string{"Last-Modified: foo"}, want: "no-freshness"},
		{name: "validator, 302", status: 302, lines: []string{tag}, want: "no-freshness"},
		{name: "validator, 302, public", status: 302, lines: []string{tag, "Cache-Control: public"}},
		{name: "public, of no use", lines: []string{"Cache-Control: public"}, want: "no-freshness"},

		{name: "HEAD", method: "HEAD", lines: []string{fresh}, want: "method"},
		{name: "PUT", method: "PUT", lines: []string{fresh}, want: "method"},
		{name: "unknown method", method: "FOO", lines: []string{fresh}, want: "method"},
		{name: "POST", method: "POST", lines: []string{fresh}, want: "method"},
		{name: "POST of itself", method: "POST", lines: []string{fresh, "Content-Location: /a?b=1"}},
		{name: "POST of itself, absolute", method: "POST", lines: []string{fresh, "Content-Location: https://EXAMPLE.com:443/a?b=1"}},
		{name: "POST of another", method: "POST", lines: []string{fresh, "Content-Location: /a"}, want: "method"},
		{name: "POST of another origin", method: "POST", lines: []string{fresh, "Content-Location: https://example.org/a?b=1"}, want: "method"},
		{name: "POST that names no freshness", method: "POST", lines: []string{tag, "Content-Location: /a?b=1"}, want: "no-freshness"},
		{name: "POST by heuristics", method: "POST", lines: []string{"Last-Modified: " + at(-1000), "Content-Location: /a?b=1"}, want: "no-freshness"},
		{name: "POST error", method: "POST", status: 500, lines: []string{fresh, "Content-Location: /a?b=1"}, want: "method"},

		{name: "100", status: 100, lines: []string{fresh}, want: "status"},
		{name: "103", status: 103, lines: []string{fresh}, want: "status"},
		{name: "304", status: 304, lines: []string{fresh}, want: "status"},
		{name: "412", status: 412, lines: []string{fresh}, want: "status"},
		{name: "429 (RFC 6585, Section 4)", status: 429, lines: []string{fresh}, want: "status"},
		{name: "299", status: 299, lines: []string{fresh}},
		{name: "302", status: 302, lines: []string{fresh}},
		{name: "404", status: 404, lines: []string{fresh}},
		{name: "499", status: 499, lines: []string{fresh}},
		{name: "503", status: 503, lines: []string{fresh}},
		{name: "599", status: 599, lines: []string{fresh}},
		{name: "416", status: 416, lines: []string{fresh}},
		{name: "416 of a range", status: 416, req: []string{"Range: bytes=9-"}, lines: []string{fresh}, want: "range"},
		{name: "206", status: 206, lines: []string{fresh, "Content-Range: bytes 0-1/4"}},
		{name: "206 without a range", status: 206, lines: []string{fresh}, want: "range"},
		{name: "206 of a type", status: 206, lines: []string{fresh, "Content-Range: bytes 0-1/4", "Content-Type: a/b"}},
		{name: "206 of a longer type", status: 206, lines: []string{fresh, "Content-Range: bytes 0-1/4", "Content-Type: application/octet-stream"}},
		{name: "206 of several parts, bare", status: 206, lines: []string{fresh, "Content-Range: bytes 0-1/4", "Content-Type: multipart/byteranges"}, want: "range"},
		{name: "206 of several parts", status: 206, lines: []string{fresh, "Content-Range: bytes 0-1/4", "Content-Type: multipart/byteranges; boundary=x"}, want: "range"},

		{name: "no-store", lines: []string{"Cache-Control: no-store, max-age=60"}, want: "no-store"},
		{name: "no-store, targeted none", policy: Policy{Targeted: []string{"CDN-Cache-Control"}}, lines: []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}},
		{name: "no-store, upper case", lines: []string{"Cache-Control: NO-STORE", fresh}, want: "no-store"},
		{name: "no-store in quotes", lines: []string{`Cache-Control: foo="no-store", max-age=60`}},
		{name: "no-store with min_ttl", policy: Policy{MinTTL: time.Minute}, lines: []string{"Cache-Control: no-store"}, want: "no-store"},
		{name: "private", lines: []string{"Cache-Control: private, max-age=60"}, want: "private"},
		{name: "private with ttl", policy: Policy{TTL: map[int]time.Duration{200: time.Minute}}, lines: []string{"Cache-Control: private"}, want: "private"},
		{name: "private fields", lines: []string{`Cache-Control: private="X-Foo", max-age=60`}},
		{name: "no-store of the request", req: []string{"Cache-Control: no-store"}, lines: []string{fresh}, want: "no-store"},
		{name: "no-store of the request, ignored", policy: Policy{IgnoreRequest: true}, req: []string{"Cache-Control: no-store"}, lines: []string{fresh}},
		{name: "no-cache", lines: []string{"Cache-Control: no-cache, max-age=60"}, want: "no-freshness"},
		{name: "no-cache and a validator", lines: []string{"Cache-Control: no-cache", tag}},
		{name: "no-cache fields", lines: []string{`Cache-Control: no-cache="X-Foo", max-age=60`}},

		{name: "must-understand, no-store", lines: []string{"Cache-Control: must-understand, no-store, max-age=60"}},
		{name: "must-understand, no-store, 404", status: 404, lines: []string{"Cache-Control: must-understand, no-store, max-age=60"}},
		{name: "must-understand, no-store, 599", status: 599, lines: []string{"Cache-Control: must-understand, no-store, max-age=60"}, want: "must-understand"},
		{name: "must-understand, 299", status: 299, lines: []string{"Cache-Control: must-understand, max-age=60"}, want: "must-understand"},

		{name: "Authorization", req: []string{"Authorization: x"}, lines: []string{fresh}, want: "authorization"},
		{name: "Authorization, public", req: []string{"Authorization: x"}, lines: []string{"Cache-Control: public, max-age=60"}},
		{name: "Authorization, s-maxage", req: []string{"Authorization: x"}, lines: []string{"Cache-Control: s-maxage=60"}},
		{name: "Authorization, invalid s-maxage", req: []string{"Authorization: x"}, lines: []string{"Cache-Control: s-maxage=x", tag}, want: "authorization"},
		{name: "Authorization, must-revalidate", req: []string{"Authorization: x"}, lines: []string{"Cache-Control: must-revalidate, max-age=60"}},
		{name: "Authorization, proxy-revalidate", req: []string{"Authorization: x"}, lines: []string{"Cache-Control: proxy-revalidate, max-age=60"}, want: "authorization"},
		{name: "Authorization, only Vary", req: []string{"Authorization: x"}, lines: []string{fresh, "Vary: Authorization"}, want: "authorization"},
		{name: "Authorization, ttl", policy: Policy{TTL: map[int]time.Duration{200: time.Minute}}, req: []string{"Authorization: x"}, want: "authorization"},

		{name: "Vary: *", lines: []string{fresh, "Vary: *"}, want: "vary"},
		{name: "Vary: * in a list", lines: []string{fresh, "Vary: Foo, *, Bar"}, want: "vary"},
		{name: "Vary: * on a line", lines: []string{fresh, "Vary: Foo", "Vary: *"}, want: "vary"},
		{name: "Vary of no name", lines: []string{fresh, "Vary: a b"}, want: "vary"},

		{name: "Set-Cookie", lines: []string{fresh, "Set-Cookie: a=b"}},
		{name: "Set-Cookie, bypass", policy: Policy{SetCookie: BypassCookie}, lines: []string{fresh, "Set-Cookie: a=b"}, want: "set-cookie"},
		{name: "Set-Cookie, bypass, but private", policy: Policy{SetCookie: BypassCookie}, lines: []string{`Cache-Control: private="set-cookie", max-age=60`, "Set-Cookie: a=b"}},
		{name: "Set-Cookie, strip", policy: Policy{SetCookie: StripCookie}, lines: []string{fresh, "Set-Cookie: a=b"}},

		{name: "stale when it comes", policy: Safe(), lines: []string{fresh, "Age: 90"}, want: "no-freshness"},
		{name: "stale, with a validator", policy: Safe(), lines: []string{fresh, "Age: 90", tag}},
		{name: "stale, with a validator that is dropped", policy: Safe(), lines: []string{`Cache-Control: max-age=0, no-cache="ETag"`, tag}, want: "no-freshness"},
		{name: "stale, while-revalidate", policy: Safe(), lines: []string{"Cache-Control: max-age=0, stale-while-revalidate=5"}},
		{name: "stale, if-error", policy: Safe(), lines: []string{"Cache-Control: max-age=0, stale-if-error=5"}},
		{name: "stale, if-error is over", policy: Safe(), lines: []string{"Cache-Control: max-age=0, stale-if-error=5", "Age: 6"}, want: "no-freshness"},
		{name: "stale, must-revalidate", lines: []string{"Cache-Control: max-age=0, must-revalidate, stale-if-error=5"}, want: "no-freshness"},
		{name: "stale, for max-stale", lines: []string{fresh, "Age: 90"}},
		{name: "raised by min_ttl", policy: Policy{IgnoreRequest: true, MinTTL: time.Minute}, lines: []string{"Expires: 0"}},
		{name: "ttl for 500", policy: Policy{TTL: map[int]time.Duration{500: time.Minute}}, status: 500},
		{name: "ttl of another status", policy: Policy{TTL: map[int]time.Duration{200: time.Minute}}, status: 500, want: "no-freshness"},
	} {
		req := get(row.req...)
		if row.method != "" {
			req.Method = row.method
		}
		status := row.status
		if status == 0 {
			status = http.StatusOK
		}
		v := row.policy.MayStore(req, status, header(row.lines...), atOnce)
		if v.Store != (row.want == "") || v.Detail != row.want {
			t.Errorf("%s: got Store %t, Detail %q, want %q", row.name, v.Store, v.Detail, row.want)
		}
	}
}

// RFC 9111, Section 5.2.2.3: the statuses that are understood, and no other.
func TestMustUnderstand(t *testing.T) {
	want := []int{200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406,
		407, 408, 409, 410, 411, 413, 414, 415, 416, 417, 421, 422, 426, 500, 501, 502, 503, 504, 505}
	for status := 200; status < 600; status++ {
		v := (&Policy{}).MayStore(get(), status, header("Cache-Control: must-understand, no-store, max-age=60", "Content-Range: bytes 0-1/2"), atOnce)
		if isStorable(status) && v.Store != slices.Contains(want, status) {
			t.Errorf("%d: got %t, detail %q", status, v.Store, v.Detail)
		}
	}
	equal(t, "no status at all", (&Policy{}).MayStore(get(), 1000, header("Cache-Control: max-age=60"), atOnce).Detail, "status")
	equal(t, "the last status", (&Policy{}).MayStore(get(), 999, header("Cache-Control: max-age=60"), atOnce).Store, true)
}

// RFC 9111, Sections 4.2.4 and 5.2.2; RFC 5861; RFC 8246: what is set down for later.
func TestMayStoreTerms(t *testing.T) {
	windows := Policy{StaleWhileRevalidate: 7 * time.Second, StaleIfError: 8 * time.Second}
	for _, row := range []struct {
		name     string
		policy   Policy
		lines    []string
		flags    Flags
		swr, sie int64 // seconds
	}{
		{"plain", Policy{}, []string{"Cache-Control: max-age=60"}, 0, 0, 0},
		{"must-revalidate", Policy{}, []string{"Cache-Control: max-age=60, must-revalidate"}, MustRevalidate, 0, 0},
		{"proxy-revalidate", Policy{}, []string{"Cache-Control: max-age=60, proxy-revalidate"}, MustRevalidate, 0, 0},
		{"s-maxage", Policy{}, []string{"Cache-Control: s-maxage=60"}, MustRevalidate, 0, 0},
		{"no-cache", Policy{}, []string{"Cache-Control: no-cache", `ETag: "x"`}, NoCache | HasValidator, 0, 0},
		{"validator", Policy{}, []string{"Cache-Control: max-age=60", "Last-Modified: " + at(0)}, HasValidator, 0, 0},
		{"immutable", Policy{}, []string{"Cache-Control: max-age=60, immutable"}, Immutable, 0, 0},
		{"windows", Policy{}, []string{"Cache-Control: max-age=60, stale-while-revalidate=5, stale-if-error=6"}, BoundedError, 5, 6},
		{"windows of 0", windows, []string{"Cache-Control: max-age=60, stale-while-revalidate=0, stale-if-error=0"}, BoundedError, 0, 0},
		{"invalid windows", windows, []string{"Cache-Control: max-age=60, stale-while-revalidate=x, stale-if-error"}, BoundedError, 0, 0},
		{"configured windows", windows, []string{"Cache-Control: max-age=60"}, BoundedError, 7, 8},
		{"configured windows, must-revalidate", windows, []string{"Cache-Control: max-age=60, must-revalidate"}, MustRevalidate, 0, 0},
		{"configured windows, s-maxage", windows, []string{"Cache-Control: s-maxage=60"}, MustRevalidate, 0, 0},
		{"windows, s-maxage", Policy{}, []string{"Cache-Control: s-maxage=60, stale-while-revalidate=5, stale-if-error=6"}, MustRevalidate | BoundedError, 5, 6},
		{"windows, must-revalidate", Policy{}, []string{"Cache-Control: max-age=60, must-revalidate, stale-while-revalidate=5, stale-if-error=6"}, MustRevalidate, 0, 0},
		{"windows, no-cache", Policy{}, []string{"Cache-Control: no-cache, stale-while-revalidate=5, stale-if-error=6", `ETag: "x"`}, NoCache | HasValidator, 0, 0},
		{"ttl", Policy{TTL: map[int]time.Duration{200: time.Minute}}, nil, ConfiguredLifetime, 0, 0},
	} {
		v := store(row.policy, row.lines...)
		equal(t, row.name+": stored", v.Store, true)
		equal(t, row.name+": flags", v.Terms.Flags, row.flags)
		equal(t, row.name+": stale-while-revalidate", v.Terms.StaleWhileRevalidate, row.swr*1000)
		equal(t, row.name+": stale-if-error", v.Terms.StaleIfError, row.sie*1000)
	}
}

func TestMayStoreInstants(t *testing.T) {
	sent := epoch.Add(-500 * time.Millisecond)
	v := (&Policy{}).MayStore(get(), 200, header("Cache-Control: max-age=60", "Age: 10"), Times{sent, epoch})
	want := Terms{Received: epoch.UnixMilli(), Born: epoch.UnixMilli() - 10500, FreshUntil: epoch.UnixMilli() + 49500}
	equal(t, "terms", v.Terms, want)
}

// RFC 9111, Sections 3.1, 5.2.2.4, 5.2.2.7 and 7.3: fields that are not stored.
func TestMayStoreDrop(t *testing.T) {
	for _, row := range []struct {
		name   string
		policy Policy
		lines  []string
		want   []string
	}{
		{"nothing", Policy{}, []string{"Set-Cookie: a=b"}, nil},
		{"private", Policy{}, []string{`Cache-Control: private="x-foo"`}, []string{"X-Foo"}},
		{"no-cache", Policy{}, []string{`Cache-Control: no-cache="x-foo, x-bar"`}, []string{"X-Foo", "X-Bar"}},
		{"stripped", Policy{SetCookie: StripCookie}, []string{"Set-Cookie: a=b"}, []string{"Set-Cookie", "Set-Cookie2"}},
	} {
		v := store(row.policy, append(row.lines, "Expires: "+at(60))...)
		if !v.Store || !slices.Equal(v.Drop, row.want) {
			t.Errorf("%s: got %t, %q, want %q", row.name, v.Store, v.Drop, row.want)
		}
	}
}

// RFC 9213, Sections 2.1 and 2.2.
func TestTargeted(t *testing.T) {
	p := Policy{Targeted: []string{"Fluster-Cache-Control", "CDN-Cache-Control"}}
	const none = -1 // not stored
	for _, row := range []struct {
		name  string
		lines []string
		want  int64 // lifetime in seconds
	}{
		{"none", []string{"Cache-Control: max-age=5"}, 5},
		{"one", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60"}, 60},
		{"the first of the list", []string{"CDN-Cache-Control: max-age=60", "Fluster-Cache-Control: max-age=6"}, 6},
		{"another's", []string{"Cache-Control: max-age=5", "Foo-Cache-Control: max-age=60"}, 5},
		{"over no-store", []string{"Cache-Control: no-store", "CDN-Cache-Control: max-age=60"}, 60},
		{"over Expires", []string{"Expires: 0", "CDN-Cache-Control: max-age=60"}, 60},
		{"no-store", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: no-store"}, none},
		{"private", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: private, max-age=60"}, none},
		{"no-cache", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: no-cache, max-age=60"}, none},
		{"as a whole", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: none"}, none},
		{"as a whole, over Expires", []string{"Expires: " + at(60), "CDN-Cache-Control: none"}, none},
		{"empty", []string{"Cache-Control: max-age=5", "CDN-Cache-Control:"}, 5},
		{"no dictionary", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60, &&"}, 5},
		{"upper case is no key", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: Max-Age=60"}, 5},
		{"trailing comma", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60,"}, 5},
		{"empty, then the next", []string{"Fluster-Cache-Control:", "CDN-Cache-Control: max-age=60"}, 60},
		{"invalid, then the next", []string{"Fluster-Cache-Control: =", "CDN-Cache-Control: max-age=60"}, 60},
		{"two lines", []string{"CDN-Cache-Control: foo", "CDN-Cache-Control: max-age=60"}, 60},
		{"the last of a key", []string{"CDN-Cache-Control: max-age=6, max-age=60"}, 60},
		{"parameters", []string{"CDN-Cache-Control: max-age=60;foo=bar"}, 60},
		{"s-maxage", []string{"CDN-Cache-Control: max-age=60, s-maxage=6"}, 6},
		{"max-age as a String", []string{"Cache-Control: max-age=5", `CDN-Cache-Control: max-age="60"`}, none},
		{"max-age as a Decimal", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60.0"}, none},
		{"max-age as a Token", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=a60"}, none},
		{"max-age as an Inner List", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age=(60)"}, none},
		{"max-age without a value", []string{"Cache-Control: max-age=5", "CDN-Cache-Control: max-age"}, none},
		{"a negative max-age", []string{"Expires: " + at(60), "CDN-Cache-Control: max-age=-60"}, none},
		{"a negative max-age is stale", []string{"Last-Modified: " + at(-1000), "CDN-Cache-Control: max-age=-60"}, 0},
		{"a max-age of 0", []string{"Last-Modified: " + at(-1000), "CDN-Cache-Control: max-age=0"}, 0},
		{"a max-age of no number, by heuristics", []string{"Last-Modified: " + at(-1000), "CDN-Cache-Control: max-age=a"}, 100},
		{"a large max-age", []string{"CDN-Cache-Control: max-age=999999999999"}, maxDelta},
		{"no-store that is false", []string{"CDN-Cache-Control: max-age=60, no-store=?0"}, 60},
		{"no-store as an Integer", []string{"CDN-Cache-Control: max-age=60, no-store=1"}, 60},
		{"private as a String", []string{`CDN-Cache-Control: max-age=60, private="X-Foo"`}, 60},
	} {
		p := p
		p.IgnoreRequest = true // else what is stale when it comes is stored for max-stale
		v := p.MayStore(get(), 200, header(row.lines...), atOnce)
		got := int64(none)
		if v.Store {
			got = (v.Terms.FreshUntil - v.Terms.Born) / 1000
		}
		equal(t, row.name, got, row.want)
	}
	v := store(p, "CDN-Cache-Control: max-age=60", "Age: 20")
	equal(t, "Age counts", v.Terms.TTL(epoch), 40*time.Second)
	v = store(p, `CDN-Cache-Control: max-age=60, private="X-Foo"`)
	equal(t, "the fields of private", len(v.Drop) == 1 && v.Drop[0] == "X-Foo", true)
	v = store(Policy{Targeted: []string{"cdn-cache-control"}}, "CDN-Cache-Control: max-age=60")
	equal(t, "a name in lower case", v.Store, true)
}
