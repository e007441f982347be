package journal

import "math"

// pageSize is how many numbers are allocated at once.
const pageSize = 4096

// halfWide is by how much numbers that are kept in 32 bits move, when they
// grow out of them.
const halfWide = 1 << 31

// A column is one number in 32 bits for each row of the table. It is not there
// where all are zero.
type column struct{ pages []*[pageSize]uint32 }

func (c *column) at(i uint32) uint32 {
	if p := int(i / pageSize); p < len(c.pages) && c.pages[p] != nil {
		return c.pages[p][i%pageSize]
	}
	return 0
}

func (c *column) set(i, n uint32) {
	p := int(i / pageSize)
	for p >= len(c.pages) {
		c.pages = append(c.pages, nil)
	}
	if c.pages[p] == nil {
		c.pages[p] = new([pageSize]uint32)
	}
	c.pages[p][i%pageSize] = n
}

// lower takes halfWide off all numbers; those that were no more are zero.
func (c *column) lower() {
	for _, page := range c.pages {
		if page == nil {
			continue
		}
		for i := range page {
			page[i] -= min(page[i], halfWide)
		}
	}
}

func (c *column) bytes() (n int) {
	for _, page := range c.pages {
		if page != nil {
			n += 4 * pageSize
		}
	}
	return n
}

// isWide reports whether n, counted from base, needs more than 32 bits.
func isWide(n, base uint64) bool { return n-base >= math.MaxUint32 }

// A history is the nonces of the newest entries of a journal, of each its half:
// enough to tell one history from another, where an accident makes one of four
// billion pass. The nonce of the head is kept and compared as a whole.
type history struct {
	max   uint64
	first uint64 // seq of the first nonce in pages
	next  uint64 // seq behind the last one
	pages []*[pageSize]uint32
}

// newHistory returns the history of a journal whose next entry has this seq.
func newHistory(max int, next uint64) history {
	return history{max: uint64(max), first: next, next: next}
}

func half(nonce uint64) uint32 { return uint32(nonce ^ nonce>>32) }

// push notes the nonce of the next entry.
func (h *history) push(nonce uint64) {
	i := h.next - h.first
	if i/pageSize == uint64(len(h.pages)) {
		h.pages = append(h.pages, new([pageSize]uint32))
	}
	h.pages[i/pageSize][i%pageSize] = half(nonce)
	h.next++
	if h.next-h.first >= h.max+pageSize {
		h.pages = append(h.pages[:0], h.pages[1:]...)
		h.first += pageSize
	}
}

// begin is the seq of the oldest entry that is known.
func (h *history) begin() uint64 { return max(h.first, h.next-min(h.next, h.max)) }

// has reports whether the entry with this seq has this nonce.
func (h *history) has(seq, nonce uint64) bool {
	if seq < h.begin() || seq >= h.next {
		return false
	}
	i := seq - h.first
	return h.pages[i/pageSize][i%pageSize] == half(nonce)
}

func (h *history) bytes() int { return 4 * pageSize * len(h.pages) }
