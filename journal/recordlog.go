package journal

import (
	"bytes"
	"hash/maphash"
)

// A recordLog holds the last records that were learnt, oldest first, so that
// they can be relayed to a node that lacks them, and are known when they are
// read again. Each is kept as a few bytes and found by their hash: two records
// with one id are one only if they have one target as well.
type recordLog struct {
	max     int // records
	perPage int
	pages   []*logPage
	first   uint64 // number of the oldest record; each one has the next number
	next    uint64 // number of the next one
	size    int    // bytes of all pages
	index   index
	coder   recordCoder
	buf     []byte // of the record that is looked for
}

// logPage is perPage records, one behind the other. Only the last is not full.
type logPage struct {
	data    []byte
	offsets []uint32
}

func newRecordLog(max int) recordLog {
	return recordLog{max: max, perPage: min(1024, (max+7)/8), coder: newRecordCoder()}
}

// len is how many records there are.
func (l *recordLog) len() int { return int(l.next - l.first) }

// find returns the number of a record that is known.
func (l *recordLog) find(r Record) (uint64, bool) {
	l.buf = l.coder.append(l.buf[:0], r)
	return l.findBytes(l.buf)
}

// peek is find for one who may only read.
func (l *recordLog) peek(r Record) (uint64, bool) { return l.findBytes(l.coder.append(nil, r)) }

func (l *recordLog) findBytes(b []byte) (uint64, bool) {
	i, ok := l.index.find(maphash.Bytes(seed, b), func(i uint32) bool { return bytes.Equal(l.bytes(l.number(i)), b) })
	return l.number(i), ok
}

// add appends r, which is not there yet, and returns its number.
func (l *recordLog) add(r Record) uint64 {
	if len(l.pages) == 0 || len(l.pages[len(l.pages)-1].offsets) == l.perPage {
		l.addPage()
	}
	p := l.pages[len(l.pages)-1]
	l.coder.meet(r.ID)
	l.buf = l.coder.append(l.buf[:0], r)
	before := cap(p.data)
	p.offsets = append(p.offsets, uint32(len(p.data)))
	p.data = append(p.data, l.buf...)
	l.size += cap(p.data) - before
	n := l.next
	l.next++
	l.index.insert(maphash.Bytes(seed, l.buf), l.short(n), l.hash)
	return n
}

// startsPage reports whether the next record takes another page.
func (l *recordLog) startsPage() bool { return l.len()%l.perPage == 0 }

// addPage closes the last page, in memory of its size, and opens another one.
func (l *recordLog) addPage() {
	about := 0
	if len(l.pages) > 0 {
		last := l.pages[len(l.pages)-1]
		l.size -= cap(last.data)
		last.data = append(make([]byte, 0, len(last.data)), last.data...)
		l.size += cap(last.data)
		about = len(last.data)
	}
	l.pages = append(l.pages, &logPage{data: make([]byte, 0, about), offsets: make([]uint32, 0, l.perPage)})
	l.size += about + 4*l.perPage
}

// oldest returns the numbers of the records of the oldest page: from first to
// before end.
func (l *recordLog) oldest() (first, end uint64) {
	return l.first, l.first + uint64(len(l.pages[0].offsets))
}

// drop gives up the oldest page.
func (l *recordLog) drop() {
	first, end := l.oldest()
	for n := first; n < end; n++ {
		l.index.remove(maphash.Bytes(seed, l.bytes(n)), l.short(n), l.hash)
	}
	l.size -= cap(l.pages[0].data) + 4*l.perPage
	l.pages = append(l.pages[:0], l.pages[1:]...)
	l.first = end
}

// dropped reports whether records were given up.
func (l *recordLog) dropped() bool { return l.first > 0 }

// record returns the record with this number.
func (l *recordLog) record(n uint64) Record { return l.coder.record(l.bytes(n)) }

// target returns the target of the record with this number.
func (l *recordLog) target(n uint64) Target { return l.record(n).Target }

// bytes returns the record with this number as it is kept.
func (l *recordLog) bytes(n uint64) []byte {
	p, i := l.pages[(n-l.first)/uint64(l.perPage)], int((n-l.first)%uint64(l.perPage))
	if i+1 < len(p.offsets) {
		return p.data[p.offsets[i]:p.offsets[i+1]]
	}
	return p.data[p.offsets[i]:]
}

// The index has numbers modulo shortNumbers, which is more than there are records.
const shortNumbers = maxNumber + 1

func (l *recordLog) short(n uint64) uint32 { return uint32(n % shortNumbers) }

func (l *recordLog) number(short uint32) uint64 {
	return l.first + (uint64(short)+shortNumbers-l.first%shortNumbers)%shortNumbers
}

func (l *recordLog) hash(short uint32) uint64 { return maphash.Bytes(seed, l.bytes(l.number(short))) }

// memory is that of the log, in bytes.
func (l *recordLog) memory() int { return l.size + l.index.bytes() }
