package fluster

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// With the option `encode`, Caddy's own encode handler stands between the cache
// and the handlers behind it. So a response is compressed when it is forwarded,
// and stored as it was sent: one variant for each coding, by Vary. Three things
// are added:
//
//   - What a request accepts counts as the one coding that it would get, so that
//     there are no more variants than codings.
//   - The bytes that compressing gives may differ each time. A response that was
//     compressed here is therefore never served or continued in parts.
//   - A body that is shorter than its handler said is broken off, which nobody
//     could see behind the compression.

// negotiate returns the request with the coding that its response will have, if
// it may, in place of all that it accepts.
func (h *Cache) negotiate(r *http.Request) *http.Request {
	if h.Encode == nil {
		return r
	}
	coding := "identity"
	for _, accepted := range encode.AcceptedEncodings(r, h.Encode.Prefer) {
		if accepted == coding {
			break // it is liked better than what follows
		}
		if slices.Contains(h.Encode.Prefer, accepted) {
			coding = accepted
			break
		}
	}
	if have := r.Header["Accept-Encoding"]; len(have) == 1 && have[0] == coding {
		return r
	}
	out := new(http.Request)
	*out = *r
	out.Header = maps.Clone(r.Header) // its lines are still those of r, which nobody changes
	out.Header["Accept-Encoding"] = []string{coding}
	return out
}

// serveNext runs the handlers behind the cache.
func (x *exchange) serveNext(w http.ResponseWriter, r *http.Request) error {
	if x.Encode == nil {
		return x.next.ServeHTTP(w, r)
	}
	condition := r.Header["If-None-Match"]
	if condition != nil {
		out := new(http.Request) // encode changes it
		*out = *r
		out.Header = maps.Clone(r.Header)
		r = out
	}
	x.source = &sourceWriter{codings: x.Encode.Prefer, condition: condition, want: -1}
	return x.Encode.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s := x.source
		s.ResponseWriter, s.method = w, r.Method
		err := x.next.ServeHTTP(s, r)
		if err == nil && s.got < s.want {
			panic(http.ErrAbortHandler)
		}
		return err
	}))
}

// isRecoded reports whether the response with this header was compressed on its way: here,
// or behind, as its entity tag says. The encode of another Caddy and Apache's mod_deflate
// add the coding to the tag, which so stays the same for what may be other bytes.
func (x *exchange) isRecoded(h http.Header) bool {
	coding := h.Get("Content-Encoding")
	if coding == "" {
		return false
	}
	return x.source != nil && x.source.plain || strings.HasSuffix(first(h["Etag"]), "-"+coding+`"`)
}

// mayDivide reports whether a stored response may be served in parts.
func mayDivide(t *httpcache.Terms) bool { return !t.Flags.Has(httpcache.Recoded) }

// sourceWriter is what the handlers behind write to before it is compressed.
type sourceWriter struct {
	http.ResponseWriter
	method    string
	codings   []string
	condition []string // If-None-Match before encode took what it adds to entity tags from it
	status    int
	plain     bool  // the response came without a coding
	want, got int64 // bytes of body; −1 if it is not known how many
}

// WriteHeader notes what encode will not let anybody see.
func (w *sourceWriter) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		h := w.Header()
		w.status, w.plain = status, h.Get("Content-Encoding") == ""
		if w.method != http.MethodHead && mayHaveBody(status) {
			w.want = contentLength(h)
		}
		if status == http.StatusNotModified {
			w.restoreTag(h)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// restoreTag gives the entity tag of a 304 back what encode has taken from the
// request's: it is about the compressed response.
func (w *sourceWriter) restoreTag(h http.Header) {
	if len(w.condition) != 1 || len(h["Etag"]) != 1 {
		return
	}
	for _, coding := range w.codings {
		if w.condition[0] == strings.TrimSuffix(h["Etag"][0], `"`)+"-"+coding+`"` {
			h["Etag"] = w.condition
			return
		}
	}
}

// Write counts.
func (w *sourceWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.got += int64(n)
	return n, err
}

// ReadFrom counts, and lets encode choose how to copy.
func (w *sourceWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.got += n
	return n, err
}

// Unwrap gives http.ResponseController what this writer does not change.
func (w *sourceWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
