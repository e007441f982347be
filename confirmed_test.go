package fluster

import (
	"net/http"
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
