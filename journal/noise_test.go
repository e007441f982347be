package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// entryFields are those of a good entry; noise changes some of them.
func entryFields(more ...string) map[string]string {
	m := map[string]string{"i": "w-1", "n": "00000000000000a1", "k": "t", "v": "x"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestParseEntry(t *testing.T) {
	long := strings.Repeat("x", maxValue+1)
	tag := func(v string) Target { return Target{Kind: Tag, Value: v} }
	for _, c := range []struct {
		name, id string
		fields   map[string]string
		want     *Target // nil: foreign
	}{
		{"tag", "7-0", entryFields(), new(tag("x"))},
		{"soft", "7-0", entryFields("k", "~t"), &Target{Kind: Tag, Value: "x", Soft: true}},
		{"other fields beside", "7-0", entryFields("z", "more"), new(tag("x"))},
		{"not UTF-8", "7-0", entryFields("v", "\xff\x00\n"), new(tag("\xff\x00\n"))},
		{"all", "7-0", entryFields("k", "a", "v", ""), &Target{Kind: All}},
		{"begin", "1-0", entryFields("k", "b", "v", "", "i", ""), &Target{Kind: Begin}},
		{"highest seq", "9007199254740991-0", entryFields(), new(tag("x"))},
		{"a kind of a later version", "7-0", entryFields("k", "z"), &Target{Kind: All}},
		{"a soft kind of a later version", "7-0", entryFields("k", "~z"), &Target{Kind: All}},
		{"long URL", "7-0", entryFields("k", "u", "v", long), &Target{Kind: Prefix, Value: long[:maxValue]}},
		{"long prefix", "7-0", entryFields("k", "p", "v", long), &Target{Kind: Prefix, Value: long[:maxValue]}},

		{"long tag", "7-0", entryFields("v", long), nil},
		{"giant host", "7-0", entryFields("k", "h", "v", strings.Repeat("h", 1<<20)), nil},
		{"long id", "7-0", entryFields("i", strings.Repeat("w", maxID+1)), nil},
		{"no id", "7-0", entryFields("i", ""), nil},
		{"id of two words", "7-0", entryFields("i", "w 1"), nil},
		{"other fields", "7-0", map[string]string{"temperature": "21"}, nil},
		{"no nonce", "7-0", entryFields("n", ""), nil},
		{"nonce zero", "7-0", entryFields("n", "0000000000000000"), nil},
		{"nonce of other digits", "7-0", entryFields("n", "nonsense"), nil},
		{"long nonce", "7-0", entryFields("n", "100000000000000a1"), nil},
		{"no kind", "7-0", entryFields("k", ""), nil},
		{"kind of two letters", "7-0", entryFields("k", "tt"), nil},
		{"kind that is no letter", "7-0", entryFields("k", "\x00"), nil},
		{"an id that time made", "1795316546627-3", entryFields(), nil},
		{"seq zero", "0-0", entryFields(), nil},
		{"seq beyond 2^53", "9007199254740992-0", entryFields(), nil},
		{"seq near 2^63", "9223372036854775807-0", entryFields(), nil},
		{"seq near 2^64", "18446744073709551615-0", entryFields(), nil},
		{"seq below zero", "-1-0", entryFields(), nil},
		{"no seq", "", entryFields(), nil},
	} {
		e, err := ParseEntry(c.id, func(name string) string { return c.fields[name] })
		switch {
		case c.want == nil && !errors.Is(err, ErrForeign):
			t.Errorf("%s: got %+v, %v, want ErrForeign", c.name, e, err)
		case c.want != nil && (err != nil || e.Target != *c.want):
			t.Errorf("%s: got %.100v, %v, want %.100v", c.name, e.Target, err, *c.want)
		}
	}
}

func TestParseNews(t *testing.T) {
	const good = "3 00000000000000a1:7:00000000000000b1 00000000000000c1 w-1 ~t two words"
	want := News{3, 0xa1, Entry{Record: Record{"w-1", Target{Tag, "two words", true}}, Seq: 7, Nonce: 0xb1, After: 0xc1}}
	if got, ok := ParseNews(good); !ok || got != want {
		t.Errorf("ParseNews(%q): got %+v, %v, want %+v", good, got, ok, want)
	}
	for _, s := range []string{
		"", " ", "tag x", "\xff", strings.Repeat(" ", 9), strings.TrimPrefix(good, "3 "),
		strings.Replace(good, "3 ", "three ", 1), strings.Replace(good, ":7:", ":9223372036854775807:", 1),
		strings.Replace(good, ":7:", ":0:", 1), strings.Replace(good, "b1", "zz", 1), strings.Replace(good, "w-1", "", 1),
		strings.Replace(good, "w-1", strings.Repeat("w", 65), 1), good + strings.Repeat("x", 1024),
		"3 00000000000000a1:7:0000000000000000 00000000000000c1 w-1 t x", "3 00000000000000a1:7:00000000000000b1 00000000000000c1 w-1 t",
	} {
		if got, ok := ParseNews(s); ok {
			t.Errorf("ParseNews(%.100q): got %+v, want it refused", s, got)
		}
	}
}

func FuzzParseNews(f *testing.F) {
	f.Add("3 00000000000000a1:7:00000000000000b1 00000000000000c1 w-1 ~t two words")
	f.Add("0 00000000000000a1:9007199254740991:00000000000000b1 0 - z ")
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseNews(s)
		if ok && (!n.Entry.fits() || n.Entry.ID == "" || n.Inc == 0 || n.Entry.Seq == 0 || n.Entry.Nonce == 0) {
			t.Errorf("ParseNews(%q): got %+v", s, n)
		}
	})
}

// noise makes heads and entries that a journal cannot have, beside those that it may.
type noise struct{ rng *rand.Rand }

func (n noise) seq() uint64 {
	switch n.rng.IntN(8) {
	case 0:
		return 1<<53 - 1 - n.rng.Uint64N(3)
	case 1:
		return 1<<32 - 2 + n.rng.Uint64N(4)
	}
	return 1 + n.rng.Uint64N(12)
}

func (n noise) head() Head {
	return Head{Inc: 1 + n.rng.Uint64N(2), Seq: n.seq(), Nonce: 1 + n.rng.Uint64N(3)}
}

func (n noise) entry(seq uint64) Entry {
	kinds := []Kind{Tag, Tag, Tag, URL, Prefix, Host, All, Begin, Mark, Return, 'z', 0, 0xff}
	e := Entry{Seq: seq, Nonce: 1 + n.rng.Uint64N(3), After: n.rng.Uint64N(4)}
	e.ID = fmt.Sprintf("w-%d", 1+n.rng.IntN(30))
	e.Target = Target{Kind: kinds[n.rng.IntN(len(kinds))], Value: fmt.Sprint(n.rng.IntN(5)), Soft: n.rng.IntN(4) == 0}
	switch n.rng.IntN(20) {
	case 0:
		e.Target.Value = strings.Repeat("\xff", 1+n.rng.IntN(3*maxValue))
	case 1:
		e.ID = strings.Repeat("i", n.rng.IntN(2*maxID))
	}
	return e
}

// Whatever a node answers and tells of: nothing crashes, what is foreign is not
// taken, and what was invalidated here stays so, on every node as well.
func TestNoise(t *testing.T) {
	n := noise{seeded(t)}
	for range 400 {
		b := NewBook(Options{MaxTargets: 4 + n.rng.IntN(30), MaxRecords: 4 + n.rng.IntN(30), maxNamed: n.rng.IntN(6)}, at(0))
		views := []*View{b.AddNode("a"), b.AddNode("b")}
		now := at(0)
		for range 150 {
			v := views[n.rng.IntN(2)]
			now = now.Add(time.Duration(n.rng.IntN(300)) * time.Millisecond)
			switch n.rng.IntN(8) {
			case 0:
				v.Observe(n.head(), n.rng.IntN(9) > 0, now)
			case 1:
				v.Heard(1+n.rng.Uint64N(2), n.entry(n.seq()))
			case 2:
				v.Heard(v.Head().Inc, Entry{Record: n.entry(0).Record, Seq: v.Head().Seq + 1, Nonce: 1 + n.rng.Uint64N(3), After: v.Head().Nonce})
			case 3, 4:
				from := v.From()
				first := from
				if n.rng.IntN(3) == 0 || first == 0 {
					first = n.seq()
				}
				var entries []Entry
				for i := range n.rng.Uint64N(6) {
					entries = append(entries, n.entry(first+i))
				}
				h := n.head()
				if len(entries) > 0 && n.rng.IntN(3) > 0 {
					h.Seq, h.Nonce = entries[len(entries)-1].Seq, entries[len(entries)-1].Nonce
				}
				v.Advance(from, h, entries, now)
			case 5:
				v.Use()
			case 6:
				v.Holds(v.Head(), v.Owed(n.rng.IntN(5)))
			case 7:
				if n.rng.IntN(4) == 0 {
					v.Penalize()
				}
			}
			for _, r := range v.Owed(3) {
				if !r.fits() {
					t.Fatalf("%.100q is to be relayed", r)
				}
			}
			stamp, _ := v.Stamp(now)
			before, tag := b.Learnt(), fmt.Sprint(n.rng.IntN(5))
			sel := NewSelectors("https://e/", []string{tag})
			if n.rng.IntN(3) == 0 {
				b.Learn(b.NewRecord(Target{Kind: Tag, Value: tag}))
				if got, _ := b.ValidNear(before, &sel); got != Dead {
					t.Fatalf("what was fetched before its tag was invalidated is %v", got)
				}
				if got := v.ValidNode(stamp, &sel); got != Dead {
					t.Fatalf("what lies on a node that is owed its record is %v", got)
				}
			}
		}
		if got := int(b.table.used); got > b.table.limit+b.log.max || b.log.len() > b.log.max {
			t.Fatalf("%d rows, %d records; want %d and %d at most", got, b.log.len(), b.table.limit, b.log.max)
		}
	}
}

// Distinct messages at any rate, long or short, with names or without, that no
// node takes: what they leave behind is bounded.
func TestNoiseInBoundedMemory(t *testing.T) {
	measured(t)
	tag := func(b *Book, i int) Record { return b.NewRecord(Target{Kind: Tag, Value: "t" + strconv.Itoa(i)}) }
	for _, c := range []struct {
		name   string
		n      int
		record func(b *Book, i int) Record
	}{
		{"tags", 600_000, tag},
		{"long tags of many writers", 700_000, func(_ *Book, i int) Record {
			value := strings.Repeat("x", 500) + strconv.Itoa(i)
			return Record{ID: fmt.Sprintf("%048d-%d", i%20_000, 1+i), Target: Target{Kind: Tag, Value: value, Soft: i%2 == 0}}
		}},
		{"prefixes of heard messages", 200_000, func(b *Book, i int) Record {
			value := "https://" + strings.Repeat("x", i%1000) + strconv.Itoa(i)
			return b.HeardRecords(strconv.Itoa(i), []Target{{Kind: Prefix, Value: value}})[0]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := heapAlloc()
			b := NewBook(Options{}, at(0))
			v := loadedView(t, b)
			b.AddNode("b")
			b.AddNode("c")
			most := 0
			for i := range c.n {
				b.Learn(c.record(b, i))
				if i%100_000 == 99_999 {
					most = max(most, heapAlloc()-before)
				}
			}
			t.Logf("%.1f MB, by its own count %.1f MB", float64(most)/1e6, float64(b.Memory())/1e6)
			if most > memoryBound {
				t.Errorf("took %d bytes, want %d at most", most, memoryBound)
			}
			sel := NewSelectors("https://e/", []string{"unknown"})
			if got := v.ValidNode(v.Head(), &sel); got != Dead {
				t.Errorf("a response on a node that is owed more than can be told is %v", got)
			}
			runtime.KeepAlive(b)
		})
	}
}

// Messages that mean nothing leave nothing behind.
func TestNonsense(t *testing.T) {
	rng := seeded(t)
	before := heapAlloc()
	var ear Ear
	ear.Entry(7)
	for i := range 100_000 {
		b := make([]byte, rng.IntN(60))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		if targets, err := ParseMessage(strconv.Itoa(i) + string(b)); err == nil {
			t.Fatalf("%d%q means %v", i, b, targets)
		}
		ear.Message()
	}
	if took := heapAlloc() - before; took > 1<<20 {
		t.Errorf("they left %d bytes behind", took)
	}
}
