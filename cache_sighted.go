package fluster

import (
	"sync/atomic"
	"time"
)

// sighted are the keys of which one response was for nobody else, which are marked
// when they are asked for again. Most are not, as with pages that are made for each
// visitor, and a mark costs as much as all else that is decided of a response. A key
// takes the place of another one whose hash is alike. It is safe for concurrent use.
type sighted struct {
	// The upper 40 bits of a hash, of which the lower ones are the place, and until
	// when it counts in tenths of a second, modulo 2^24.
	places [4096]atomic.Uint64
}

const (
	tenthBits = 24
	tenthMask = 1<<tenthBits - 1
)

// tenths returns a time in tenths of a second, modulo 2^24: nineteen days.
func tenths(t time.Time) uint64 { return uint64(t.UnixMilli()/100) & tenthMask }

// add notes a key for aloneFor.
func (s *sighted) add(hash uint64, now time.Time) {
	s.place(hash).Store(hash&^tenthMask | tenths(now.Add(aloneFor)))
}

// left returns for how long a key that was noted counts, in steps of a tenth of a
// second; 0 if it does not.
func (s *sighted) left(hash uint64, now time.Time) time.Duration {
	v := s.place(hash).Load()
	left := time.Duration((v-tenths(now))&tenthMask) * (time.Second / 10)
	if v == 0 || v&^tenthMask != hash&^tenthMask || left > aloneFor {
		return 0
	}
	return left
}

// remove forgets a key.
func (s *sighted) remove(hash uint64) {
	place := s.place(hash)
	if v := place.Load(); v&^tenthMask == hash&^tenthMask {
		place.CompareAndSwap(v, 0)
	}
}

func (s *sighted) place(hash uint64) *atomic.Uint64 { return &s.places[hash%uint64(len(s.places))] }
