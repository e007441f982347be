package fluster_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// raw sends bytes as they are, and returns what came until the server closed.
func raw(t *testing.T, c *caddytest.Caddy, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read tells
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// echoed answers with the method, the path and query, and some fields as the
// origin got them.
func echoed(w http.ResponseWriter, r *http.Request) {
	caddytest.Answer(200, fmt.Sprintf("%s %s user=%q cookie=%q origin=%q", r.Method, r.URL.RequestURI(),
		r.Header.Get("X-User"), r.Header.Get("Cookie"), r.Header.Get("Origin")), append(fresh, "Vary", "Origin")...)(w, r)
}

// TestAbsoluteForm: C1. The form of the request line is nothing to the key: a
// URL that was rewritten is never what another handler's URL is.
func TestAbsoluteForm(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", "handle_path /api/* {\n"+cached(o)+"\n}\nhandle {\n"+cached(o)+"\n}")
	got := raw(t, c, "GET http://"+caddytest.Host+"/api/q HTTP/1.1\r\nHost: "+caddytest.Host+"\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, "stored") || !strings.Contains(got, "GET /q ") {
		t.Fatalf("got %q, want it stored", got)
	}
	wantMiss(t, c, "/q")
	wantHit(t, c, "near", "/api/q")
}

// TestAbsoluteFormIsNotTold: C1. What a target in absolute form has beside the URL (user
// information, another scheme, how the host is written) is not in the key, so the origin
// is not told of it for everybody.
func TestAbsoluteFormIsNotTold(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, fmt.Sprint(r.Header["X-Told"]), fresh...)(w, r)
	})
	c := caddytest.Load(t, "", "handle_path /api/* {\nfluster_cache\n"+o.Behind()+` {
		header_up +X-Told {http.request.orig_uri}
		header_up +X-Told {uri}
	}
	}`)
	raw(t, c, "GET ftp://evil:x@"+strings.ToUpper(caddytest.Host)+"/api/q?a HTTP/1.1\r\nHost: "+caddytest.Host+"\r\nConnection: close\r\n\r\n")
	wantBody(t, c.Get("/api/q?a"), 200, "[/api/q?a /q?a]")
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want that both are one", o.Count())
	}
}

// TestHostAsItCounts: C1. How a host is written makes no other key, so no handler behind
// is told of it: one that answers it with a failure or a redirection would answer so
// whoever comes next.
func TestHostAsItCounts(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, fmt.Sprint(r.Host, r.Header["X-Forwarded-Host"], r.Header["X-Told"]), "Cache-Control", "max-age=0, stale-while-revalidate=60")(w, r)
	})
	c := caddytest.Load(t, "", "route {\nfluster_cache\n"+o.Behind()+" {\nheader_up X-Told {http.request.hostport}\n}\n}")
	want := fmt.Sprintf("%s[%[1]s] [%[1]s]", caddytest.Host)
	for _, host := range []string{"EXAMPLE.test", caddytest.Host + ":80", "Example.Test:80"} {
		for range 3 { // a miss, and validations in the background
			count := o.Count()
			caddytest.Eventually(t, "the origin is asked", func() bool {
				wantBody(t, c.Get("/"+host, "Host", host), 200, want)
				return o.Count() > count
			})
		}
		if r := c.Do("POST", "/"+host, "x", "Host", host); !strings.HasPrefix(string(r.Body), host+"[") {
			t.Errorf("POST for %s: got %s, want it sent on as it came", host, r)
		}
	}
}

// TestTargetsWithoutPath: C1. What a request line has in place of a path does not run
// into the host: that would be another host's URL, and is never stored, nor is what is
// answered for want of a path.
func TestTargetsWithoutPath(t *testing.T) {
	c := caddytest.Load(t, "", `
		route {
			fluster_cache {
				ttl 200 308 1m
			}
			@pathless expression {http.request.uri.path} == ""
			redir @pathless / 308
			respond "{host}"
		}`)
	for _, target := range []string{"http:.au/", "http:.au/?x", "http::8080/", "http://" + caddytest.Host, "http:", "*"} {
		got := raw(t, c, "GET "+target+" HTTP/1.1\r\nHost: "+caddytest.Host+"\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, "fluster; fwd=bypass") {
			t.Errorf("GET %s: got %q, want it passed on", target, got)
		}
	}
	for _, host := range []string{caddytest.Host, caddytest.Host + ".au", caddytest.Host + ":8080"} {
		for _, path := range []string{"/", "/?x"} {
			name, _, _ := strings.Cut(host, ":")
			wantBody(t, wantMiss(t, c, path, "Host", host), 200, name)
		}
	}
	wantHit(t, c, "near", "/", "Host", caddytest.Host+".au")
	raw(t, c, "POST http:.au/ HTTP/1.1\r\nHost: "+caddytest.Host+"\r\nConnection: close\r\n\r\n")
	if r := c.Get("/", "Host", caddytest.Host+".au"); !strings.Contains(r.CacheStatus(), "fluster; hit") {
		t.Errorf("after a POST to no path: got %s, want a hit", r)
	}
}

// TestNoHost: a request that names no host is passed on and no more.
func TestNoHost(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", cached(o))
	for _, request := range []string{"POST /x HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "GET /x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.0\r\n\r\n"} {
		if got := raw(t, c, request); !strings.Contains(got, " 200 OK") || !strings.Contains(got, "fluster; fwd=bypass") {
			t.Errorf("%q: got %q, want it passed on", request, got)
		}
	}
	if lines := c.Logged("panic"); len(lines) > 0 {
		t.Error(lines)
	}
}

// TestConnectionNamesFields: C1. What Connection names never reaches the
// origin, so no response is stored as an answer to it.
func TestConnectionNamesFields(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", cached(o))
	raw(t, c, "GET /o HTTP/1.1\r\nHost: "+caddytest.Host+"\r\nOrigin: https://a\r\nConnection: close, Origin\r\n\r\n")
	wantBody(t, wantMiss(t, c, "/o", "Origin", "https://a"), 200, `GET /o user="" cookie="" origin="https://a"`)
}

// TestUnsafeAlwaysInvalidates: C3. RFC 9111, Section 4.4: whatever else a
// request says, and whether or not the operator lets it bypass.
func TestUnsafeAlwaysInvalidates(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", "@admin header X-Admin *\n"+cached(o, "bypass @admin"))
	for name, header := range map[string][]string{
		"If-Match": {"If-Match", `"a"`},
		"h2c":      {"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", ""},
		"bypass":   {"X-Admin", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			wantHit(t, c, "near", "/"+name)
			wantBody(t, c.Do("PUT", "/"+name, "x", header...), 200, `PUT /`+name+` user="" cookie="" origin=""`)
			wantMiss(t, c, "/"+name)
		})
	}
}

// TestQueryOfUnsafe: what the key leaves out is left out of what may be stored,
// and of nothing else.
func TestQueryOfUnsafe(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", "@byp path /byp\n"+cached(o, "bypass @byp", "key {\nquery_allow page\n}"))
	for _, tt := range []struct{ method, path, want string }{
		{"POST", "/a?action=save&page=2", "POST /a?action=save&page=2"},
		{"GET", "/byp?action=save&page=2", "GET /byp?action=save&page=2"},
		{"GET", "/a?action=save&page=2", "GET /a?page=2"},
	} {
		if got := c.Do(tt.method, tt.path, ""); !strings.HasPrefix(string(got.Body), tt.want+" ") {
			t.Errorf("%s %s: the origin got %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
}

// TestRawCookies: C1. A cookie of the key counts as the origin sees it.
func TestRawCookies(t *testing.T) {
	o := caddytest.NewOrigin(t, echoed)
	c := caddytest.Load(t, "", cached(o, "key {\ncookie theme\n}"))
	for _, cookie := range []string{"", "theme=\xc3\xa9", `theme="dark"`, "theme=dark"} {
		header := []string{"Cookie", cookie}
		if cookie == "" {
			header = nil
		}
		wantBody(t, wantMiss(t, c, "/c", header...), 200, fmt.Sprintf("GET /c user=\"\" cookie=%q origin=\"\"", cookie))
	}
}

// TestBackgroundKnowsWhatMatchersSaw: C1. A validation in the background asks
// what the request asked.
func TestBackgroundKnowsWhatMatchersSaw(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, "for "+r.Header.Get("X-User"), "Cache-Control", "max-age=0, stale-while-revalidate=600")(w, r)
	})
	c := caddytest.Load(t, "", "@u path_regexp u ^/u/(\\w+)\nhandle @u {\nfluster_cache\n"+o.Behind()+" {\nheader_up X-User {re.u.1}\n}\n}")
	wantMiss(t, c, "/u/bob")
	caddytest.Eventually(t, "the origin is asked in the background", func() bool {
		wantBody(t, c.Get("/u/bob"), 200, "for bob")
		return o.Count() > 3
	})
}

// TestVaryThatComesLate: C1. RFC 9111, Section 3.2: a 304 may say that what it
// confirms is for some requests only.
func TestVaryThatComesLate(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			caddytest.Answer(304, "", "ETag", `"a"`, "Vary", "Accept-Language", "Cache-Control", "max-age=600")(w, r)
			return
		}
		caddytest.Answer(200, "in "+r.Header.Get("Accept-Language"), "ETag", `"a"`, "Cache-Control", "no-cache")(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	wantMiss(t, c, "/")
	wantBody(t, wantMiss(t, c, "/", "Accept-Language", "de"), 200, "in ")
	wantHit(t, c, "near", "/", "Accept-Language", "de")
	wantBody(t, wantMiss(t, c, "/", "Accept-Language", "fr"), 200, "in fr")
}

// TestFieldsBefore: C1. What handlers before the cache write is theirs: it is
// neither stored nor judged.
func TestFieldsBefore(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", append(fresh, "X-Two", "inner")...))
	c := caddytest.Load(t, "", "route {\nheader +Set-Cookie visit={http.request.header.X-Id}\nheader +X-Two {http.request.header.X-Id}\n"+
		"fluster_cache\nheader +X-Three three\n"+o.Behind()+"\n}")
	for _, id := range []string{"1", "2", "3"} {
		r := c.Get("/", "X-Id", id)
		if got := fmt.Sprint(r.Header["X-Two"], r.Header["Set-Cookie"], r.Header["X-Three"]); got != fmt.Sprintf("[%s inner] [visit=%s] [three]", id, id) {
			t.Errorf("request %s: got %s [%s], want its own fields and the stored ones", id, got, r.CacheStatus())
		}
	}
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once", o.Count())
	}
}

// TestFieldsBeforeWhatIsShared: likewise where a response is shared with another
// request, confirmed, or served in part.
func TestFieldsBeforeWhatIsShared(t *testing.T) {
	g := newGate()
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		head := []string{"Cache-Control", r.URL.Query().Get("cc"), "X-Two", "inner", "Etag", `"a"`}
		if r.Header.Get("If-None-Match") != "" {
			caddytest.Answer(304, "", head...)(w, r)
			return
		}
		inParts(g, "pa", thenWrite("ge"), head...)(w, r)
	})
	c := caddytest.Load(t, "", "route {\nheader +X-Two {http.request.header.X-Id}\nfluster_cache\n"+o.Behind()+"\n}")
	want := func(what string, h http.Header) {
		t.Helper()
		if got := fmt.Sprint(h["X-Two"]); got != "[me inner]" {
			t.Errorf("%s: got X-Two %s [%s], want its own line and the stored one", what, got, h["Cache-Status"])
		}
	}
	leader := c.Open(testContext(t), "/?cc=max-age=600", "X-Id", "other")
	follower := c.Open(testContext(t), "/?cc=max-age=600", "X-Id", "me")
	want("a follower", follower.Header)
	g.open()
	wantRest(t, leader, "page")
	wantRest(t, follower, "page")
	for range 2 {
		want("a confirmed one", c.Get("/?cc=no-cache", "X-Id", "me").Header)
		want("a part", c.Get("/?cc=no-cache", "X-Id", "me", "Range", "bytes=0-1").Header)
	}
}

// TestEventStream: C6. Events are for whom they are sent to.
func TestEventStream(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "data: 1\n\n", "Content-Type", "text/event-stream"))
	c := caddytest.Load(t, "", cached(o, "ttl 1m"))
	wantNeverStored(t, c, o, "/events")
}

// TestConditionsOfPrivate: a client that has the private page already is told so.
func TestConditionsOfPrivate(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "mine", "Cache-Control", "private", "ETag", `"a"`))
	c := caddytest.Load(t, "", cached(o))
	wantBody(t, c.Get("/"), 200, "mine")
	wantBody(t, c.Get("/", "If-None-Match", `"a"`), 304, "")
	wantBody(t, c.Get("/", "If-None-Match", `"b"`), 200, "mine")
}

// TestSlowLeader: C6. A client that does not read holds up nobody who wants the
// same.
func TestSlowLeader(t *testing.T) {
	const size = 7 << 20
	g := newGate()
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		inParts(g, "begin", func(w http.ResponseWriter) { w.Write(make([]byte, size)) }, fresh...)(w, r) //nolint:errcheck // the followers tell
	})
	c := caddytest.Load(t, "", cached(o))
	leader, err := net.Dial("tcp", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer leader.Close()
	fmt.Fprintf(leader, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", caddytest.Host)
	leader.Read(make([]byte, 1)) //nolint:errcheck // it has the head, and reads no more
	follower := c.Open(testContext(t), "/")
	wantPart(t, follower, "begin")
	g.open()
	n, err := io.Copy(io.Discard, follower.Body)
	if err != nil || n != size {
		t.Errorf("a follower of a client that does not read: got %d bytes, %v, want %d", n, err, size)
	}
}
