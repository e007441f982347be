package journal

import "math/bits"

// A numberSet is a set of numbers of records, one bit each. What is added is
// never below what was added before.
type numberSet struct {
	words []uint64
	base  uint64 // the number of the first bit, a multiple of 64
	len   int
}

// fill makes it the set of all numbers from first to before end.
func (s *numberSet) fill(first, end uint64) {
	s.base, s.words, s.len = first&^63, nil, int(end-first)
	if s.len == 0 {
		return
	}
	s.words = make([]uint64, (end-s.base+63)/64)
	for i := range s.words {
		s.words[i] = ^uint64(0)
	}
	s.words[0] &= ^uint64(0) << (first & 63)
	if end&63 != 0 {
		s.words[len(s.words)-1] &= 1<<(end&63) - 1
	}
}

// add adds n, and reports whether it was not there.
func (s *numberSet) add(n uint64) bool {
	if s.len == 0 {
		s.base, s.words = n&^63, s.words[:0]
	}
	i := (n - s.base) / 64
	for i >= uint64(len(s.words)) {
		s.words = append(s.words, 0)
	}
	had := s.words[i]>>(n&63)&1 == 1
	if !had {
		s.words[i] |= 1 << (n & 63)
		s.len++
	}
	return !had
}

func (s *numberSet) has(n uint64) bool {
	i := (n - s.base) / 64
	return n >= s.base && i < uint64(len(s.words)) && s.words[i]>>(n&63)&1 == 1
}

// remove takes n out, and reports whether it was there.
func (s *numberSet) remove(n uint64) bool {
	if !s.has(n) {
		return false
	}
	s.words[(n-s.base)/64] &^= 1 << (n & 63)
	s.len--
	return true
}

// next returns the lowest number in the set that is not below n.
func (s *numberSet) next(n uint64) (uint64, bool) {
	n = max(n, s.base)
	for i := (n - s.base) / 64; s.len > 0 && i < uint64(len(s.words)); i++ {
		if w := s.words[i] >> (n & 63); w != 0 {
			return n + uint64(bits.TrailingZeros64(w)), true
		}
		n = s.base + (i+1)*64
	}
	return 0, false
}

// forget gives memory back that is for numbers below n, none of which is in the set.
func (s *numberSet) forget(n uint64) {
	if i := (n - min(n, s.base)) / 64; i > uint64(len(s.words)/2) {
		i = min(i, uint64(len(s.words)))
		s.words = append([]uint64(nil), s.words[i:]...)
		s.base += i * 64
	}
}

func (s *numberSet) bytes() int { return 8 * len(s.words) }
