package fluster

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// TestConfirmationOfAnother: a client that asks for a validation, whose 304 is about
// another response than the stored one, gets what the origin sends then, also when
// that may not be stored; and so does who comes next.
func TestConfirmationOfAnother(t *testing.T) {
	s := newSite(t, &Cache{ClientDirectives: "honor"})
	s.answers("old", "Cache-Control", "max-age=600", "Etag", `"1"`)
	s.want("old", "fwd=uri-miss", "/")
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			answer(304, "", "Etag", `"2"`)(w, r)
			return
		}
		answer(200, "new", "Cache-Control", "private")(w, r)
	}
	s.want("new", "fwd=request", "/", "Cache-Control", "no-cache")
	s.want("new", "fwd=uri-miss", "/")
}

// TestAgeOfWhatIsNotStored: what was confirmed for one client alone says the age that
// it has.
func TestAgeOfWhatIsNotStored(t *testing.T) {
	for name, fields := range map[string][]string{"Authorization": {"Authorization", "Basic a"}, "Set-Cookie": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, new(Cache))
				s.answers("page", "Cache-Control", "max-age=5", "Etag", `"1"`)
				s.want("page", "fwd=uri-miss", "/")
				time.Sleep(10 * time.Second)
				s.origin = answer(304, "", "Etag", `"1"`, "Age", "3")
				if name == "Set-Cookie" {
					s.origin = answer(304, "", "Etag", `"1"`, "Age", "3", "Set-Cookie", "a=b")
				}
				if got := s.want("page", "fwd=stale", "/", fields...).Get("Age"); got != "3" {
					t.Errorf("Age: got %q, want 3", got)
				}
			})
		})
	}
}

// TestUnstoredFields: a client whose request is answered from what is stored, after the
// origin was asked, gets the fields that are not stored, as they are for it; nobody else
// does, nor does anybody get tags.
func TestUnstoredFields(t *testing.T) {
	for name, s := range map[string]*Cache{"strip": {SetCookie: "strip"}, "private": {}} {
		t.Run(name, func(t *testing.T) {
			s, cc := newSite(t, s), "max-age=600"
			if err := s.provisionPolicy(); err != nil {
				t.Fatal(err)
			}
			if name == "private" {
				cc += `, private="Set-Cookie, Cache-Tag"`
			}
			want := func(h http.Header, cookies ...string) {
				t.Helper()
				if got := h["Set-Cookie"]; !slices.Equal(got, cookies) || h["Cache-Tag"] != nil {
					t.Errorf("got cookies %q and tags %q, want cookies %q", got, h["Cache-Tag"], cookies)
				}
			}
			answers := func(status int, body, cookie string, fields ...string) {
				s.origin = answer(status, body, append(fields, "Cache-Control", cc, "Etag", `"1"`, "Set-Cookie", cookie, "Cache-Tag", "a")...)
			}
			answers(200, "page", "a=1")
			want(s.do(http.MethodGet, "/conditional", "If-None-Match", `"1"`).Header(), "a=1")
			want(s.want("page", "hit", "/conditional"))

			want(s.want("page", "fwd=uri-miss", "/"), "a=1")
			want(s.want("page", "hit", "/"))
			s.invalidate(journal.All, "", true)
			answers(304, "", "a=2")
			want(s.want("page", "fwd=stale; fwd-status=304; stored", "/"), "a=2")
			want(s.want("page", "hit", "/"))

			answers(206, "ab", "a=3", "Content-Range", "bytes 0-1/4")
			want(s.want("ab", "fwd=uri-miss", "/part", "Range", "bytes=0-1"), "a=3")
			answers(206, "cd", "a=4", "Content-Range", "bytes 2-3/4")
			want(s.want("abcd", "fwd=partial", "/part"), "a=4")
			want(s.want("abcd", "hit", "/part"))
		})
	}
}

// TestGroupsOfConfirmed: C3. A response is of the groups that its last validation says.
func TestGroupsOfConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, new(Cache))
		s.answers("page", "Cache-Control", "max-age=5", "Etag", `"1"`, "Cache-Groups", `"a"`)
		s.want("page", "fwd=uri-miss", "/")
		time.Sleep(10 * time.Second)
		s.origin = answer(304, "", "Etag", `"1"`, "Cache-Control", "max-age=600", "Cache-Groups", `"b"`)
		s.want("page", "fwd=stale", "/")
		s.want("page", "hit", "/")
		s.origin = answer(204, "", "Cache-Group-Invalidation", `"b"`)
		s.do(http.MethodPost, "/other")
		s.answers("new", "Cache-Control", "max-age=5")
		s.want("new", "fwd=uri-miss", "/")
	})
}

// TestTagsOfParts: C3. What was combined of two parts has the tags and groups of both.
func TestTagsOfParts(t *testing.T) {
	for _, by := range []string{"one", "two"} {
		t.Run(by, func(t *testing.T) {
			s := newSite(t, new(Cache))
			s.origin = answer(206, "ab", "Cache-Control", "max-age=600", "Etag", `"1"`, "Content-Range", "bytes 0-1/4", "Cache-Tag", "one")
			s.want("ab", "fwd=uri-miss", "/", "Range", "bytes=0-1")
			s.origin = answer(206, "cd", "Cache-Control", "max-age=600", "Etag", `"1"`, "Content-Range", "bytes 2-3/4", "Cache-Tag", "two")
			s.want("abcd", "fwd=partial", "/")
			s.want("abcd", "hit", "/")
			s.invalidate(journal.Tag, by, false)
			s.answers("new", "Cache-Control", "max-age=5")
			s.want("new", "fwd=uri-miss", "/")
		})
	}
}

// TestStalePart: C3. A part that is stale, as it was softly invalidated, is not served
// for ever where stale responses may be served while they are validated.
func TestStalePart(t *testing.T) {
	s := newSite(t, &Cache{StaleWhileRevalidate: caddy.Duration(time.Minute)})
	s.origin = answer(206, "ab", "Cache-Control", "max-age=600", "Etag", `"1"`, "Content-Range", "bytes 0-1/4")
	s.want("ab", "fwd=uri-miss", "/", "Range", "bytes=0-1")
	s.want("ab", "hit", "/", "Range", "bytes=0-1")
	s.invalidate(journal.All, "", true)
	s.origin = answer(206, "AB", "Cache-Control", "max-age=600", "Etag", `"2"`, "Content-Range", "bytes 0-1/4")
	s.want("AB", "fwd=partial", "/", "Range", "bytes=0-1")
}

// TestManyTagsOfConfirmed: C3. A response whose validation gives it more tags than
// count is not kept: it could not be invalidated by the others.
func TestManyTagsOfConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, new(Cache))
		s.answers("page", "Cache-Control", "max-age=5", "Etag", `"1"`, "Cache-Tag", "a")
		s.want("page", "fwd=uri-miss", "/")
		time.Sleep(10 * time.Second)
		s.origin = answer(304, "", "Etag", `"1"`, "Cache-Control", "max-age=600", "Cache-Tag", strings.Repeat("x", 2000))
		s.want("page", "fwd=stale; fwd-status=304; detail=tags", "/")
		s.answers("new", "Cache-Control", "max-age=5")
		s.want("new", "fwd=uri-miss", "/")
	})
}

// TestLongHeaderOfConfirmed: C5. What validations and further parts add to a header does
// not make it longer than one that is stored.
func TestLongHeaderOfConfirmed(t *testing.T) {
	s := newSite(t, new(Cache))
	long := strings.Repeat("x", maxHeader/2)
	s.answers("page", "Cache-Control", "max-age=0", "Etag", `"1"`, "A", long)
	s.want("page", "fwd=uri-miss; fwd-status=200; stored", "/")
	s.origin = answer(304, "", "Etag", `"1"`, "A", long)
	s.want("page", "fwd=stale; fwd-status=304; stored", "/")
	s.origin = answer(304, "", "Etag", `"1"`, "B", long)
	if h := s.want("page", "fwd=stale; fwd-status=304; detail=max-header", "/"); h.Get("A") != long || h.Get("B") != long {
		t.Error("who asks does not get all fields")
	}
	s.origin = answer(206, "ab", "Cache-Control", "max-age=600", "Etag", `"1"`, "Content-Range", "bytes 0-1/4", "A", long)
	s.want("ab", "fwd=uri-miss; fwd-status=206; stored", "/part", "Range", "bytes=0-1")
	s.origin = answer(206, "cd", "Cache-Control", "max-age=600", "Etag", `"1"`, "Content-Range", "bytes 2-3/4", "B", long)
	s.want("abcd", "fwd=partial; fwd-status=206; detail=max-header", "/part")
	s.origin = answer(200, "abcd", "Cache-Control", "max-age=600", "Etag", `"1"`)
	s.want("abcd", "fwd=partial; fwd-status=200; stored", "/part")
}

// TestDoubtedStaysSo: C4. What may be older than what was served is not served stale,
// after a HEAD has said that it is outdated, than in place of a failure.
func TestDoubtedStaysSo(t *testing.T) {
	s := newSite(t, &Cache{StaleWhileRevalidate: caddy.Duration(time.Hour)})
	s.answers("old", "Cache-Control", "max-age=600", "Etag", `"1"`)
	s.want("old", "fwd=uri-miss", "/")
	e, _ := s.pool.near.Load().Get("http://example.test/")
	e.doubted = true
	s.answers("", "Cache-Control", "max-age=600", "Etag", `"2"`)
	s.do(http.MethodHead, "/")
	s.answers("new", "Cache-Control", "max-age=600", "Etag", `"2"`)
	s.want("new", "fwd=stale", "/")
}
