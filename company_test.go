package fluster_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// files writes files of these names and contents, and returns the line that makes them
// the root of a site.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "root " + dir + "\n"
}

// errorPages are sites that give a page of file_server, "not here", with the status that
// their name ends with, and store it for ttl.
func errorPages(ttl string) map[string]string {
	return map[string]string{
		"handle_errors 404": `
			error 404
			handle_errors {
				route {
					fluster_cache {
						ttl 404 ` + ttl + `
					}
					rewrite /404.html
					file_server
				}
			}`,
		"handle_errors 200": `
			error 404
			handle_errors {
				route {
					fluster_cache {
						ttl ` + ttl + `
					}
					rewrite /404.html
					file_server {
						status 200
					}
				}
			}`,
		"status 404": `
			route {
				fluster_cache {
					ttl 404 ` + ttl + `
				}
				rewrite /404.html
				file_server {
					status 404
				}
			}`,
	}
}

// TestErrorPageOfFile: C1. A page that file_server gives with another status than 200
// stays whole when it was stale: such a handler answers a condition by nothing.
func TestErrorPageOfFile(t *testing.T) {
	for name, site := range errorPages("50ms") {
		t.Run(name, func(t *testing.T) {
			c := caddytest.Load(t, "", files(t, map[string]string{"404.html": "not here"})+site)
			for range 4 {
				wantBody(t, c.Get("/a"), statusIn(name), "not here")
				time.Sleep(60 * time.Millisecond)
			}
		})
	}
}

// TestErrorPageOfFileInParts: C1. Nor is such a page empty, or a part of one, for everybody
// when the first who asks for it has it, or wants a part: with its own status over a 304,
// a 206 or a 416 it looks whole.
func TestErrorPageOfFileInParts(t *testing.T) {
	for name, site := range errorPages("1m") {
		t.Run(name, func(t *testing.T) {
			c := caddytest.Load(t, "", files(t, map[string]string{"404.html": "not here"})+site)
			for i, header := range [][]string{
				{"Range", "bytes=0-2"},
				{"Range", "bytes=99-"},
				{"Range", "bytes=-"},
				{"Range", "bytes=0-", "If-None-Match", "*"},
			} {
				path := fmt.Sprint("/", i)
				c.Get(path, header...)
				if r := c.Get(path); r.Err != nil || r.Status != statusIn(name) || string(r.Body) != "not here" {
					t.Errorf("after a request with %q: got %s, want all of the page", header, r)
				}
				wantHit(t, c, "near", path)
			}
		})
	}
}

// statusIn returns the status that a name ends with.
func statusIn(name string) int {
	status, _ := strconv.Atoi(name[len(name)-3:])
	return status
}

// TestHeadersOfHandlersBefore: C1. What handlers before the cache have written is not
// stored, and stands beside what is, however that was made anew.
func TestHeadersOfHandlersBefore(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("X-Line", "behind")
		w.Header().Set("Cache-Control", "max-age=1")
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader("0123"))
	})
	c := caddytest.Load(t, "", `
		header X-Line before
		header X-Who "{header.X-Who}"
		`+cached(o, "min_ttl 200ms", "max_ttl 200ms"))
	want := func(r caddytest.Response, status int, body, who string) {
		t.Helper()
		wantBody(t, r, status, body)
		if lines := r.Header["X-Line"]; !slices.Equal(lines, []string{"before", "behind"}) || r.Header.Get("X-Who") != who {
			t.Errorf("got %s with X-Line %q and X-Who %q, want before, behind, and %q", r, lines, r.Header["X-Who"], who)
		}
	}
	t.Run("HEAD", func(t *testing.T) {
		want(c.Get("/head"), 200, "0123", "")
		caddytest.Eventually(t, "it is stale", func() bool { return !c.Do("HEAD", "/head", "", "X-Who", "a").Hit("near") })
		want(c.Get("/head"), 200, "0123", "")
	})
	t.Run("parts", func(t *testing.T) {
		want(c.Get("/part", "Range", "bytes=0-1", "X-Who", "a"), 206, "01", "a")
		caddytest.Eventually(t, "the parts are joined", func() bool {
			return strings.Contains(c.Get("/part", "X-Who", "a").CacheStatus(), "fwd=partial")
		})
		want(wantHit(t, c, "near", "/part"), 200, "0123", "")
	})
}

// TestUntyped: a hit has no Content-Type that is guessed where file_server wants none.
func TestUntyped(t *testing.T) {
	c := caddytest.Load(t, "", files(t, map[string]string{"upload": "<script>"})+"route {\n fluster_cache {\n ttl 100ms\n}\n file_server\n}")
	for i := range 4 {
		for _, part := range []string{"", "bytes=0-3"} {
			r := c.Get("/upload", "Range", part)
			if kind, ok := r.Header["Content-Type"]; r.Err != nil || ok {
				t.Errorf("request %d for %q: got %s with Content-Type %q, want none", i, part, r, kind)
			}
		}
		time.Sleep(time.Duration(i) * 50 * time.Millisecond)
	}
}
