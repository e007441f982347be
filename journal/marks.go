package journal

// marks is a table from target to the last number (a learn number, or a seq of
// one journal) at which it was seen. It is bounded: it holds two generations of
// at most max/2 targets, and when the younger is full the older is given up.
// What was given up is covered by floor: every target counts as seen at floor.
//
// So the bound costs hits, never correctness: a response that is older than
// the oldest invalidation in the table is refused.
type marks struct {
	max        int
	young, old map[sum]uint64
	youngTop   uint64 // the highest number in young
	oldTop     uint64 // the highest number in old
	floor      uint64
}

func newMarks(max int) marks { return marks{max: max, young: map[sum]uint64{}} }

// set notes that s was seen at n.
func (m *marks) set(s sum, n uint64) {
	if _, ok := m.young[s]; !ok && len(m.young) >= m.max/2 {
		m.floor = max(m.floor, m.oldTop)
		m.old, m.oldTop = m.young, m.youngTop
		m.young, m.youngTop = map[sum]uint64{}, 0
	}
	m.young[s] = max(n, m.young[s])
	m.youngTop = max(m.youngTop, n)
}

// last returns the number at which s was last seen, at least floor.
func (m *marks) last(s sum) uint64 { return max(m.floor, m.young[s], m.old[s]) }

// seen returns the number at which s itself was last seen, 0 if that is not
// known any more.
func (m *marks) seen(s sum) uint64 { return max(m.young[s], m.old[s]) }

func (m *marks) len() int { return len(m.young) + len(m.old) }
