package fluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestHandlerRefuses: an error of a handler behind the cache that is about the request,
// as file_server's 404 for a file that is gone, is the origin's answer and no failure:
// nothing stale stands in for it, then or later.
func TestHandlerRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(file, []byte("page"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := caddytest.Load(t, "", `
		root `+dir+`
		route {
			fluster_cache {
				ttl 50ms
				stale_if_error 1h
			}
			@failing header X-Fails *
			error @failing 502
			file_server
		}`)
	wantBody(t, c.Get("/a.txt"), 200, "page")
	caddytest.Eventually(t, "what is stale stands in for a failure", func() bool {
		r := c.Get("/a.txt", "X-Fails", "1")
		wantBody(t, r, 200, "page")
		return strings.Contains(r.CacheStatus(), "hit; ttl=-")
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	wantBody(t, c.Get("/a.txt"), 404, "")
	wantBody(t, c.Get("/a.txt", "X-Fails", "1"), 502, "")
}

// TestCacheOfErrors: C1. What is stored in handle_errors is an answer to requests that
// fail in the same way, and never stands in for the page itself.
func TestCacheOfErrors(t *testing.T) {
	c := caddytest.Load(t, "", `
		route {
			fluster_cache {
				ttl 1m
			}
			@502 header X-Fails 502
			error @502 502
			@404 header X-Fails 404
			error @404 404
			respond "page"
		}
		handle_errors {
			route {
				fluster_cache {
					ttl 1m
				}
				respond "error {err.status_code}" 200
			}
		}`)
	for _, status := range []string{"502", "404"} {
		wantBody(t, wantMiss(t, c, "/", "X-Fails", status), 200, "error "+status)
		caddytest.Eventually(t, "it is stored", func() bool {
			r := c.Get("/", "X-Fails", status)
			wantBody(t, r, 200, "error "+status)
			return strings.Contains(r.CacheStatus(), "; hit; ")
		})
	}
	wantBody(t, wantMiss(t, c, "/"), 200, "page")
	wantBody(t, wantHit(t, c, "near", "/", "X-Fails", "502"), 200, "page")
}
