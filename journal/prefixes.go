package journal

import (
	"slices"
)

// maxPrefixLengths bounds how many lengths of prefixes are told apart: a lookup
// hashes the URL once for each. A prefix of a further length is shortened to
// the next length in use, so it selects more than it was asked to.
const maxPrefixLengths = 256

// prefixes are the lengths of all prefixes that were learnt, in ascending
// order. A length is never given up: marks were made with it.
type prefixes struct{ lengths []int }

// note makes sure that prefixes of this length are looked for, and returns the
// prefix as it is to be kept in the tables.
func (p *prefixes) note(prefix string) string {
	i, found := slices.BinarySearch(p.lengths, len(prefix))
	switch {
	case found:
		return prefix
	case len(p.lengths) < maxPrefixLengths:
		p.lengths = slices.Insert(p.lengths, i, len(prefix))
		return prefix
	case i == 0:
		// None in use is as short: the empty prefix, which every URL starts with.
		p.lengths = slices.Insert(p.lengths, 0, 0)
		return ""
	}
	return prefix[:p.lengths[i-1]]
}
