package shard

import (
	"math"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// nobody is the index of no node: before the first and after the last one.
const nobody = -1

// A ring orders nodes for a key by weighted rendezvous hashing (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998; for the
// weights Schindelhauer and Schomaker, "Weighted distributed hash tables",
// 2005): each node draws a number from its name and the key, the highest comes
// first. So any set of names and weights gives the same order everywhere, and
// without one node the order of the others stays.
//
// Keys are drawn for by the slot that they fall into. That makes it possible to
// remember who is first, and to pick one of many nodes as fast as one of a few.
// It is safe for concurrent use, and its answers never change.
type ring struct {
	seeds   []uint64        // a hash of each node's name
	weights []float64       // nil if all are equal, which is cheaper
	firsts  []atomic.Uint32 // for each slot, 1 + who is first; 0: not drawn yet; nil: there is one at most
}

// slots are so many that each of a hundred nodes gets its share within some percent.
const slots = 1 << 16

// newRing returns a ring over the nodes with these names and weights, which the
// other methods know by their indices. The weights are above 0.
func newRing(names []string, weights []float64) *ring {
	r := &ring{seeds: make([]uint64, len(names))}
	for i, name := range names {
		r.seeds[i] = mix(xxhash.Sum64String(name))
		if weights[i] != weights[0] {
			r.weights = weights
		}
	}
	if len(names) > 1 {
		r.firsts = make([]atomic.Uint32, slots)
	}
	return r
}

// A slot is what the ring wants to know of a key.
type slot uint16

func slotOf(key string) slot { return slot(xxhash.Sum64String(key)) }

// first returns the node that is first for a slot; nobody if there is none.
func (r *ring) first(s slot) int {
	if r.firsts == nil {
		return r.next(s, nobody) // of one or none
	}
	if known := r.firsts[s].Load(); known > 0 {
		return int(known) - 1
	}
	i := r.next(s, nobody)
	r.firsts[s].Store(uint32(i + 1))
	return i
}

// next returns the node that follows after in the order of a slot; after nobody
// comes the first one, after the last one nobody.
//
// It looks at all nodes again instead of sorting them: with one node away, as
// usual, it is called once or twice, and there are few nodes.
func (r *ring) next(s slot, after int) int {
	limit := uint64(math.MaxUint64)
	if after != nobody {
		limit = r.draw(after, s)
	}
	best, bestDraw := nobody, uint64(0)
	for i := range r.seeds {
		draw := r.draw(i, s)
		// Among equal draws the lower index comes first.
		if draw > limit || (draw == limit && i <= after) {
			continue
		}
		if best == nobody || draw > bestDraw {
			best, bestDraw = i, draw
		}
	}
	return best
}

// draw returns the number that node i draws for a slot; the highest one wins.
func (r *ring) draw(i int, s slot) uint64 {
	draw := mix(r.seeds[i] ^ uint64(s))
	if r.weights == nil {
		return draw
	}
	// The draw becomes a number in (0, 1). For those, −w/ln(u) is positive, and
	// the bits of positive floats are ordered as the floats are. With equal
	// weights it would order as the draws themselves do.
	u := (float64(draw>>11) + 0.5) * 0x1p-53
	return math.Float64bits(-r.weights[i] / math.Log(u))
}

// mix makes every bit of its result depend on every bit of x, and maps no two
// numbers to one: the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
