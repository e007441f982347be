package httpcache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRanges is how many ranges of one request are served. More are abuse: RFC 9110, Section 14.2.
const maxRanges = 16

// Range is a part of a representation: Length bytes from the position Start.
type Range struct{ Start, Length int64 }

// End returns the position after the last one.
func (r Range) End() int64 { return r.Start + r.Length }

// RangeAnswer says how a request is answered from a complete stored response.
type RangeAnswer uint8

// The answers to Range.
const (
	WholeResponse RangeAnswer = iota // as if there were no Range
	PartialRanges                    // 206 (Partial Content)
	Unsatisfiable                    // 416 (Range Not Satisfiable), with UnsatisfiedRange as Content-Range
)

// SelectRanges decides what a request with the method and the header reqHeader gets of a complete stored 200 (OK)
// response of length bytes. It comes after EvaluatePreconditions: RFC 9110, Section 13.2.2.
//
// The ranges are those to serve: one, or several in the order of the request that do not overlap. Where the request's
// ranges overlap, they are merged, in ascending order. RFC 9110, Section 14.2.
func SelectRanges(method string, reqHeader, stored http.Header, length int64) (RangeAnswer, []Range) {
	lines := reqHeader["Range"]
	if method != http.MethodGet || len(lines) != 1 || !ifRangeHolds(reqHeader, stored) {
		return WholeResponse, nil
	}
	specs, ok := parseRange(lines[0])
	if !ok {
		return WholeResponse, nil
	}
	var ranges []Range
	for _, spec := range specs {
		if r, ok := spec.within(length); ok {
			ranges = append(ranges, r)
		} else if length == 0 {
			return WholeResponse, nil // some clients ask for a range of everything
		}
	}
	if len(ranges) == 0 {
		return Unsatisfiable, nil
	}
	return PartialRanges, merge(ranges)
}

// merge returns the ranges as they are, if no two have a byte in common; else their union, ascending.
func merge(ranges []Range) []Range {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	merged := sorted[:1]
	for _, r := range sorted[1:] {
		last := &merged[len(merged)-1]
		if r.Start >= last.End() {
			merged = append(merged, r)
			continue
		}
		last.Length = max(last.End(), r.End()) - last.Start
	}
	if len(merged) == len(ranges) {
		return ranges
	}
	return merged
}

// rangeSpec is one range as asked for: from first to last, or, where first is absent, the last suffix bytes.
// last is absent where the range is open.
type rangeSpec struct{ first, last, suffix int64 }

// within returns the part of a representation of length bytes that the spec selects, if any.
func (s rangeSpec) within(length int64) (r Range, ok bool) {
	if s.first == absent {
		n := min(s.suffix, length)
		return Range{length - n, n}, n > 0
	}
	if s.first >= length {
		return Range{}, false
	}
	end := length
	if s.last != absent && s.last < length {
		end = s.last + 1
	}
	return Range{s.first, end - s.first}, true
}

// parseRange parses the value of a Range field. ok is false, and the field to be ignored, if it is no valid range of
// bytes or has too many of them. RFC 9110, Sections 14.1.1, 14.1.2 and 14.2.
func parseRange(s string) (specs []rangeSpec, ok bool) {
	unit, set, ok := strings.Cut(strings.Trim(s, " \t"), "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return nil, false
	}
	for member := range strings.SplitSeq(set, ",") {
		if member = strings.Trim(member, " \t"); member == "" {
			continue
		}
		spec, ok := parseRangeSpec(member)
		if !ok || len(specs) == maxRanges {
			return nil, false
		}
		specs = append(specs, spec)
	}
	return specs, len(specs) > 0
}

// parseRangeSpec parses one of the ranges: "0-99", "100-" or "-5".
func parseRangeSpec(s string) (spec rangeSpec, ok bool) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return rangeSpec{}, false
	}
	spec = rangeSpec{first: absent, last: absent}
	if first == "" {
		spec.suffix, ok = parsePosition(last)
		return spec, ok
	}
	if spec.first, ok = parsePosition(first); !ok {
		return rangeSpec{}, false
	}
	if last == "" {
		return spec, true
	}
	spec.last, ok = parsePosition(last)
	return spec, ok && spec.first <= spec.last
}

// parsePosition parses digits. A number beyond all lengths is the largest there is.
func parsePosition(s string) (n int64, ok bool) {
	const largest = 1 << 62
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n = n*10 + int64(s[i]-'0'); n > largest/16 {
			n = largest / 16
		}
	}
	return n, s != ""
}

// ifRangeHolds reports whether the request's If-Range, if there is one, names the stored response by a strong
// validator. RFC 9110, Section 13.1.5.
func ifRangeHolds(reqHeader, stored http.Header) bool {
	lines := reqHeader["If-Range"]
	if len(lines) == 0 {
		return true
	}
	value := strings.Trim(lines[0], " \t")
	if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "W/") {
		return parseETag(value).strongly(etagOf(stored))
	}
	modified, ok := strongDate(stored)
	if !ok {
		return false
	}
	date, ok := ParseDate(value, modified)
	return ok && date.Equal(modified)
}

// strongDate returns the date of the stored response's last modification, if it is a strong validator: older than the
// response by a second, so that a second modification within that second would have shown. RFC 9110, Section 8.8.2.2.
func strongDate(stored http.Header) (time.Time, bool) {
	date, ok := dateField(stored, "Date", time.Time{})
	if !ok {
		return time.Time{}, false
	}
	modified, ok := dateField(stored, "Last-Modified", date)
	return modified, ok && !modified.Add(time.Second).After(date)
}

// PartialHeader returns the header of the 206 (Partial Content) that serves the range r of a stored response of
// complete bytes. It has all fields of the stored one.
func PartialHeader(stored http.Header, r Range, complete int64) http.Header {
	h := EndToEnd(stored)
	h["Content-Range"] = []string{string(appendContentRange(nil, r, complete))}
	h["Content-Length"] = []string{strconv.FormatInt(r.Length, 10)}
	return h
}

// UnsatisfiedRange returns the Content-Range of a 416 (Range Not Satisfiable).
func UnsatisfiedRange(complete int64) string { return "bytes */" + strconv.FormatInt(complete, 10) }

// appendContentRange appends the value of Content-Range for r, which is not empty, to dst. A complete length below 0 is
// unknown. RFC 9110, Section 14.4.
func appendContentRange(dst []byte, r Range, complete int64) []byte {
	dst = append(dst, "bytes "...)
	dst = strconv.AppendInt(dst, r.Start, 10)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, r.End()-1, 10)
	dst = append(dst, '/')
	if complete < 0 {
		return append(dst, '*')
	}
	return strconv.AppendInt(dst, complete, 10)
}
