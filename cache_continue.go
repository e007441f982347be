package fluster

import (
	"errors"
	"net/http"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// continueFrom sends what is left of a body, of which the client has the
// beginning, from the origin, if that has it byte for byte: by a request for
// the rest, on the condition that the strong validator is still the same. Where
// it has not, the response is broken off, as a proxy does whose origin fails.
func (x *exchange) continueFrom(e *entry, rest httpcache.Range) {
	if rest.Length == 0 {
		return
	}
	result := "broken-off"
	defer func() { metrics.continued.WithLabelValues(result).Inc() }()
	header := e.header()
	if have, ok := httpcache.ContentRangeOf(header); ok && e.resp.Status == http.StatusPartialContent {
		rest.Start += have.Start // of the representation; what is stored is a part of it
	}
	req := x.toNext(x.mark(x.r.Context()))
	req.Header = x.r.Header.Clone()
	if !mayDivide(&e.resp.Terms) || !httpcache.AddRange(req.Header, header, rest) {
		x.breakOff()
	}
	w := &restWriter{w: x.w, header: http.Header{}, stored: header, rest: rest}
	if err := x.next.ServeHTTP(w, req); err != nil || w.rest.Length > 0 {
		x.breakOff()
	}
	result = "origin"
}

// restWriter is what the handlers behind write the rest of a body to. Of a
// whole response it leaves out what the client has.
type restWriter struct {
	w      http.ResponseWriter
	header http.Header
	stored http.Header
	rest   httpcache.Range // what the client lacks
	skip   int64           // what comes before it
	status int
	fits   bool
}

// errNotTheRest ends a response that does not continue what the client has.
var errNotTheRest = errors.New("fluster: the origin has another representation")

// Header returns the header of the response to the request for the rest.
func (w *restWriter) Header() http.Header { return w.header }

// WriteHeader looks whether the response has the rest.
func (w *restWriter) WriteHeader(status int) {
	if status < 200 || w.status != 0 {
		return
	}
	w.status = status
	switch got, ok := httpcache.ContentRangeOf(w.header); {
	case !httpcache.Combinable(w.stored, w.header), w.stored.Get("Content-Encoding") != w.header.Get("Content-Encoding"):
	case status == http.StatusPartialContent:
		w.fits = ok && got.Range == w.rest
	case status == http.StatusOK:
		n := contentLength(w.header)
		w.fits, w.skip = n < 0 || n >= w.rest.End(), w.rest.Start
	}
}

// Write sends on what the client lacks.
func (w *restWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.fits {
		return 0, errNotTheRest
	}
	total := len(p)
	n := min(int64(len(p)), w.skip)
	w.skip -= n
	p = p[n:]
	p = p[:min(int64(len(p)), w.rest.Length)]
	if len(p) > 0 {
		n, err := w.w.Write(p)
		w.rest.Length -= int64(n)
		if err != nil {
			return n, err
		}
	}
	return total, nil
}

// FlushError sends on what was written.
func (w *restWriter) FlushError() error { return http.NewResponseController(w.w).Flush() }
