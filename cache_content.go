package fluster

import (
	"io"
	"net/http"
)

// findContent finds out whether a GET or HEAD over HTTP/3 has content. The server cannot
// know: no field need say so, and that the stream ends is not told with the header. It
// waits for the first byte or the end, which nearly always came with the header: a client
// must not make it depend on the response (RFC 9114, Section 4.1).
func findContent(r *http.Request) {
	if r.ProtoMajor != 3 || r.ContentLength >= 0 || r.Body == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return
	}
	var b [1]byte
	n, err := r.Body.Read(b[:])
	if n == 0 && err == io.EOF { //nolint:errorlint // a Reader's end is this very value
		r.Body, r.ContentLength = http.NoBody, 0
		return
	}
	r.Body = &begunBody{ReadCloser: r.Body, begun: b[:n], err: err}
}

// begunBody is a body of which the beginning was read.
type begunBody struct {
	io.ReadCloser
	begun []byte
	err   error // of that read
}

// Read reads what was read already, how that ended, and the rest.
func (b *begunBody) Read(p []byte) (int, error) {
	if len(b.begun) > 0 {
		n := copy(p, b.begun)
		b.begun = b.begun[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.ReadCloser.Read(p)
}
