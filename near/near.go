// Package near holds the hottest entries in this process, bounded by bytes.
//
// It keeps and evicts, and that is all: whether an entry is fresh, or was invalidated, is the caller's question at each
// use. A dead entry that nobody asks for is evicted like any other, sooner rather than later since nobody asks for it.
// Which entries are worth their bytes is decided by otter (W-TinyLFU: recency and frequency, so that a scan of many
// URLs once each does not push out the hot ones).
package near

import (
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// maxShare is the part of the maximum that one entry may take, as a divisor: an entry that weighs more than an eighth is
// not kept, because it would push out a great many small ones for the sake of itself.
const maxShare = 8

// A Cache holds values by cache key. It is safe for concurrent use, starts no goroutines, and its maintenance runs on
// the goroutines that call it. A nil Cache works and holds nothing: the near cache is off.
type Cache[V any] struct {
	entries *otter.Cache[string, V]
	weigh   func(key string, v V) uint32
	largest atomic.Uint64 // the most that one entry may weigh
}

// New returns a cache of at most maxBytes, or nil, the cache that holds nothing, when maxBytes is 0. Weigh says how many
// bytes of memory an entry takes, key included; its answer for an entry must not change. It is called under a lock of the
// cache, and so must not call the cache.
func New[V any](maxBytes uint64, weigh func(key string, v V) uint32) *Cache[V] {
	if maxBytes == 0 {
		return nil
	}
	// An entry without weight would never be evicted.
	atLeastOne := func(key string, v V) uint32 { return max(1, weigh(key, v)) }
	c := &Cache[V]{weigh: atLeastOne}
	c.largest.Store(maxBytes / maxShare)
	c.entries = otter.Must(&otter.Options[string, V]{
		MaximumWeight: maxBytes,
		Weigher:       atLeastOne,
		// Inline, so that no goroutine outlives Close and nothing is evicted behind a test's back.
		Executor: func(task func()) { task() },
	})
	return c
}

// Largest returns the most that one entry may weigh.
func (c *Cache[V]) Largest() uint64 {
	if c == nil {
		return 0
	}
	return c.largest.Load()
}

// Get returns the value of key.
func (c *Cache[V]) Get(key string) (V, bool) {
	if c == nil {
		var none V
		return none, false
	}
	return c.entries.GetIfPresent(key)
}

// Set keeps v for key, in place of what was kept for it, until it is evicted, which may be at once. An entry that weighs
// more than an eighth of the maximum is not kept; nor then is the older one, which v was to replace. Once Set has
// returned, what it added is part of the bound: while n calls run, the cache may exceed its maximum by n entries, and when
// none run, not at all.
func (c *Cache[V]) Set(key string, v V) {
	if c == nil {
		return
	}
	if uint64(c.weigh(key, v)) > c.largest.Load() {
		c.entries.Invalidate(key)
		return
	}
	c.entries.Set(key, v)
	// Set leaves the eviction to whoever is at it already, and with an inline executor that one does not start again for
	// what came meanwhile.
	c.entries.CleanUp()
}

// Add keeps v for key as Set does, but only if nothing is kept for it. It reports whether that was so, and v not too heavy.
func (c *Cache[V]) Add(key string, v V) bool {
	if c == nil {
		return true
	}
	if uint64(c.weigh(key, v)) > c.largest.Load() {
		return false
	}
	_, added := c.entries.SetIfAbsent(key, v)
	if added {
		c.entries.CleanUp()
	}
	return added
}

// Delete drops what is kept for key.
func (c *Cache[V]) Delete(key string) {
	if c == nil {
		return
	}
	c.entries.Invalidate(key)
}

// Clear drops everything that was kept when it was called. What is set while it runs may stay.
func (c *Cache[V]) Clear() {
	if c == nil {
		return
	}
	c.entries.InvalidateAll()
}

// SetMaximum changes the maximum and evicts down to it before it returns; with 0 the cache is empty and stays so. Entries
// that weigh more than an eighth of a lower maximum, but less than all of it, stay until they are evicted.
func (c *Cache[V]) SetMaximum(maxBytes uint64) {
	if c == nil {
		return
	}
	c.largest.Store(maxBytes / maxShare)
	c.entries.SetMaximum(maxBytes)
}

// Stats returns how many entries the cache has, what they weigh together, and what they may weigh at most.
func (c *Cache[V]) Stats() (entries int, bytes, maximum uint64) {
	if c == nil {
		return 0, 0, 0
	}
	return c.entries.EstimatedSize(), c.entries.WeightedSize(), c.entries.GetMaximum()
}

// Close drops everything; from then on the cache keeps nothing.
func (c *Cache[V]) Close() {
	// A Set that is under way adds to a cache that may hold nothing, and evicts it itself.
	c.SetMaximum(0)
}
