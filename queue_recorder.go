package fluster

import (
	"net/http"
	"slices"
)

// recorder is the http.ResponseWriter of a delivery. It keeps the final head, and
// the body as far as it may; what is longer is counted and let go. Used by one
// request, as any writer.
type recorder struct {
	header http.Header // of what is being made
	status int         // of the final response; 0 before
	kept   http.Header // its header, as it was when it was written
	body   []byte
	size   int64
	most   int // the longest body that is kept
}

func newRecorder(most int) *recorder { return &recorder{header: http.Header{}, most: most} }

// Header returns the header of the response.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader notes the final status. Interim responses say nothing about a
// delivery; 101 is a final one, and none that a delivery can use.
func (w *recorder) WriteHeader(status int) {
	if w.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.status, w.kept = status, w.header.Clone()
}

// Write takes a part of the body.
func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.size += int64(len(p))
	switch {
	case w.size <= int64(w.most):
		w.body = append(w.body, p...)
	case w.body != nil:
		w.body = nil // it is kept whole, or not at all
	}
	return len(p), nil
}

// Flush lets handlers stream.
func (w *recorder) Flush() { w.WriteHeader(http.StatusOK) }

// whole returns the body, and whether it was short enough to be kept.
func (w *recorder) whole() ([]byte, bool) {
	return slices.Clip(w.body), w.size <= int64(w.most)
}

// Interface guards
var (
	_ http.ResponseWriter = (*recorder)(nil)
	_ http.Flusher        = (*recorder)(nil)
)
