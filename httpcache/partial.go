package httpcache

import (
	"net/http"
	"strconv"
	"strings"
)

// ContentRange is which part of a representation a 206 (Partial Content) has. RFC 9110, Section 14.4.
type ContentRange struct {
	Range
	Complete int64 // the length of the representation, or −1 where it is unknown
}

// ContentRangeOf returns the range of a 206 (Partial Content) of a single part. ok is false if the header has none that
// is valid, or several, or the body is in several parts.
func ContentRangeOf(h http.Header) (c ContentRange, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 {
		return ContentRange{}, false
	}
	if kind := h["Content-Type"]; len(kind) > 0 {
		const multipart = "multipart/byteranges"
		if len(kind[0]) >= len(multipart) && strings.EqualFold(kind[0][:len(multipart)], multipart) {
			return ContentRange{}, false
		}
	}
	c, ok = ParseContentRange(lines[0])
	if !ok {
		return ContentRange{}, false
	}
	if lines := h["Content-Length"]; len(lines) > 0 && lines[0] != strconv.FormatInt(c.Length, 10) {
		return ContentRange{}, false
	}
	return c, true
}

// ParseContentRange parses the value of a Content-Range field: "bytes 0-99/1000", or "/*" for a length that is not
// known. That of a 416, without a range, is not valid here.
func ParseContentRange(s string) (c ContentRange, ok bool) {
	unit, s, ok := strings.Cut(strings.Trim(s, " \t"), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return ContentRange{}, false
	}
	span, complete, ok := strings.Cut(s, "/")
	if !ok {
		return ContentRange{}, false
	}
	spec, ok := parseRangeSpec(span)
	if !ok || spec.first == absent || spec.last == absent {
		return ContentRange{}, false
	}
	c = ContentRange{Range{spec.first, spec.last - spec.first + 1}, absent}
	if complete == "*" {
		return c, true
	}
	c.Complete, ok = parsePosition(complete)
	return c, ok && c.End() <= c.Complete
}

// String returns the value of the Content-Range field.
func (c ContentRange) String() string { return string(appendContentRange(nil, c.Range, c.Complete)) }

// IsWhole reports whether the range is all of the representation: only then is what was combined of parts a 200 (OK).
func (c ContentRange) IsWhole() bool { return c.Start == 0 && c.Length == c.Complete }

// Contains reports whether r is in the range.
func (c ContentRange) Contains(r Range) bool { return c.Start <= r.Start && r.End() <= c.End() }

// WantedRange returns the one range that a GET with the header reqHeader asks for of a representation of which a part
// is stored: with the header stored, of the length complete, or −1. ok is false if it asks for no range, for several, for
// one that is unknown without the length, or on a condition that does not hold; then no part can answer it.
// RFC 9111, Section 3.3.
func WantedRange(method string, reqHeader, stored http.Header, complete int64) (r Range, ok bool) {
	lines := reqHeader["Range"]
	if method != http.MethodGet || len(lines) != 1 || !ifRangeHolds(reqHeader, stored) {
		return Range{}, false
	}
	specs, ok := parseRange(lines[0])
	if !ok || len(specs) != 1 {
		return Range{}, false
	}
	if complete >= 0 {
		return specs[0].within(complete)
	}
	if spec := specs[0]; spec.first != absent && spec.last != absent {
		return Range{spec.first, spec.last - spec.first + 1}, true
	}
	return Range{}, false
}

// Missing returns the parts of want that are not in the stored range have, ascending: at most two.
func Missing(have, want Range) []Range {
	var missing []Range
	if want.Start < have.Start {
		missing = append(missing, Range{want.Start, min(want.End(), have.Start) - want.Start})
	}
	if start := max(want.Start, have.End()); start < want.End() {
		missing = append(missing, Range{start, want.End() - start})
	}
	return missing
}

// AddRange makes a request with the header dst ask for the range r, on the condition that the representation is still the
// one of the stored response. ok is false, and dst unchanged, if that has no strong validator to say so by.
// RFC 9110, Section 13.1.5.
func AddRange(dst, stored http.Header, r Range) (ok bool) {
	validator, ok := rangeValidator(stored)
	if !ok {
		return false
	}
	RemoveConditionals(dst)
	dst["If-Range"] = []string{validator}
	dst["Range"] = []string{"bytes=" + strconv.FormatInt(r.Start, 10) + "-" + strconv.FormatInt(r.End()-1, 10)}
	return true
}

// IsDivisible reports whether the response has a strong validator, by which a part of it can be asked for.
func IsDivisible(stored http.Header) bool {
	_, ok := rangeValidator(stored)
	return ok
}

// rangeValidator returns what a request for a part of the stored response says in If-Range.
func rangeValidator(stored http.Header) (string, bool) {
	if etagOf(stored).isStrong() {
		return strings.Trim(stored["Etag"][0], " \t"), true
	}
	if _, ok := strongDate(stored); ok && !etagOf(stored).is() {
		return stored["Last-Modified"][0], true
	}
	return "", false
}

// Combinable reports whether two partial responses, or a partial and an incomplete one, are of the same representation:
// both have the same strong validator. RFC 9111, Section 3.4. A date says nothing of the coding that an origin chose.
func Combinable(a, b http.Header) bool {
	tag := etagOf(a)
	if tag.is() || etagOf(b).is() {
		return tag.strongly(etagOf(b))
	}
	modified, ok := strongDate(a)
	if !ok {
		return false
	}
	other, ok := strongDate(b)
	return ok && modified.Equal(other) && a.Get("Content-Encoding") == b.Get("Content-Encoding")
}

// Join returns the range of two partial responses of the same representation together. ok is false if a gap is between
// them, or they disagree about the length of the whole.
func Join(a, b ContentRange) (c ContentRange, ok bool) {
	if a.Complete >= 0 && b.Complete >= 0 && a.Complete != b.Complete {
		return ContentRange{}, false
	}
	if a.Start > b.End() || b.Start > a.End() {
		return ContentRange{}, false
	}
	start := min(a.Start, b.Start)
	c = ContentRange{Range{start, max(a.End(), b.End()) - start}, max(a.Complete, b.Complete)}
	return c, c.Complete < 0 || c.End() <= c.Complete
}

// JoinedHeader returns the header of the stored response after the partial one with the header fresh was combined with
// it to the range c: fresh's fields replace the stored ones. RFC 9110, Section 15.3.7.3.
// Where c is the whole, it is the header of a 200 (OK).
func JoinedHeader(stored, fresh http.Header, c ContentRange) http.Header {
	h := Freshen(stored, fresh)
	h["Content-Length"] = []string{strconv.FormatInt(c.Length, 10)}
	if c.IsWhole() {
		delete(h, "Content-Range")
	} else {
		h["Content-Range"] = []string{c.String()}
	}
	return h
}
