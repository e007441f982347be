package journal

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
)

// memoryBound is what a million distinct tags may take with three nodes.
const memoryBound = 64_000_000

func heapAlloc() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// learned returns a Book of so many nodes, all in use, whose journals have the
// same records of n distinct tags, and were read to the head.
func learned(tb testing.TB, nodes, n int) (*Book, []*View) {
	tb.Helper()
	b := NewBook(Options{}, at(0))
	var views []*View
	for i := range nodes {
		v := b.AddNode(strconv.Itoa(i))
		if got := v.Advance(0, Head{1, 1, 1 << 40}, []Entry{begin(1 << 40)}, at(0)); got != Proven || !v.Use() {
			tb.Fatalf("loading: got %v", got)
		}
		views = append(views, v)
	}
	learnMore(tb, b, views, 0, n)
	return b, views
}

// learnMore makes records of the tags product-from to product-to as a process
// does: it learns them, and then hears of them from every node.
func learnMore(tb testing.TB, b *Book, views []*View, from, to int) {
	for i := from; i < to; i++ {
		r := b.NewRecord(Target{Kind: Tag, Value: "product-" + strconv.Itoa(i)})
		b.Learn(r)
		for _, v := range views {
			h := v.head
			nonce := uint64(i+1)<<32 + h.Seq
			if !v.Heard(h.Inc, Entry{Record: r, Seq: h.Seq + 1, Nonce: nonce, After: h.Nonce}) {
				tb.Fatalf("record %d does not follow", i)
			}
		}
	}
}

func TestMillionTagsInBoundedMemory(t *testing.T) {
	before := heapAlloc()
	b, views := learned(t, 3, 1_000_000)
	took := heapAlloc() - before
	t.Logf("%.1f MB, by its own count %.1f MB", float64(took)/1e6, float64(b.Memory())/1e6)
	if took > memoryBound {
		t.Errorf("a million tags take %d bytes, want %d at most", took, memoryBound)
	}
	// All are told apart, on every node and in the near cache.
	for i := 0; i < 1_000_000; i += 9973 {
		sel := NewSelectors("https://example.com/", []string{"product-" + strconv.Itoa(i)})
		if got, _ := b.ValidNear(uint64(i), &sel); got != Dead {
			t.Fatalf("product-%d is %v before its record", i, got)
		}
		if got, _ := b.ValidNear(uint64(i+1), &sel); got != Valid {
			t.Fatalf("product-%d is %v after its record", i, got)
		}
		for _, v := range views {
			before := Head{1, uint64(i + 1), uint64(i)<<32 + uint64(i)}
			if i == 0 {
				before = Head{1, 1, 1 << 40}
			}
			after := Head{1, uint64(i + 2), uint64(i+1)<<32 + uint64(i+1)}
			if x, y := v.ValidNode(before, &sel), v.ValidNode(after, &sel); x != Dead || y != Valid {
				t.Fatalf("product-%d is %v before its record, %v after it", i, x, y)
			}
		}
	}
	runtime.KeepAlive(b)
}

// BenchmarkLookup judges a response of so many tags against so many records:
// one of the near cache, and one of a node.
func BenchmarkLookup(b *testing.B) {
	for _, records := range []int{1_000, 100_000, 1_000_000} {
		book, views := learned(b, 3, records)
		for _, tags := range []int{0, 8, 64} {
			sels := make([]Selectors, 1024)
			for i := range sels {
				names := make([]string, tags)
				for j := range names {
					names[j] = fmt.Sprintf("product-%d", (i*7919+j*104729)%records) // invalidated once, before
				}
				sels[i] = NewSelectors(fmt.Sprintf("https://example.com/%d", i), names)
			}
			stamp, n := views[1].head, book.Learnt()
			name := fmt.Sprintf("records=%d/tags=%d/", records, tags)
			b.Run(name+"near", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					book.mu.RLock()
					if book.judgeNearLocked(n, &sels[i%len(sels)]) != Valid {
						b.Fatal("not valid")
					}
					book.mu.RUnlock()
				}
			})
			b.Run(name+"node", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					if views[1].ValidNode(stamp, &sels[i%len(sels)]) != Valid {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}

// BenchmarkLearn learns records of distinct tags, each of them told of by three nodes.
func BenchmarkLearn(b *testing.B) {
	book, views := learned(b, 3, 0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		learnMore(b, book, views, i, i+1)
		i++
	}
}
