package fluster_test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// fastCGI makes the origin a FastCGI server, too, and returns how it stands behind.
func fastCGI(t *testing.T, o *caddytest.Origin) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, o) //nolint:errcheck // it ends with the test
	return l.Addr().String() + " {\ntransport fastcgi\n}"
}

// TestLeftOutIsNotToldOtherwise: C1. What the key leaves out of the query does not
// reach the origin by a placeholder either, nor as what the client asked for.
func TestLeftOutIsNotToldOtherwise(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		told := fmt.Sprint(r.URL.RequestURI(), " ", r.Header["X-Told"])
		caddytest.Answer(200, told, fresh...)(w, r)
	})
	c := caddytest.Load(t, "", `
		handle_path /app/* {
			fluster_cache {
				key {
					query_deny utm_*
				}
			}
			@php query p=*
			reverse_proxy @php `+fastCGI(t, o)+`
			`+o.Behind()+` {
				header_up +X-Told {uri}
				header_up +X-Told {query}
				header_up +X-Told {http.request.uri.query.utm_x}
				header_up +X-Told {http.request.orig_uri}
				header_up +X-Told {http.request.orig_uri.query}
				header_up +X-Told {http.request.orig_uri.prefixed_query}
			}
		}`)
	wantBody(t, c.Get("/app/a?b=1&utm_x=evil"), 200, "/a?b=1 [/a?b=1 b=1  /app/a?b=1 b=1 ?b=1]")
	wantBody(t, c.Get("/app/a?utm_x=evil"), 200, "/a [/a   /app/a  ]")
	wantBody(t, c.Get("/app/a?utm_x=evil&p=1"), 200, "/app/a?p=1 []")
}

// TestOriginalInTheBackground: C1. A validation in the background asks for what the
// client asked for, also where that counts which was asked for before it was rewritten.
func TestOriginalInTheBackground(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, cmp.Or(r.Header.Get("X-Asked"), r.URL.RequestURI()),
			"Cache-Control", "max-age=0, stale-while-revalidate=600", "Etag", `"1"`)(w, r)
	})
	c := caddytest.Load(t, "", `
		handle_path /blog/* {
			fluster_cache
			@php path *.php
			reverse_proxy @php `+fastCGI(t, o)+`
			`+o.Behind()+` {
				header_up X-Asked {http.request.orig_uri}
			}
		}`)
	for _, path := range []string{"/blog/a?b", "/blog/a.php?b"} {
		for range 4 {
			count := o.Count()
			caddytest.Eventually(t, "the origin is asked", func() bool {
				wantBody(t, c.Get(path), 200, path)
				return o.Count() > count
			})
		}
	}
}

// TestChangedBehindEncode: what a handler behind the cache has changed of a request,
// placeholders show, also where it is compressed here.
func TestChangedBehindEncode(t *testing.T) {
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		caddytest.Answer(200, fmt.Sprint(r.Header["X-Told"]), fresh...)(w, r)
	})
	for name, option := range map[string]string{"plain": "", "encode": "encode gzip", "filter": "key {\nquery_deny utm_*\n}"} {
		t.Run(name, func(t *testing.T) {
			c := caddytest.Load(t, "", `
				route {
					fluster_cache {
						`+option+`
					}
					request_header X-User bob
					uri strip_prefix /app
					`+o.Behind()+` {
						header_up +X-Told {http.request.header.X-User}
						header_up +X-Told {uri}
					}
				}`)
			wantBody(t, c.Get("/app/a?utm_x=1&b=1", "Accept-Encoding", "zstd"), 200, "[bob /a?"+
				map[bool]string{true: "b=1]", false: "utm_x=1&b=1]"}[name == "filter"])
		})
	}
}
