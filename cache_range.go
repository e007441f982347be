package fluster

import (
	"net/http"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// writeRanges sends the parts of a complete stored response that the client
// asks for (RFC 9110, Section 14); done is false if it gets the whole.
func (x *exchange) writeRanges(f *found) (done bool, err error) {
	header := f.header()
	answer, ranges := httpcache.SelectRanges(x.r.Method, x.r.Header, header, f.resp.BodySize)
	switch answer {
	case httpcache.Unsatisfiable:
		x.writeHead(f, http.Header{"Content-Range": {httpcache.UnsatisfiedRange(f.resp.BodySize)}})
		x.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true, nil
	case httpcache.PartialRanges:
		if len(ranges) == 1 {
			r := ranges[0]
			x.writeHead(f, httpcache.PartialHeader(header, r, f.resp.BodySize))
			x.w.Header().Set("Content-Length", itoa(r.Length))
			x.w.WriteHeader(http.StatusPartialContent)
			x.send(f, r)
			return true, nil
		}
		return true, x.writeMultipart(f, header, ranges)
	}
	return false, nil
}

// writeMultipart sends several parts in one response (RFC 9110, Section 14.6).
func (x *exchange) writeMultipart(f *found, header http.Header, ranges []httpcache.Range) error {
	m := &httpcache.Multipart{Boundary: nonZeroHex() + nonZeroHex(), ContentType: header.Get("Content-Type"), Ranges: ranges, Complete: f.resp.BodySize}
	x.writeHead(f, m.Header(header))
	x.w.Header().Set("Content-Length", itoa(m.Length()))
	x.w.WriteHeader(http.StatusPartialContent)
	var buf []byte
	for i, r := range ranges {
		buf = m.AppendPart(buf[:0], i)
		x.w.Write(buf) //nolint:errcheck // a client that went away is nobody's fault
		x.send(f, r)
	}
	x.w.Write(m.AppendEnd(nil)) //nolint:errcheck // likewise
	return nil
}
