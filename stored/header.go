package stored

import (
	"encoding/binary"
	"iter"
)

// A Header is field lines in their order, as the format has them: for each its name, canonical as
// http.CanonicalHeaderKey has it, and its value. Several lines of a name are next to each other. It is one piece of
// memory without pointers, as there are many in the near cache, and most are never asked for again.
type Header string

// AppendField appends a line to what is to be a Header.
func AppendField(dst []byte, name, value string) []byte {
	return appendString(appendString(dst, name), value)
}

// HeaderOf returns the header with these lines.
func HeaderOf(lines ...Field) Header { return Header(appendFields(nil, lines)) }

// AliasHeader returns the lines that were appended to text, whose memory it shares: nobody may change them any more.
func AliasHeader(text []byte) Header { return Header(aliasString(text)) }

// All returns the name and the value of each line. They share memory with h.
func (h Header) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest := string(h); rest != ""; {
			var name, value string
			name, rest = cutString(rest)
			value, rest = cutString(rest)
			if !yield(name, value) {
				return
			}
		}
	}
}

// Len returns the number of lines.
func (h Header) Len() (n int) {
	for range h.All() {
		n++
	}
	return n
}

// cutString cuts the first string off s. Where there is none it ends s.
func cutString(s string) (first, rest string) {
	n, shift := uint64(0), 0
	for i := range min(len(s), binary.MaxVarintLen64) {
		n |= uint64(s[i]&0x7f) << shift
		if shift += 7; s[i] < 0x80 {
			if s = s[i+1:]; n > uint64(len(s)) {
				return "", ""
			}
			return s[:n], s[n:]
		}
	}
	return "", ""
}
