package fluster

import (
	"net/http"
	"testing"
)

// TestHostsThatAreNone: C1. Who writes into the host what belongs to the path, as HTTP/3
// lets a client do, does not store a response for another URL; nor does a host that
// stands for all hosts.
func TestHostsThatAreNone(t *testing.T) {
	s := newSite(t, new(Cache))
	s.answers("planted", "Cache-Control", "max-age=600")
	for _, host := range []string{"example.test/a", "example.test/a?b", `example.test\a`, "*", "*:80"} {
		s.want("planted", "fwd=bypass", "/b", "Host", host)
	}
	s.answers("page", "Cache-Control", "max-age=600")
	s.want("page", "fwd=uri-miss", "/a/b")
	s.Key = &Key{IgnoreHost: true}
	s.want("page", "fwd=uri-miss", "/b")
}

// TestKeyThatGrew: C1. What was stored when a field or a cookie did not count is not
// for requests without it, when it does.
func TestKeyThatGrew(t *testing.T) {
	for name, k := range map[string]*Key{"header": {Header: []string{"X-Country"}}, "cookie": {Cookie: []string{"theme"}}} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, new(Cache))
			s.answers("dark", "Cache-Control", "max-age=600")
			s.want("dark", "fwd=uri-miss", "/", "X-Country", "de", "Cookie", "theme=dark")
			s.Key = k
			s.answers("plain", "Cache-Control", "max-age=600")
			s.want("plain", "fwd=uri-miss", "/")
			s.want("plain", "hit", "/")
		})
	}
}

// TestCookiesOfBefore: C1. A cookie that was stored when that was configured is
// nobody's when it is not.
func TestCookiesOfBefore(t *testing.T) {
	for _, option := range []string{"bypass", "strip"} {
		t.Run(option, func(t *testing.T) {
			s := newSite(t, &Cache{SetCookie: "store"})
			s.answers("page", "Cache-Control", "max-age=600", "Set-Cookie", "id=1")
			s.want("page", "fwd=uri-miss", "/")
			s.want("page", "hit", "/")
			s.SetCookie = option
			if err := s.provisionPolicy(); err != nil {
				t.Fatal(err)
			}
			s.answers("new", "Cache-Control", "max-age=600")
			s.want("new", "fwd=uri-miss", "/")
			s.want("new", "hit", "/")
		})
	}
}

// TestTagsOfBefore: C3. What was stored when a field was none that carries tags, by
// which it cannot be invalidated, is not served when it is one; nor is the field.
func TestTagsOfBefore(t *testing.T) {
	s := newSite(t, new(Cache))
	s.answers("page", "Cache-Control", "max-age=600", "X-Tag", "a")
	s.want("page", "fwd=uri-miss", "/")
	s.tags = []string{"X-Tag"}
	s.want("page", "fwd=uri-miss", "/")
	s.want("page", "hit", "/")
}

// TestPostOfSearch: what a POST is answered with is stored under the name that a GET
// looks for, also where queries are compared as the response says.
func TestPostOfSearch(t *testing.T) {
	s := newSite(t, &Cache{NoVarySearch: true})
	s.answers("posted", "Cache-Control", "max-age=600", "Content-Location", "/p?a=1")
	s.do(http.MethodPost, "/p?a=1")
	s.want("posted", "hit", "/p?a=1")
	s.answers("other", "Cache-Control", "max-age=600")
	s.want("other", "fwd=uri-miss", "/p?a=2")
}

// TestPostOfWhatIsLeftOut: C1. What a POST is answered with is no answer to a GET that
// would be sent on without a part of the query.
func TestPostOfWhatIsLeftOut(t *testing.T) {
	s := newSite(t, &Cache{Key: &Key{QueryDeny: []string{"as"}}})
	s.answers("for the admin", "Cache-Control", "max-age=600", "Content-Location", "/p?as=admin")
	s.do(http.MethodPost, "/p?as=admin")
	s.answers("page", "Cache-Control", "max-age=600", "Content-Location", "/p")
	s.want("page", "fwd=uri-miss", "/p")
	s.answers("posted", "Cache-Control", "max-age=600", "Content-Location", "/p")
	s.do(http.MethodPost, "/p")
	s.want("posted", "hit", "/p")
}

// TestGroupsOfAllHosts: C3. Where all hosts share what is stored, so they do its groups.
func TestGroupsOfAllHosts(t *testing.T) {
	s := newSite(t, &Cache{Key: &Key{IgnoreHost: true}})
	s.answers("page", "Cache-Control", "max-age=600", "Cache-Groups", `"a"`)
	s.want("page", "fwd=uri-miss", "/", "Host", "a.test")
	s.want("page", "hit", "/", "Host", "b.test")
	s.origin = answer(204, "", "Cache-Group-Invalidation", `"a"`)
	s.do(http.MethodPost, "/other", "Host", "b.test")
	s.answers("new", "Cache-Control", "max-age=600")
	s.want("new", "fwd=uri-miss", "/", "Host", "b.test")
}

// TestGroupDuringPost: C3. What a POST is answered with is not stored when a group of
// it was invalidated since the origin was asked.
func TestGroupDuringPost(t *testing.T) {
	s := newSite(t, new(Cache))
	header := []string{"Cache-Control", "max-age=600", "Content-Location", "/p", "Cache-Groups", `"a"`}
	s.answers("posted", header...)
	s.do(http.MethodPost, "/p")
	s.want("posted", "hit", "/p")
	s.origin = func(w http.ResponseWriter, r *http.Request) {
		s.origin = answer(204, "", "Cache-Group-Invalidation", `"a"`)
		s.do(http.MethodPost, "/other")
		answer(200, "old", header...)(w, r)
	}
	s.do(http.MethodPost, "/p")
	s.answers("new", header...)
	s.want("new", "fwd=uri-miss", "/p")
}

// TestOtherLanguageMeanwhile: C1. Who is given a variant by its language, and not by the
// very words of the request, is given it in that language, whatever it was before.
func TestOtherLanguageMeanwhile(t *testing.T) {
	s := newSite(t, new(Cache))
	header := []string{"Cache-Control", "max-age=600", "Vary", "Accept-Language", "Content-Language"}
	s.answers("english", append(header, "en")...)
	s.want("english", "fwd=uri-miss", "/", "Accept-Language", "en")
	s.want("english", "hit", "/", "Accept-Language", "en, fr;q=0.5")
	s.answers("deutsch", append(header, "de")...)
	list, _ := s.pool.near.Load().Get("http://example.test/")
	s.pool.near.Load().Delete(list.variants.List[0].Key)
	s.want("deutsch", "fwd=", "/", "Accept-Language", "en")
	s.pool.near.Load().Set("http://example.test/", list) // as another process knows it
	s.answers("english", append(header, "en")...)
	s.want("english", "fwd=", "/", "Accept-Language", "en, fr;q=0.5")
	s.want("deutsch", "hit", "/", "Accept-Language", "en")
}
