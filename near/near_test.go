package near_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/near"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// weighLength takes the length that a value says for its weight.
func weighLength(_ string, n uint32) uint32 { return n }

// wantStats fails if the cache has not the given entries and bytes.
func wantStats(t *testing.T, c *near.Cache[uint32], entries int, bytes, maximum uint64) {
	t.Helper()
	gotEntries, gotBytes, gotMaximum := c.Stats()
	if gotEntries != entries || gotBytes != bytes || gotMaximum != maximum {
		t.Errorf("got %d entries, %d bytes of %d, want %d, %d of %d",
			gotEntries, gotBytes, gotMaximum, entries, bytes, maximum)
	}
}

// wantValue fails if the cache has not the given value for key; 0 is none.
func wantValue(t *testing.T, c *near.Cache[uint32], key string, want uint32) {
	t.Helper()
	if got, ok := c.Get(key); got != want || ok != (want != 0) {
		t.Errorf("Get(%q): got %d, %v, want %d, %v", key, got, ok, want, want != 0)
	}
}

func TestCache(t *testing.T) {
	c := near.New(1000, weighLength)
	defer c.Close()
	for _, step := range []struct {
		name    string
		do      func()
		a, b    uint32 // the values of these keys; 0 is none
		entries int
		bytes   uint64
		maximum uint64
	}{
		{"empty", func() {}, 0, 0, 0, 0, 1000},
		{"one", func() { c.Set("a", 10) }, 10, 0, 1, 10, 1000},
		{"another", func() { c.Set("b", 20) }, 10, 20, 2, 30, 1000},
		{"replaced", func() { c.Set("a", 11) }, 11, 20, 2, 31, 1000},
		{"deleted", func() { c.Delete("a") }, 0, 20, 1, 20, 1000},
		{"deleted again", func() { c.Delete("a") }, 0, 20, 1, 20, 1000},
		{"added", func() { c.Add("a", 12) }, 12, 20, 2, 32, 1000},
		{"added again, which changes nothing", func() { c.Add("a", 13) }, 12, 20, 2, 32, 1000},
		{"too heavy to be added", func() { c.Delete("a"); c.Add("a", 126) }, 0, 20, 1, 20, 1000},
		{"as heavy as may be", func() { c.Set("a", 125) }, 125, 20, 2, 145, 1000},
		{"too heavy, so the older one goes too", func() { c.Set("a", 126) }, 0, 20, 1, 20, 1000},
		{"higher maximum", func() { c.SetMaximum(2000); c.Set("a", 126) }, 126, 20, 2, 146, 2000},
		{"cleared", func() { c.Clear() }, 0, 0, 0, 0, 2000},
		{"used again", func() { c.Set("a", 200) }, 200, 0, 1, 200, 2000},
		{"lower maximum than its one entry", func() { c.SetMaximum(100) }, 0, 0, 0, 0, 100},
		{"closed", func() { c.Set("b", 1); c.Close() }, 0, 0, 0, 0, 0},
		{"set after the end", func() { c.Set("a", 1) }, 0, 0, 0, 0, 0},
		{"closed again", func() { c.Close() }, 0, 0, 0, 0, 0},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do()
			wantValue(t, c, "a", step.a)
			wantValue(t, c, "b", step.b)
			wantStats(t, c, step.entries, step.bytes, step.maximum)
		})
	}
}

func TestNilHoldsNothing(t *testing.T) {
	c := near.New(0, weighLength)
	if c != nil {
		t.Fatalf("New(0): got %v, want nil", c)
	}
	c.Set("a", 1)
	if !c.Add("a", 1) {
		t.Error("Add: got false, want true: there was nothing")
	}
	c.Delete("a")
	c.Clear()
	c.SetMaximum(1000)
	wantValue(t, c, "a", 0)
	wantStats(t, c, 0, 0, 0)
	c.Close()
}

// Of those who add for one key at a time one does, and the others leave it what it is.
func TestOneAdds(t *testing.T) {
	c := near.New(1<<20, weighLength) // nothing is evicted
	defer c.Close()
	for i := range 1000 {
		key := fmt.Sprint(i)
		var added [4]bool
		var wg sync.WaitGroup
		for g := range added {
			wg.Go(func() { added[g] = c.Add(key, uint32(g+1)) })
		}
		wg.Wait()
		want := uint32(slices.Index(added[:], true) + 1)
		if got, _ := c.Get(key); want == 0 || slices.Contains(added[want:], true) || got != want {
			t.Fatalf("%v have added, and %d is kept: want one, and what it has added", added, got)
		}
	}
}

// The bound holds when eight goroutines set a hundred times as much as it lets in, and with no help: after the last Set
// has returned there is nothing left to do.
func TestBoundUnderConcurrentSet(t *testing.T) {
	const maximum, weight, goroutines = 1 << 18, 1 << 10, 8
	const each = 100 * maximum / weight / goroutines
	c := near.New(maximum, weighLength)
	defer c.Close()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				c.Set(fmt.Sprintf("%d/%d", g, i), weight)
				c.Get(fmt.Sprintf("%d/%d", g, i/2))
				c.Set(fmt.Sprintf("%d/%d", (g+1)%goroutines, i), weight)
			}
		})
	}
	wg.Wait()
	// Stats counts the entries before it does anything else, and asking what they weigh would evict.
	entries, bytes, _ := c.Stats()
	if entries*weight > maximum || entries*weight < maximum/2 || bytes != uint64(entries*weight) {
		t.Errorf("got %d entries of %d bytes each, %d bytes in all, want at most %d and at least half of it",
			entries, weight, bytes, maximum)
	}
	// What is counted is what can be found: nothing lies in memory beside the books.
	found := 0
	for g := range goroutines {
		for i := range each {
			if _, ok := c.Get(fmt.Sprintf("%d/%d", g, i)); ok {
				found++
			}
		}
	}
	if found != entries {
		t.Errorf("found %d entries, want the %d of Stats", found, entries)
	}
}

// What is set while another goroutine evicts is evicted too, if need be, before Set returns: 1. SetMaximum evicts; 2. Set
// finds it at work and leaves what is to be evicted to it; 3. it ends without having seen what Set added.
func TestBoundAfterSetWhileEvicting(t *testing.T) {
	const before, after = 1 << 15, 1 << 10
	c := near.New(before, weighLength)
	defer c.Close()
	for i := range before {
		c.Set(fmt.Sprint(i), 1)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.SetMaximum(after) })
	for evicting, i := false, 0; !evicting; i++ {
		_, ok := c.Get(fmt.Sprint(i % before))
		evicting = !ok
	}
	for i := range 100 {
		c.Set(fmt.Sprint("late", i), 1)
	}
	wg.Wait()
	// Stats counts the entries before it does anything else.
	if entries, _, _ := c.Stats(); entries > after {
		t.Errorf("got %d entries, want at most %d", entries, after)
	}
}

// A value that claims to weigh nothing would never be evicted.
func TestNothingIsWeightless(t *testing.T) {
	c := near.New(100, weighLength)
	defer c.Close()
	for i := range 1000 {
		c.Set(fmt.Sprint(i), 0)
	}
	if entries, bytes, _ := c.Stats(); entries > 100 || bytes > 100 {
		t.Errorf("got %d entries, %d bytes, want at most 100", entries, bytes)
	}
}

// An entry that is asked for often stays while many that are asked for once go by.
func TestHottestStays(t *testing.T) {
	c := near.New(1000, weighLength)
	defer c.Close()
	for i := range 20_000 {
		if _, ok := c.Get("hot"); !ok {
			c.Set("hot", 10)
		}
		c.Set(fmt.Sprint(i), 10)
	}
	wantValue(t, c, "hot", 10)
}

// Close, Clear and SetMaximum may come at any time; afterwards the cache is empty for good.
func TestCloseWhileInUse(t *testing.T) {
	c := near.New(1<<20, weighLength)
	started := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				c.Set(fmt.Sprint(i), 100)
				once.Do(func() { close(started) })
			}
		})
	}
	<-started
	c.Clear()
	c.SetMaximum(1 << 10)
	c.Close()
	wg.Wait()
	wantStats(t, c, 0, 0, 0)
}

func BenchmarkGet(b *testing.B) {
	const n = 1 << 10
	c := near.New(64<<20, func(string, *[100]byte) uint32 { return 100 })
	defer c.Close()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("GET\x00https\x00example.com\x00/products/%d?page=1", i)
		c.Set(keys[i], new([100]byte))
	}
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := c.Get(keys[i%n]); !ok {
				b.Fatal("a key is missing")
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				c.Get(keys[i%n])
			}
		})
	})
	b.Run("full", func(b *testing.B) {
		full := near.New(n*50, func(string, *[100]byte) uint32 { return 100 })
		defer full.Close()
		for _, key := range keys {
			full.Set(key, new([100]byte))
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			full.Get(keys[i%n])
		}
	})
}

// BenchmarkEntries is a lookup in caches of many entries, each time of another.
func BenchmarkEntries(b *testing.B) {
	for name, n := range map[string]int{"1k": 1e3, "10k": 1e4, "100k": 1e5, "1M": 1e6} {
		b.Run("entries="+name, func(b *testing.B) {
			c := near.New(1<<40, func(string, *[100]byte) uint32 { return 100 })
			defer c.Close()
			keys, v := make([]string, n), new([100]byte)
			for i := range keys {
				keys[i] = fmt.Sprintf("https://example.com/products/%d?page=1", i)
				c.Set(keys[i], v)
			}
			i := 0
			for b.Loop() {
				i = (i + 7919) % n // a prime, so that no two in a row share memory
				if _, ok := c.Get(keys[i]); !ok {
					b.Fatal("a key is missing")
				}
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	c := near.New(1<<20, func(string, *[100]byte) uint32 { return 100 })
	defer c.Close()
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	v := new([100]byte)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Set(keys[i%len(keys)], v)
	}
}
