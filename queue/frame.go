package queue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// A frame is a FastStream message, binary version 1. All numbers are big endian:
//
//	off  0   8  magic
//	off  8   2  version: 1
//	off 10   4  where the number of headers is: 18
//	off 14   4  where the body begins
//	off 18   2  number of headers
//	off 20      each: 2 length of the name, name, 2 length of the value, value; UTF-8
const (
	frameMagic = "\x89BIN\r\n\x1a\n"
	frameFixed = 20 // bytes before the first header
)

// firstHeaders are written first, in this order, as FastStream does.
var firstHeaders = []string{"correlation_id", "content-type", "reply_to"}

var (
	errFrame  = errors.New("queue: a frame that cannot be read")
	errHeader = errors.New("queue: a header that no frame can hold")
)

// appendFrame appends the frame with this header and body. A header that is not
// UTF-8 or too long is an error.
func appendFrame(dst []byte, header map[string]string, body []byte) ([]byte, error) {
	return appendNamedFrame(dst, "", header, body)
}

// appendNamedFrame is appendFrame for a message: where header lacks them,
// correlation_id and message_id are its id.
func appendNamedFrame(dst []byte, id string, header map[string]string, body []byte) ([]byte, error) {
	var few [24]string
	names, size, err := headerNames(few[:0], id, header)
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst, frameFixed+size+len(body))
	dst = append(dst, frameMagic...)
	dst = binary.BigEndian.AppendUint16(dst, 1)
	dst = binary.BigEndian.AppendUint32(dst, frameFixed-2)
	dst = binary.BigEndian.AppendUint32(dst, uint32(frameFixed+size))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(names)))
	for _, name := range names {
		dst = appendString(dst, name)
		dst = appendString(dst, valueOf(id, header, name))
	}
	return append(dst, body...), nil
}

// valueOf returns the value of a header that headerNames names.
func valueOf(id string, header map[string]string, name string) string {
	if value, ok := header[name]; ok {
		return value
	}
	return id
}

// headerNames appends the names of all headers, in the order in which they are
// written, and returns how many bytes the headers take.
func headerNames(dst []string, id string, header map[string]string) ([]string, int, error) {
	for _, name := range firstHeaders {
		if _, ok := header[name]; ok || id != "" && name == "correlation_id" {
			dst = append(dst, name)
		}
	}
	first := len(dst)
	for name := range header {
		if !slices.Contains(firstHeaders, name) {
			dst = append(dst, name)
		}
	}
	if _, ok := header["message_id"]; !ok && id != "" {
		dst = append(dst, "message_id")
	}
	slices.Sort(dst[first:])
	if len(dst) > math.MaxUint16 {
		return nil, 0, fmt.Errorf("%w: %d of them", errHeader, len(dst))
	}
	size := 0
	for _, name := range dst {
		value := valueOf(id, header, name)
		if max(len(name), len(value)) > math.MaxUint16 {
			return nil, 0, fmt.Errorf("%w: %.40q is longer than 65535 bytes", errHeader, name)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, 0, fmt.Errorf("%w: %.40q is not UTF-8", errHeader, name)
		}
		size += 4 + len(name) + len(value)
	}
	if size > math.MaxInt32 {
		return nil, 0, fmt.Errorf("%w: %d bytes in all", errHeader, size)
	}
	return dst, size, nil
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// parseFrame reads what FastStream takes for a message: a frame, its older JSON
// envelope, or anything else, which is a body without headers. It fails only for a
// frame of version 1 that is torn. body shares raw's memory where it can.
func parseFrame(raw []byte) (header map[string]string, body []byte, err error) {
	if !isFrame(raw) {
		if header, body, ok := parseEnvelope(raw); ok {
			return header, body, nil
		}
		return map[string]string{}, raw, nil
	}
	count := uint64(binary.BigEndian.Uint32(raw[10:]))
	data := uint64(binary.BigEndian.Uint32(raw[14:]))
	if count+2 > data || data > uint64(len(raw)) {
		return nil, nil, fmt.Errorf("%w: its offsets are wrong", errFrame)
	}
	n := int(binary.BigEndian.Uint16(raw[count:]))
	header, ok := parseHeaders(raw[count+2:data], n)
	if !ok {
		return nil, nil, fmt.Errorf("%w: its headers do not end where the body begins", errFrame)
	}
	return header, raw[data:], nil
}

// isFrame reports whether raw begins as a frame of the version that is known here.
func isFrame(raw []byte) bool {
	return len(raw) >= frameFixed && bytes.HasPrefix(raw, []byte(frameMagic)) && binary.BigEndian.Uint16(raw[8:]) == 1
}

// parseHeaders reads n headers that lie in b. Some of FastStream's writers count
// characters where they should count bytes. Read by bytes, such headers do not
// end where b does; read by characters they do. There may be a gap after the
// headers, so that bytes which end earlier are right if characters do not end there.
func parseHeaders(b []byte, n int) (map[string]string, bool) {
	byBytes, rest, ok := readHeaders(b, n, cutBytes)
	if ok && len(rest) == 0 {
		return byBytes, true
	}
	if byRunes, rest, ok := readHeaders(b, n, cutRunes); ok && len(rest) == 0 {
		return byRunes, true
	}
	return byBytes, ok
}

// readHeaders reads n headers and returns what follows them.
func readHeaders(b []byte, n int, cut func(b []byte, n int) (string, []byte, bool)) (map[string]string, []byte, bool) {
	if n > len(b)/4 {
		return nil, nil, false
	}
	header := make(map[string]string, n)
	next := func() (s string, ok bool) {
		if len(b) < 2 {
			return "", false
		}
		length := int(binary.BigEndian.Uint16(b))
		s, b, ok = cut(b[2:], length)
		return s, ok && utf8.ValidString(s)
	}
	for range n {
		name, ok := next()
		if !ok {
			return nil, nil, false
		}
		if header[name], ok = next(); !ok {
			return nil, nil, false
		}
	}
	return header, b, true
}

// cutBytes cuts n bytes off b.
func cutBytes(b []byte, n int) (string, []byte, bool) {
	if n > len(b) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// cutRunes cuts n characters off b.
func cutRunes(b []byte, n int) (string, []byte, bool) {
	end := 0
	for range n {
		r, size := utf8.DecodeRune(b[end:])
		if r == utf8.RuneError && size <= 1 {
			return "", nil, false
		}
		end += size
	}
	return string(b[:end]), b[end:], true
}

// parseEnvelope reads {"data":"…","headers":{…}}. What is JSON without a string
// named data is no envelope.
func parseEnvelope(raw []byte) (header map[string]string, body []byte, ok bool) {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || !bytes.Contains(trimmed, []byte(`data`)) {
		return nil, nil, false
	}
	var members map[string]json.RawMessage // a struct's names would match in any case
	if json.Unmarshal(raw, &members) != nil {
		return nil, nil, false
	}
	data, ok := jsonString(members["data"])
	if !ok {
		return nil, nil, false
	}
	var values map[string]json.RawMessage
	if h, has := members["headers"]; has && json.Unmarshal(h, &values) != nil {
		return nil, nil, false
	}
	header = make(map[string]string, len(values))
	for name, value := range values {
		text, isText := jsonString(value)
		if !isText {
			text = string(value)
		}
		header[name] = text
	}
	return header, []byte(data), true
}

// jsonString returns the string that raw is, if it is one.
func jsonString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}
