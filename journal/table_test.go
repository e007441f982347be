package journal

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// seeded returns random numbers that a failure can be repeated with.
func seeded(t *testing.T) *rand.Rand {
	n := *simSeed
	if n == 0 {
		n = rand.Uint64N(1 << 40)
	}
	t.Logf("-seed %d", n)
	return rand.New(rand.NewPCG(n, 2))
}

// An index finds what was put into it and was not taken out again, whatever
// the hashes have in common.
func TestIndexIsASet(t *testing.T) {
	rng := seeded(t)
	for _, mask := range []uint64{math.MaxUint64, 0xff<<56 | 7, 0} {
		var x index
		hashes := map[uint32]uint64{}
		hash := func(n uint32) uint64 { return hashes[n] }
		in := map[uint32]bool{}
		for range 3000 {
			n := uint32(rng.IntN(500))
			if rng.IntN(50) == 0 {
				n = maxNumber
			}
			if _, ok := hashes[n]; !ok {
				hashes[n] = rng.Uint64() & mask
			}
			if in[n] {
				x.remove(hashes[n], n, hash)
			} else {
				x.insert(hashes[n], n, hash)
			}
			in[n] = !in[n]
			for _, m := range []uint32{n, uint32(rng.IntN(500))} {
				if _, ok := x.find(hashes[m], func(i uint32) bool { return i == m }); ok != in[m] {
					t.Fatalf("mask %x: found %d: %v, want %v", mask, m, ok, in[m])
				}
			}
		}
	}
}

func TestNumberSet(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		var s numberSet
		want := map[uint64]bool{}
		low := uint64(rng.IntN(300))
		high := low + uint64(rng.IntN(300))
		s.fill(low, high)
		for n := low; n < high; n++ {
			want[n] = true
		}
		for range 200 {
			n := low + uint64(rng.IntN(400))
			if rng.IntN(2) == 0 {
				high = max(high+uint64(rng.IntN(70)), low)
				if !s.add(high) || s.add(high) {
					t.Fatalf("adding %d", high)
				}
				want[high] = true
				high++
			} else {
				if s.remove(n) != want[n] {
					t.Fatalf("removing %d", n)
				}
				delete(want, n)
			}
			if rng.IntN(20) == 0 {
				low += uint64(rng.IntN(80))
				for m := range want {
					if m < low {
						s.remove(m)
						delete(want, m)
					}
				}
				s.forget(low)
			}
		}
		var got []uint64
		n, ok := s.next(0)
		for ; ok; n, ok = s.next(n + 1) {
			got = append(got, n)
		}
		if !slices.Equal(got, slices.Sorted(maps.Keys(want))) || s.len != len(want) {
			t.Fatalf("got %v (%d), want %v", got, s.len, want)
		}
	}
}

func TestHistory(t *testing.T) {
	for _, max := range []int{3, pageSize, 2*pageSize + 5} {
		h := newHistory(max, 100)
		for seq := uint64(100); seq < 100+4*pageSize; seq++ {
			h.push(seq << 20)
			for _, c := range []struct {
				seq, nonce uint64
				want       bool
			}{
				{seq, seq << 20, true}, {seq, seq<<20 + 1, false}, {seq + 1, (seq + 1) << 20, false}, {seq + 1, 0, false}, {99, 99 << 20, false},
				{seq + 1 - uint64(max), (seq + 1 - uint64(max)) << 20, seq+1-uint64(max) >= 100 && seq >= uint64(max)},
				{seq - uint64(max), (seq - uint64(max)) << 20, false},
			} {
				if got := h.has(c.seq, c.nonce); got != c.want {
					t.Fatalf("max %d, at %d: has %d: %v, want %v", max, seq, c.seq, got, c.want)
				}
			}
		}
		if got := h.bytes(); got > 4*(max+2*pageSize) {
			t.Errorf("the nonces of %d entries take %d bytes", max, got)
		}
	}
}

// tagBook is a book that tells few targets apart, and a node of it.
func tagBook(t *testing.T, o Options) (*Book, *View) {
	b := NewBook(o, at(0))
	return b, loadedView(t, b)
}

// learnTag learns the invalidation of a tag, and hears of it from the node.
func learnTag(t *testing.T, b *Book, v *View, tag string) {
	t.Helper()
	r := b.NewRecord(Target{Kind: Tag, Value: tag})
	b.Learn(r)
	if !v.Heard(v.head.Inc, Entry{Record: r, Seq: v.head.Seq + 1, Nonce: v.head.Nonce + 1, After: v.head.Nonce}) {
		t.Fatalf("%s does not follow", tag)
	}
}

// What the table gave up is refused; what it has is told apart. Against a model
// that forgets nothing.
func TestTableRefusesWhatItForgot(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		b, v := tagBook(t, Options{MaxTargets: 8 + rng.IntN(30)})
		learnt, seqs := map[string]uint64{}, map[string]uint64{}
		stamps := []Stamp{v.head}
		valid := 0
		for range 500 {
			tag := fmt.Sprint(rng.IntN(1 + rng.IntN(80)))
			learnTag(t, b, v, tag)
			learnt[tag], seqs[tag] = b.Learnt(), v.head.Seq
			stamps = append(stamps, v.head)
			for range 5 {
				tag := fmt.Sprint(rng.IntN(80))
				sel := NewSelectors("https://e/", []string{tag})
				n := uint64(rng.IntN(int(b.Learnt() + 1)))
				if got, _ := b.ValidNear(n, &sel); got == Valid && learnt[tag] > n {
					t.Fatalf("what was fetched at %d is valid; the tag was learnt at %d", n, learnt[tag])
				} else if got == Valid {
					valid++
				}
				s := stamps[rng.IntN(len(stamps))]
				if got := v.ValidNode(s, &sel); got == Valid && seqs[tag] > s.Seq {
					t.Fatalf("what has stamp %v is valid; the tag stands at %d", s, seqs[tag])
				}
			}
		}
		if int(b.table.used) > b.table.limit || valid < 50 {
			t.Errorf("%d rows, want %d at most; %d times valid", b.table.used, b.table.limit, valid)
		}
	}
}

// Targets that are invalidated over and over do not push others out.
func TestTableKeepsWhatItHasRoomFor(t *testing.T) {
	b, v := tagBook(t, Options{MaxTargets: 64})
	for i := range 2000 {
		learnTag(t, b, v, fmt.Sprint(i%60))
	}
	if b.table.floor != 0 || v.floor != 0 {
		t.Errorf("sixty targets over and over raised the floor to %d and %d", b.table.floor, v.floor)
	}
	for i := range 200 {
		learnTag(t, b, v, fmt.Sprint("new ", i))
		if b.table.floor > b.Learnt()-32 {
			t.Fatalf("%d new ones raised the floor to %d of %d", i, b.table.floor, b.Learnt())
		}
	}
	if b.table.floor == 0 {
		t.Error("two hundred new ones left the floor where it was")
	}
}

// Learn numbers and seqs that grow out of 32 bits go on to be compared as they are.
func TestNumbersBeyond32Bits(t *testing.T) {
	b, v := tagBook(t, Options{})
	learnTag(t, b, v, "old")
	oldLearn, oldHead := b.Learnt(), v.head
	// As if as many records had been learnt meanwhile.
	b.learnt.Store(math.MaxUint32 - 1)
	v.head.Seq = math.MaxUint32 - 1
	v.nonces = newHistory(b.table.limit, v.head.Seq+1)
	learnTag(t, b, v, "young")
	n, head := b.Learnt(), v.head
	for i := range 10 {
		learnTag(t, b, v, fmt.Sprint(i))
	}
	if n < math.MaxUint32 || b.table.base == 0 || v.base == 0 {
		t.Fatalf("learnt %d, base %d and %d", n, b.table.base, v.base)
	}
	for _, c := range []struct {
		tag        string
		learn      uint64
		stamp      Stamp
		near, node Validity
	}{
		{"young", n, head, Valid, Valid}, {"young", n - 1, oldHead, Dead, Dead}, {"old", n - 1, head, Valid, Valid},
		{"0", n, head, Dead, Dead}, {"9", b.Learnt(), v.head, Valid, Valid}, {"unknown", oldLearn, oldHead, Dead, Dead},
	} {
		sel := NewSelectors("https://e/", []string{c.tag})
		if got, _ := b.ValidNear(c.learn, &sel); got != c.near {
			t.Errorf("%s, fetched at %d: got %v, want %v", c.tag, c.learn, got, c.near)
		}
		if got := v.ValidNode(c.stamp, &sel); got != c.node {
			t.Errorf("%s, stored at %v: got %v, want %v", c.tag, c.stamp, got, c.node)
		}
	}
}

func randomRecord(rng *rand.Rand, b *Book) Record {
	kinds := []Kind{URL, Tag, Prefix, Host, All}
	r := Record{ID: fmt.Sprintf("%x.%d.%d", rng.Uint32(), rng.IntN(9), rng.IntN(3))}
	switch rng.IntN(4) {
	case 0:
		r = b.NewRecord(Target{})
	case 1:
		r.ID = fmt.Sprintf("writer%d-%d", rng.IntN(5000), rng.IntN(1000))
	case 2:
		r.ID = []string{"-", "-1", "a-", "a-0", "a-01", "a--1", "a-b-1", "a-1234567890123456789", "a-+1", "\xff\x00-7"}[rng.IntN(10)]
	}
	r.Target = Target{Kind: kinds[rng.IntN(5)], Soft: rng.IntN(2) == 0, Value: strings.Repeat("v", rng.IntN(100)) + fmt.Sprint(rng.IntN(1000))}
	return r
}

// A log has the last records as they were given, and knows those alone.
func TestRecordLog(t *testing.T) {
	rng := seeded(t)
	b := NewBook(Options{}, at(0))
	for _, max := range []int{1, 10, 100, 5000} {
		l := newRecordLog(max)
		l.first, l.next = 3*shortNumbers-5, 3*shortNumbers-5
		numbers := map[Record]uint64{}
		var all []Record
		for range 3 * max {
			r := randomRecord(rng, b)
			if n, ok := l.find(r); ok {
				if n != numbers[r] {
					t.Fatalf("%v has number %d, want %d", r, n, numbers[r])
				}
				continue
			}
			for l.len() > 0 && l.startsPage() && l.len()+l.perPage > max {
				first, end := l.oldest()
				for n := first; n < end; n++ {
					delete(numbers, l.record(n))
				}
				l.drop()
			}
			numbers[r] = l.add(r)
			all = append(all, r)
		}
		if l.len() != len(numbers) || l.len() > max || max > 10 && l.len() < max/2 {
			t.Errorf("%d records in a log of %d, want %d", l.len(), max, len(numbers))
		}
		for r, n := range numbers {
			if got := l.record(n); got != r {
				t.Fatalf("record %d: got %q, want %q", n, got, r)
			}
			if got, ok := l.peek(r); !ok || got != n {
				t.Fatalf("%q is not known by number %d", r, n)
			}
		}
		for _, r := range all {
			if _, ok := l.find(r); ok != (numbers[r] > 0) {
				t.Fatalf("%q is known: %v", r, ok)
			}
		}
		size := 0
		for _, p := range l.pages {
			size += cap(p.data) + 4*cap(p.offsets)
		}
		if size != l.size {
			t.Errorf("a log of %d bytes counts %d", size, l.size)
		}
	}
}
