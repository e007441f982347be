package fluster

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
)

// TestEncodeShort: C1. A handler that ends before the length that it has said
// has broken its response off; compressed, nobody else could tell.
func TestEncodeShort(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := &Cache{Encode: &encode.Encode{EncodingsRaw: caddy.ModuleMap{"gzip": []byte("{}")}}}
	if err := h.provisionEncode(ctx); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method string
		said   string
		sent   int
		broken bool
	}{
		{"GET", "2000", 2000, false},
		{"GET", "2000", 1999, true},
		{"GET", "", 1000, false},
		{"HEAD", "2000", 0, false},
	} {
		x := &exchange{Cache: h, next: caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/plain")
			if tt.said != "" {
				w.Header().Set("Content-Length", tt.said)
			}
			w.WriteHeader(200)
			io.WriteString(w, strings.Repeat("x", tt.sent))
			return nil
		})}
		r := httptest.NewRequest(tt.method, "/", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		broken := func() (broken bool) {
			defer func() { broken = recover() == http.ErrAbortHandler }()
			if err := x.serveNext(httptest.NewRecorder(), r); err != nil {
				t.Error(err)
			}
			return false
		}()
		if broken != tt.broken {
			t.Errorf("%s with Content-Length %q and %d bytes: broken off is %t, want %t", tt.method, tt.said, tt.sent, broken, tt.broken)
		}
	}
}

// TestRequestAfterwards: the handlers before the cache have their request back as it was.
func TestRequestAfterwards(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := &Cache{Encode: &encode.Encode{EncodingsRaw: caddy.ModuleMap{"gzip": []byte("{}")}}, Key: &Key{QueryDeny: []string{"x"}}}
	if err := h.provisionEncode(ctx); err != nil {
		t.Fatal(err)
	}
	s, w, r := newSite(t, h), httptest.NewRecorder(), request(t, "/?a=1&x=2")
	r.Header.Set("Accept-Encoding", "gzip, br")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	next := caddyhttp.HandlerFunc(func(_ http.ResponseWriter, behind *http.Request) error {
		if r.URL.RawQuery != "a=1" || r.Header.Get("Accept-Encoding") != "gzip" || behind.RequestURI != "/?a=1" {
			t.Errorf("behind: got %s, %q for %s", r.URL, r.Header, behind.RequestURI)
		}
		return nil
	})
	if err := s.ServeHTTP(w, r, next); err != nil || r.URL.RawQuery != "a=1&x=2" || r.Header.Get("Accept-Encoding") != "gzip, br" {
		t.Errorf("afterwards: got %v, %s, %q", err, r.URL, r.Header)
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got := repl.ReplaceAll("{http.request.orig_uri}", ""); got != r.RequestURI {
		t.Errorf("afterwards: got the original URI %s, want %s", got, r.RequestURI)
	}
}
