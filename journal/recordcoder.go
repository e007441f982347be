package journal

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// A recordCoder writes records as few bytes, each in one way only: its kind and
// two flags in one byte, its id, its value. An id as NewRecord makes them is the
// number of its writer and its counter; the writers' names are kept once.
type recordCoder struct {
	writers map[string]uint64
	names   []string
}

const (
	flagSoft   = 1 << 5
	flagWriter = 1 << 6
	// maxWriters bounds the names that are kept once. Those of any more writers
	// are kept with each of their records.
	maxWriters = 4096
)

func newRecordCoder() recordCoder { return recordCoder{writers: map[string]uint64{}} }

// meet takes note of the writer of the record with this id.
func (c *recordCoder) meet(id string) {
	writer, _, ok := splitID(id)
	if _, known := c.writers[writer]; !ok || known || len(c.names) == maxWriters {
		return
	}
	writer = strings.Clone(writer)
	c.writers[writer] = uint64(len(c.names))
	c.names = append(c.names, writer)
}

// append appends the record to b.
func (c *recordCoder) append(b []byte, r Record) []byte {
	flags := byte(r.Target.Kind) - 'a'
	if r.Target.Soft {
		flags |= flagSoft
	}
	writer, count, ok := splitID(r.ID)
	if n, known := c.writers[writer]; ok && known {
		b = append(b, flags|flagWriter)
		b = binary.AppendUvarint(b, n)
		b = binary.AppendUvarint(b, count)
	} else {
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(len(r.ID)))
		b = append(b, r.ID...)
	}
	return append(b, r.Target.Value...)
}

// record reads what append has written.
func (c *recordCoder) record(b []byte) Record {
	r := Record{Target: Target{Kind: Kind(b[0]&31 + 'a'), Soft: b[0]&flagSoft != 0}}
	n, size := binary.Uvarint(b[1:])
	rest := b[1+size:]
	if b[0]&flagWriter == 0 {
		r.ID, rest = string(rest[:n]), rest[n:]
	} else {
		count, size := binary.Uvarint(rest)
		r.ID, rest = c.names[n]+"-"+strconv.FormatUint(count, 10), rest[size:]
	}
	r.Target.Value = string(rest)
	return r
}

// splitID splits an id as NewRecord makes them, if it is one: "writer-count".
func splitID(id string) (writer string, count uint64, ok bool) {
	i := strings.LastIndexByte(id, '-')
	digits := id[i+1:]
	if i < 1 || len(digits) == 0 || len(digits) > 18 || digits[0] == '0' {
		return "", 0, false
	}
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return "", 0, false
		}
		count = count*10 + uint64(d-'0')
	}
	return id[:i], count, true
}
