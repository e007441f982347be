package fluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
)

// leaving is a client that goes away when gone is set.
type leaving struct {
	*httptest.ResponseRecorder
	gone bool
}

func (w *leaving) Write(p []byte) (int, error) {
	if w.gone {
		return 0, errors.New("the client has gone")
	}
	return w.ResponseRecorder.Write(p)
}

// TestClientLeavesBeforeTheLastBytes: C1. Where a client goes away and the handler does
// not heed that, what was not written is missing in the copy, too, and nothing is stored.
func TestClientLeavesBeforeTheLastBytes(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	page := strings.Repeat("page ", 1000)
	for name, h := range map[string]*Cache{
		"plain":         {},
		"encoded":       {Encode: &encode.Encode{EncodingsRaw: caddy.ModuleMap{"gzip": []byte("{}")}}},
		"not collapsed": {Collapse: "off"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := h.provisionEncode(ctx); err != nil {
				t.Fatal(err)
			}
			s, w := newSite(t, h), &leaving{ResponseRecorder: httptest.NewRecorder()}
			next := caddyhttp.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) error {
				answer(200, page, "Cache-Control", "max-age=600", "Content-Type", "text/plain")(to, nil)
				w.gone = true
				to.Write([]byte("the end")) //nolint:errcheck // as many handlers do
				return nil
			})
			r := request(t, "/")
			r.Header.Set("Accept-Encoding", "gzip")
			if err := s.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
				t.Fatal(err)
			}
			s.answers("another", "Cache-Control", "max-age=600")
			s.want("another", "fwd=", "/", "Accept-Encoding", "gzip")
		})
	}
}
