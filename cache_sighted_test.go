package fluster

import (
	"testing"
	"time"
)

// What was sighted counts for aloneFor, also where the tenths of seconds begin anew.
func TestSighted(t *testing.T) {
	const one, alike, other = 0xabcdef0123456789, 0x123def0123456789, 0xabcdef0123456788
	anew := time.UnixMilli(100 << tenthBits * 100) // all bits are 0 then
	for _, start := range []time.Time{time.UnixMilli(1_795_000_000_123), anew, anew.Add(-5 * time.Second), anew.Add(-time.Millisecond)} {
		var s sighted
		is := func(hash uint64, after time.Duration, want bool) {
			t.Helper()
			left := s.left(hash, start.Add(after))
			if got := left > 0; got != want {
				t.Errorf("%#x, %v after %v: counts %v (for %v), want %v", hash, after, start, got, left, want)
			}
			if want && max(left-(aloneFor-after), (aloneFor-after)-left) > time.Second/10 {
				t.Errorf("%#x, %v after %v: counts for %v, want %v", hash, after, start, left, aloneFor-after)
			}
		}
		is(one, 0, false)
		s.add(one, start)
		is(one, 0, true)
		is(one, 9800*time.Millisecond, true)
		is(one, 10200*time.Millisecond, false)
		is(one, 20*time.Minute, false)
		is(one, -200*time.Millisecond, false) // the clock was set back
		is(alike, 0, false)
		is(other, 0, false)
		s.remove(alike)
		is(one, 0, true)
		s.add(alike, start)
		is(one, 0, false)
		is(alike, 0, true)
		s.remove(alike)
		is(alike, 0, false)
	}
}
