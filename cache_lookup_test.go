package fluster

import (
	"errors"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// failingWriter cannot write to its client, and may yet be at it when it says so.
type failingWriter struct {
	benchWriter
	at []byte
}

func (w *failingWriter) Write(p []byte) (int, error) {
	w.at = p
	return 0, errors.New("the stream was reset")
}

// A body that could not be written to its client may be on its way there yet: its
// memory is not used again.
func TestLentMemoryOnItsWay(t *testing.T) {
	h := benchCache(t, PoolConfig{Nodes: []string{redistest.Start(t).URL()}, Near: Size{Off: true, Set: true}})
	w := &failingWriter{benchWriter: benchWriter{header: http.Header{}}}
	others, other := newBenchWriter(), request(t, "/vary", "Accept-Language", "de, en;q=0.5") // what lies before its body is longer
	for range 30 {
		clear(w.header)
		prepared := caddyhttp.PrepareRequest(request(t, "/page"), caddy.NewReplacer(), w, nil)
		if err := h.ServeHTTP(w, prepared); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			others.serve(t, h, other)
		}
		for i, c := range w.at {
			if c != 0 {
				t.Fatalf("byte %d of %d of a body of zeros has become %q while it may be on its way", i, len(w.at), c)
			}
		}
	}
	if len(w.at) != len(benchBody) {
		t.Errorf("%d bytes were written, want a body", len(w.at))
	}
}
