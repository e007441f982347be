package httpcache

import (
	"net/http"
	"strconv"
)

// Multipart is the layout of a multipart/byteranges body: for each range AppendPart and then the bytes of the range, and
// AppendEnd after the last. RFC 9110, Section 14.6. It holds no bytes of the representation.
type Multipart struct {
	Boundary    string // what no part contains: long and random, of letters and digits
	ContentType string // that of the stored response; "" is none
	Ranges      []Range
	Complete    int64 // the length of the representation
}

// Header returns the header of the 206 (Partial Content), from that of the stored response. RFC 9110, Section 15.3.7.2:
// the parts have a Content-Range, the message has none.
func (m *Multipart) Header(stored http.Header) http.Header {
	h := EndToEnd(stored)
	delete(h, "Content-Range")
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + m.Boundary}
	h["Content-Length"] = []string{strconv.FormatInt(m.Length(), 10)}
	return h
}

// AppendPart appends what stands before the bytes of the range i.
func (m *Multipart) AppendPart(dst []byte, i int) []byte {
	dst = append(dst, "\r\n--"...)
	dst = append(dst, m.Boundary...)
	if m.ContentType != "" {
		dst = append(dst, "\r\nContent-Type: "...)
		dst = append(dst, m.ContentType...)
	}
	dst = append(dst, "\r\nContent-Range: "...)
	dst = appendContentRange(dst, m.Ranges[i], m.Complete)
	return append(dst, "\r\n\r\n"...)
}

// AppendEnd appends what stands after the bytes of the last range.
func (m *Multipart) AppendEnd(dst []byte) []byte {
	dst = append(dst, "\r\n--"...)
	dst = append(dst, m.Boundary...)
	return append(dst, "--\r\n"...)
}

// Length returns how many bytes the body has.
func (m *Multipart) Length() int64 {
	var buf []byte
	n := int64(len(m.AppendEnd(nil)))
	for i, r := range m.Ranges {
		buf = m.AppendPart(buf[:0], i)
		n += int64(len(buf)) + r.Length
	}
	return n
}
