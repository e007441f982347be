package caddytest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// An Origin is an HTTP server that answers as a test tells it to, and counts.
// It is safe for concurrent use.
type Origin struct {
	// Addr is where it listens, 127.0.0.1:port.
	Addr string

	mu       sync.Mutex // guards all below
	handler  http.HandlerFunc
	requests []*http.Request
}

// NewOrigin starts an origin that answers with handler. It ends with the test;
// before that, what a test left open in it is ended too.
func NewOrigin(tb testing.TB, handler http.HandlerFunc) *Origin {
	o := &Origin{handler: handler}
	server := httptest.NewServer(o)
	o.Addr = strings.TrimPrefix(server.URL, "http://")
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return o
}

// Answer returns a handler that answers always the same: header is names and
// values in turn.
func Answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

// Handle makes the origin answer with another handler.
func (o *Origin) Handle(handler http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = handler
}

// ServeHTTP notes the request and answers it.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r.Clone(r.Context()))
	handler := o.handler
	o.mu.Unlock()
	handler(w, r)
}

// Count returns how many requests have come.
func (o *Origin) Count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

// Last returns the request that came last; nil if there was none.
func (o *Origin) Last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.requests) == 0 {
		return nil
	}
	return o.requests[len(o.requests)-1]
}

// Behind is the line of a Caddyfile that puts the origin behind a site.
func (o *Origin) Behind() string { return "reverse_proxy " + o.Addr }
