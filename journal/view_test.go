package journal

import (
	"fmt"
	"testing"
	"time"
)

func begin(nonce uint64) Entry {
	return Entry{Record: Record{Target: Target{Kind: Begin}}, Seq: 1, Nonce: nonce}
}

// tagged is an entry that invalidates the tag x, written after the one before.
func tagged(seq, nonce uint64) Entry {
	return Entry{Record: Record{ID: fmt.Sprintf("r%d-%d", seq, nonce), Target: Target{Kind: Tag, Value: "x"}}, Seq: seq, Nonce: nonce, After: 100 + seq - 1}
}

// load reads a new journal of one entry, inc 1.
func load(t *testing.T, v *View, sent time.Time) {
	t.Helper()
	if got := v.Advance(0, Head{1, 1, 101}, []Entry{begin(101)}, sent); got != Proven {
		t.Fatalf("loading: got %v", got)
	}
}

func loadedView(t *testing.T, b *Book) *View {
	t.Helper()
	v := b.AddNode("a")
	load(t, v, at(0))
	if !v.Use() {
		t.Fatal("a loaded node is not used")
	}
	return v
}

// The steps all begin with a node that is up at 1:3:103, known from seq 1.
func TestViewRules(t *testing.T) {
	x := NewSelectors("https://e/", []string{"x"})
	observe := func(h Head, ok bool, d time.Duration) func(*View) any {
		return func(v *View) any { return v.Observe(h, ok, at(d)) }
	}
	advance := func(from uint64, h Head, entries ...Entry) func(*View) any {
		return func(v *View) any { return v.Advance(from, h, entries, at(0)) }
	}
	heard := func(inc uint64, e Entry) func(*View) any { return func(v *View) any { return v.Heard(inc, e) } }
	node := func(s Stamp) func(*View) any { return func(v *View) any { return v.ValidNode(s, &x) } }
	state := func(v *View) any { return v.State() }
	near := func(v *View) any { got, _ := v.book.ValidNear(2, &x); return got }
	owes := func(v *View) any { return v.Owes() }
	type step struct {
		do   func(*View) any
		want any
	}
	e4 := tagged(4, 104)
	stray := tagged(4, 104)
	stray.After = 999
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"same head", []step{{observe(Head{1, 3, 103}, true, 0), Proven}}},
		{"higher head", []step{{observe(Head{1, 4, 104}, true, 0), Behind}, {node(Stamp{1, 3, 103}), Valid},
			{advance(3, Head{1, 4, 104}, tagged(3, 103), e4), Proven}, {node(Stamp{1, 3, 103}), Dead}, {node(Stamp{1, 4, 104}), Valid}}},
		{"more pages", []step{{advance(3, Head{1, 5, 105}, tagged(3, 103), e4), Behind},
			{advance(4, Head{1, 5, 105}, e4, tagged(5, 105)), Proven}}},
		{"stamp of another history", []step{{node(Stamp{1, 3, 999}), Dead}, {node(Stamp{2, 3, 103}), Dead}, {node(Stamp{}), Dead}}},
		{"no head", []step{{near, Valid}, {observe(Head{}, false, 0), Forked}, {state, Syncing}, {near, Dead}}},
		{"other inc", []step{{observe(Head{2, 3, 103}, true, 0), Forked}}},
		{"other nonce", []step{{observe(Head{1, 3, 999}, true, 0), Forked}}},
		{"late answer", []step{{observe(Head{1, 2, 102}, true, Lease/4), Proven}}},
		{"entries lost", []step{{observe(Head{1, 2, 102}, true, Lease/2), Behind},
			{advance(3, Head{1, 2, 102}), Forked}, {owes, 2}}},
		{"our entry is trimmed", []step{{advance(3, Head{1, 9, 109}, tagged(8, 108), tagged(9, 109)), Forked}}},
		{"our entry is another", []step{{advance(3, Head{1, 4, 104}, tagged(3, 999), e4), Forked}}},
		{"gap", []step{{advance(3, Head{1, 5, 105}, tagged(3, 103), tagged(5, 105)), Forked}}},
		{"emptied", []step{{advance(3, Head{1, 3, 103}), Proven}, {owes, 0}, {node(Stamp{1, 3, 103}), Valid}, {near, Valid}}},
		{"newest lost", []step{{advance(3, Head{1, 4, 104}, tagged(3, 103)), Forked}}},
		{"read meanwhile", []step{{heard(1, e4), true}, {advance(3, Head{1, 5, 105}, tagged(3, 103), e4, tagged(5, 105)), Proven}}},
		{"loaded anew", []step{{observe(Head{}, false, 0), Forked}, {advance(0, Head{2, 1, 7}, begin(7)), Proven}, {state, Up},
			{owes, 2}, {node(Stamp{2, 1, 7}), Dead}}},
		{"begun without its beginning", []step{{observe(Head{}, false, 0), Forked},
			{advance(0, Head{1, 6, 106}, tagged(5, 105), tagged(6, 106)), Proven}, {node(Stamp{1, 4, 104}), Dead}}},
		{"head alone", []step{{observe(Head{}, false, 0), Forked}, {advance(0, Head{1, 6, 106}), Proven}, {state, Up},
			{advance(6, Head{1, 7, 107}, tagged(7, 107)), Forked}}},
		{"late page", []step{{advance(0, Head{2, 1, 7}, begin(7)), Behind}}},
		{"heard next", []step{{heard(1, e4), true}, {heard(1, e4), true}, {owes, 0}, {node(Stamp{1, 3, 103}), Dead}}},
		{"heard after another", []step{{heard(1, stray), false}, {near, Dead}, {owes, 1}}},
		{"heard too early", []step{{heard(1, tagged(5, 105)), false}, {owes, 1}, {node(Stamp{1, 3, 103}), Dead}}},
		{"heard of another inc", []step{{heard(2, e4), false}, {owes, 1}}},
		{"penalized", []step{{func(v *View) any { v.Penalize(); return nil }, nil}, {node(Stamp{1, 3, 103}), Dead},
			{func(v *View) any { _, ok := v.Stamp(at(0)); return ok }, false}, {func(v *View) any { return v.Use() }, true}}},
		{"stamp", []step{{func(v *View) any { s, _ := v.Stamp(at(0)); return s }, Head{1, 3, 103}},
			{func(v *View) any { _, ok := v.Stamp(at(Lease)); return ok }, false}}},
		{"holds", []step{{heard(1, stray), false}, {func(v *View) any { v.Holds(Head{1, 9, 9}, v.Owed(9)); return v.Owes() }, 1},
			{func(v *View) any { v.Holds(Head{1, 3, 103}, v.Owed(9)); return v.Owes() }, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := loadedView(t, NewBook(Options{}, at(0)))
			advance(1, Head{1, 3, 103}, begin(101), tagged(2, 102), tagged(3, 103))(v)
			for i, s := range c.steps {
				if got := s.do(v); got != s.want {
					t.Fatalf("step %d: got %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

// What the log has given up is owed as one record `all`, and once.
func TestLostRecordsAreOwedAsAll(t *testing.T) {
	b := NewBook(Options{MaxRecords: 4}, at(0))
	for i := range 20 {
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)}))
	}
	v := loadedView(t, b)
	count := func() (all int) {
		for _, r := range v.Owed(100) {
			if r.Target.Kind == All {
				all++
			}
		}
		return all
	}
	sel := NewSelectors("https://e/", nil)
	if got := v.ValidNode(Stamp{1, 1, 101}, &sel); count() != 1 || got != Dead {
		t.Errorf("got %d records all, a response is %v", count(), got)
	}
	b.AddNode("c")
	load(t, b.AddNode("c"), at(0))
	if got := count(); got != 1 {
		t.Errorf("after another node: got %d records all", got)
	}
}

// What is owed to a node is never more than the log holds, and an empty node
// that comes back after many invalidations can be used.
func TestEmptyNodeAfterManyRecords(t *testing.T) {
	b := NewBook(Options{MaxRecords: 100}, at(0))
	for i := range 80 {
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)}))
	}
	if v := loadedView(t, b); v.Owes() != 80 {
		t.Errorf("got %d owed, want 80", v.Owes())
	}
}

// A node in use that is owed too much to count is not believed, until it is
// owed so little that what that selects can be told.
func TestOwedTooMuchToCount(t *testing.T) {
	b := NewBook(Options{maxNamed: 10}, at(0))
	v := loadedView(t, b)
	x := NewSelectors("https://e/", []string{"x"})
	stamp := v.Head()
	want := func(what string, want Validity) {
		t.Helper()
		if got := v.ValidNode(stamp, &x); got != want {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
	}
	for i := range 10 {
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)}))
		want("owed others", Valid)
	}
	b.Learn(b.NewRecord(Target{Kind: Tag, Value: "10"}))
	want("owed too much", Dead)
	for v.Owes() > 6 {
		v.Holds(v.Head(), v.Owed(1))
		want("owed too much still", Dead)
	}
	v.Holds(v.Head(), v.Owed(1))
	want("owed less", Valid)
	b.Learn(b.NewRecord(Target{Kind: Tag, Value: "x"}))
	b.Learn(b.NewRecord(Target{Kind: Tag, Value: "x"}))
	want("owed its own", Dead)
	v.Holds(v.Head(), v.Owed(6))
	want("owed one of its own", Dead)
	v.Holds(v.Head(), v.Owed(1))
	if got := v.Owes(); got != 0 {
		t.Errorf("owed %d", got)
	}
	want("owed nothing", Valid)
}
