package fluster

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/timeouts"
)

// TestTimeoutsBehindInTheBackground: a validation in the background has no client whose
// connection the handlers behind could set deadlines on. (In HTTP/2 its writer is gone.)
func TestTimeoutsBehindInTheBackground(t *testing.T) {
	w, r := httptest.NewRecorder(), request(t, "/")
	writer := &caddyhttp.IdleTimeoutWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, Ctrl: http.NewResponseController(w)}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	r = r.WithContext(caddyhttp.ContextWithIdleTimeouts(r.Context(), nil, writer))
	h := newSite(t, new(Cache)).Cache
	x := h.begin(w, r, nil)
	var told *caddyhttp.IdleTimeoutWriter
	x.next = caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return timeouts.Timeouts{WriteTimeout: 1}.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			_, told = caddyhttp.IdleTimeoutsFromContext(r.Context())
			return nil
		}))
	})
	y := x.background()
	if err := y.next.ServeHTTP(y.w, y.r); err != nil || told == writer {
		t.Errorf("got %v, and the writer of the client: %t", err, told == writer)
	}
}
