package fluster

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// site is a cache without a node, and the origin behind it.
type site struct {
	*Cache
	t      *testing.T
	origin func(w http.ResponseWriter, r *http.Request)
}

// do asks with this method for uri, of the host example.test.
func (s *site) do(method, uri string, fields ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	w, r := httptest.NewRecorder(), request(s.t, uri)
	r.Method = method
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "Host" {
			r.Host = fields[i+1]
			continue
		}
		r.Header.Set(fields[i], fields[i+1])
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s.origin(w, r)
		return nil
	})
	if err := s.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
		s.t.Fatal(err)
	}
	return w
}

// want asks for uri and wants this body, and this in Cache-Status.
func (s *site) want(body, status, uri string, fields ...string) http.Header {
	s.t.Helper()
	w := s.do(http.MethodGet, uri, fields...)
	if got := w.Header().Get("Cache-Status"); w.Body.String() != body || !strings.HasPrefix(got, "fluster; "+status) {
		s.t.Errorf("GET %s %q: got %d %q [%s], want %q and %s", uri, fields, w.Code, w.Body, got, body, status)
	}
	return w.Header()
}

// answers makes the origin answer with this body and header.
func (s *site) answers(body string, fields ...string) { s.origin = answer(200, body, fields...) }

func answer(status int, body string, fields ...string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		w.Write([]byte(body)) //nolint:errcheck // a recorder
	}
}

// invalidate invalidates by one target.
func (s *site) invalidate(k journal.Kind, value string, soft bool) {
	s.t.Helper()
	target, err := journal.NewTarget(k, value, soft)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.pool.invalidate(s.t.Context(), []journal.Target{target}, false); err != nil {
		s.t.Fatal(err)
	}
}

func newSite(t *testing.T, h *Cache) *site {
	h.tags = []string{"Surrogate-Key", "Cache-Tag"}
	return &site{Cache: embedded(t, h), t: t}
}
