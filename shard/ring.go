package shard

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// nobody is the index of no node: before the first and after the last one.
const nobody = -1

// A ring orders nodes for a key by weighted rendezvous hashing (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998; for the
// weights Schindelhauer and Schomaker, "Weighted distributed hash tables",
// 2005): each node draws a number from its name and the key, the highest comes
// first. It holds no table, so any set of names and weights gives the same
// order everywhere, and without one node the order of the others stays.
// It is immutable.
type ring struct {
	seeds   []uint64  // a hash of each node's name
	weights []float64 // nil if all are equal, which is cheaper
}

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
	return r
}

// hashKey returns what next wants to know of a key.
func hashKey(key string) uint64 { return xxhash.Sum64String(key) }

// next returns the node that follows after in the order of the key with this
// hash; after nobody comes the first one, after the last one nobody.
//
// It looks at all nodes again instead of sorting them: with one node away, as
// usual, it is called once or twice, and there are few nodes.
func (r *ring) next(hash uint64, after int) int {
	limit := uint64(math.MaxUint64)
	if after != nobody {
		limit = r.draw(after, hash)
	}
	best, bestDraw := nobody, uint64(0)
	for i := range r.seeds {
		draw := r.draw(i, hash)
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

// draw returns the number that node i draws for a key; the highest one wins.
func (r *ring) draw(i int, hash uint64) uint64 {
	draw := mix(r.seeds[i] ^ hash)
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
