package fluster_test

import (
	"os"
	"path/filepath"
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

// TestErrorPageOfFile: C1. A page that file_server gives with another status than 200
// stays whole when it was stale: such a handler answers a condition by nothing.
func TestErrorPageOfFile(t *testing.T) {
	for name, site := range map[string]string{
		"handle_errors": `
			error 404
			handle_errors {
				route {
					fluster_cache {
						ttl 404 50ms
					}
					rewrite /404.html
					file_server
				}
			}`,
		"handle_errors with success": `
			error 404
			handle_errors {
				route {
					fluster_cache {
						ttl 50ms
					}
					rewrite /404.html
					file_server {
						status 200
					}
				}
			}`,
		"status": `
			route {
				fluster_cache {
					ttl 404 50ms
				}
				rewrite /404.html
				file_server {
					status 404
				}
			}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := caddytest.Load(t, "", files(t, map[string]string{"404.html": "not here"})+site)
			status := 404
			if strings.Contains(site, "status 200") {
				status = 200
			}
			for range 4 {
				wantBody(t, c.Get("/a"), status, "not here")
				time.Sleep(60 * time.Millisecond)
			}
		})
	}
}
