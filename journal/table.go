package journal

// A table has a row for each target that was learnt, with its last learn
// number. The number of a row stands for the target elsewhere: each View has
// a column of the last seq of each row.
//
// The table is bounded: at its limit a new target takes the row of an old one.
// What was given up is covered by floor: every target counts as learnt at
// floor. So the bound costs hits, never correctness: a response that is older
// than the oldest invalidation that is known is refused.
type table struct {
	limit int
	index index
	pages []*[pageSize]row
	used  uint32 // rows in use, rowAll and rowAllSoft among them
	hand  uint32 // where the search for an old row goes on
	base  uint64 // learn numbers in rows are counted from it
	top   uint64 // the newest learn number in a row
	floor uint64
}

// row is kept in twelve bytes: two rows of three lie within one cache line.
type row struct{ low, high, learn uint32 }

// The first rows are of the targets that need no looking for.
const (
	rowAll uint32 = iota
	rowAllSoft
	fixedRows
)

func newTable() table {
	return table{pages: []*[pageSize]row{new([pageSize]row)}, used: fixedRows}
}

func (t *table) at(i uint32) *row { return &t.pages[i/pageSize][i%pageSize] }

func (r *row) sum() sum { return sum(r.high)<<32 | sum(r.low) }

func (t *table) hash(i uint32) uint64 { return uint64(t.at(i).sum()) }

// find returns the row of the target with this sum.
func (t *table) find(s sum) (uint32, bool) {
	return t.index.find(uint64(s), func(i uint32) bool { return t.at(i).sum() == s })
}

// has reports whether s has a row of which newer says true. That is asked
// first: as a rule it is false, and the row need not be looked at.
func (t *table) has(s sum, newer func(i uint32) bool) bool {
	_, ok := t.index.find(uint64(s), func(i uint32) bool { return newer(i) && t.at(i).sum() == s })
	return ok
}

// add gives s a row, and takes that of another target for it at the limit. It
// asks mayGo whether a row may go.
func (t *table) add(s sum, mayGo func(i uint32) bool, gone func(i uint32)) uint32 {
	i, ok := uint32(0), false
	if int(t.used) >= t.limit {
		i, ok = t.oldest(mayGo)
	}
	switch {
	case ok:
		t.floor = max(t.floor, t.learn(i))
		gone(i)
		t.index.remove(t.hash(i), i, t.hash)
	default:
		i = t.used
		t.used++
		if int(i/pageSize) == len(t.pages) {
			t.pages = append(t.pages, new([pageSize]row))
		}
	}
	*t.at(i) = row{low: uint32(s), high: uint32(s >> 32)}
	t.index.insert(uint64(s), i, t.hash)
	return i
}

// oldest returns a row that was not set for long: since half as many others
// were, as there may be rows. Rows are mostly in order of age, and at most half
// of them are passed over, so it is found at once as a rule. There is none only
// if mayGo refuses most.
func (t *table) oldest(mayGo func(i uint32) bool) (uint32, bool) {
	settled := t.top - min(t.top, uint64(t.limit/2))
	for range t.used {
		if t.hand++; t.hand < fixedRows || t.hand >= t.used {
			t.hand = fixedRows
		}
		if t.learn(t.hand) <= settled && mayGo(t.hand) {
			return t.hand, true
		}
	}
	return 0, false
}

// learn returns the learn number of a row; 0 if the table has forgotten it.
func (t *table) learn(i uint32) uint64 {
	if n := t.at(i).learn; n > 0 {
		return t.base + uint64(n)
	}
	return 0
}

// set notes that the target of the row was learnt at n, the newest number.
func (t *table) set(i uint32, n uint64) {
	if isWide(n, t.base) {
		t.lower()
	}
	t.at(i).learn = uint32(n - t.base)
	t.top = n
}

// lower moves the base up. What was learnt before it is covered by floor.
func (t *table) lower() {
	for _, page := range t.pages {
		for i := range page {
			page[i].learn -= min(page[i].learn, halfWide)
		}
	}
	t.base += halfWide
	t.floor = max(t.floor, t.base)
}

// since returns n as it is compared with the rows.
func (t *table) since(n uint64) uint32 { return uint32(n - min(n, t.base)) }

// bytes is the memory of the table without that of the columns.
func (t *table) bytes() int { return t.index.bytes() + len(t.pages)*pageSize*12 }
