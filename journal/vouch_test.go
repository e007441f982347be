package journal

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// trimmed reads a journal whose beginning is lost, inc 2, of the entries 5 and 6.
func trimmed(t *testing.T, v *View) {
	t.Helper()
	if got := v.Advance(0, Head{2, 6, 106}, []Entry{tagged(5, 105), tagged(6, 106)}, at(0)); got != Proven {
		t.Fatalf("loading: got %v", got)
	}
	v.Use()
}

// take appends what the node is owed, and returns how many of these were of the kind.
func take(t testing.TB, v *View, kind Kind) (n int) {
	t.Helper()
	for owed := v.Owed(100); len(owed) > 0; owed = v.Owed(100) {
		for _, r := range owed {
			if !r.fits() {
				t.Fatalf("%v does not fit", r)
			}
			if r.Target.Kind == kind {
				n++
			}
			h := v.Head()
			if !v.Heard(h.Inc, Entry{Record: r, Seq: h.Seq + 1, Nonce: h.Seq + 101, After: h.Nonce}) {
				t.Fatalf("%v is not taken", r)
			}
		}
	}
	return n
}

// What lies on a node that may lack what another journal has lost is refused, also
// when its journal has what is left of that one; and what was stored later is not.
func TestSuspectNode(t *testing.T) {
	if testSuspectNode(t, 0) != Dead || testSuspectNode(t, ruleSuspectNear) != Valid {
		t.Error("what was read there before that was known is served, or is not without the rule")
	}
}

func testSuspectNode(t *testing.T, without rules) (near Validity) {
	b := NewBook(Options{}, at(0))
	b.without = without
	a := loadedView(t, b)
	before := a.Head()
	sel := NewSelectors("https://e/", []string{"y"})
	if got := a.ValidNode(before, &sel); got != Valid {
		t.Fatalf("before: got %v", got)
	}
	o := b.AddNode("b")
	if got := o.Advance(0, Head{2, 6, 106}, []Entry{tagged(5, 105)}, at(0)); got != Behind {
		t.Fatalf("got %v", got)
	}
	n := b.Learnt()
	if got := a.ValidNode(before, &sel); got != Valid {
		t.Errorf("while the other journal is read: got %v", got)
	}
	o.Advance(5, Head{2, 6, 106}, []Entry{tagged(5, 105), tagged(6, 106)}, at(0))
	near, _ = b.ValidNear(n, &sel)
	if got := a.ValidNode(before, &sel); got != Dead || a.Owes() != 3 {
		t.Errorf("a suspect node: got %v, owed %d", got, a.Owes())
	}
	if got := take(t, a, Flush); got != 1 {
		t.Errorf("got %d flushes", got)
	}
	if old, now := a.ValidNode(before, &sel), a.ValidNode(a.Head(), &sel); old != Dead || now != Valid || a.Owes() != 0 {
		t.Errorf("after a flush: got %v for what was there, %v for what is new, owed %d", old, now, a.Owes())
	}
	return near
}

// What was copied from a node goes when somebody else has declared dead what lies
// there: the journal that has lost something may be one that is not reached here.
func TestFlushOfAnother(t *testing.T) {
	b := NewBook(Options{}, at(0))
	a := loadedView(t, b)
	n, sel := b.Learnt(), NewSelectors("https://e/", nil)
	h := a.Head()
	flush := Record{"w2-1", Target{Kind: Flush, Value: "0000000000000001:1:0000000000000065"}}
	if !a.Heard(h.Inc, Entry{Record: flush, Seq: h.Seq + 1, Nonce: h.Seq + 101, After: h.Nonce}) {
		t.Fatal("it is not taken")
	}
	if got, _ := b.ValidNear(n, &sel); got != Dead {
		t.Errorf("in the near cache: got %v", got)
	}
	if got, _ := b.ValidNear(b.Learnt(), &sel); got != Valid {
		t.Errorf("fetched since: got %v", got)
	}
}

// A process believes what a journal vouches for the history of it that was known, and
// for positions of the other that are still there; and a flush.
func TestVouch(t *testing.T) {
	own, other := "0000000000000001:1:0000000000000065", "0000000000000002:6:000000000000006a"
	for _, c := range []struct {
		name, value string
		kind        Kind
		suspect     bool
	}{
		{"nothing", "", Mark, true},
		{"its own history", own + " " + other, Mark, false},
		{"another history of it", "0000000000000001:1:0000000000000066 " + other, Mark, true},
		{"another history of the other", own + " 0000000000000002:6:000000000000006b", Mark, true},
		{"what the other has lost", own + " 0000000000000002:4:0000000000000068", Mark, true},
		{"garbage", own + " \xff : 7 " + other, Mark, false},
		{"a flush", "0000000000000001:1:0000000000000066 " + other, Flush, false},
		{"a flush for nothing", "", Flush, true},
	} {
		if got := flushed(t, c.kind, c.value, 0); got != c.suspect {
			t.Errorf("%s: suspect %v", c.name, got)
		}
	}
	if flushed(t, Mark, strings.Replace(own, "65", "66", 1)+" "+other, ruleOwnHistory) {
		t.Error("without the rule on its own history: suspect")
	}
}

// flushed reports whether a node is flushed whose journal has a record of this kind,
// beside another one that has lost its beginning.
func flushed(t *testing.T, kind Kind, value string, without rules) bool {
	b := NewBook(Options{}, at(0))
	b.without = without
	a := b.AddNode("a")
	r := Entry{Record: Record{"w-1", Target{Kind: kind, Value: value}}, Seq: 2, Nonce: 102}
	a.Advance(0, Head{1, 2, 102}, []Entry{begin(101), r}, at(0))
	trimmed(t, b.AddNode("b"))
	return take(t, a, Flush) > 0
}

// A journal vouches for the others while its node is owed nothing that they have.
func TestVouchWhileOwed(t *testing.T) {
	if vouchesWhileOwed(t, 0) || !vouchesWhileOwed(t, ruleVouchPaid) {
		t.Error("it vouches for what it may lack, or does not without the rule")
	}
}

func vouchesWhileOwed(t *testing.T, without rules) (early bool) {
	b := NewBook(Options{vouchEvery: 3}, at(0))
	b.without = without
	a, o := loadedView(t, b), b.AddNode("b")
	load(t, o, at(0))
	for i := range 3 {
		r := b.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)})
		b.Learn(r)
		h := o.Head()
		o.Heard(h.Inc, Entry{Record: r, Seq: h.Seq + 1, Nonce: h.Seq + 101, After: h.Nonce})
	}
	a.Observe(a.Head(), true, at(Lease))
	for _, r := range a.Owed(9) {
		if r.Target.Kind == Mark {
			early = true
		}
	}
	if got := take(t, a, Mark); got != 1 {
		t.Errorf("it vouched %d times", got)
	}
	return early
}

// With the 64 buckets of a Redis Cluster it takes several records, once.
func TestVouchForManyNodes(t *testing.T) {
	b := NewBook(Options{}, at(0))
	a := loadedView(t, b)
	for i := range 63 {
		v := b.AddNode(fmt.Sprint(i))
		inc, first := uint64(10+i), uint64(1)<<52
		v.Advance(0, Head{inc, first, 7}, []Entry{{Record: Record{"w-1", Target{Kind: All}}, Seq: first, Nonce: 7}}, at(0))
	}
	if got := take(t, a, Flush); got != 4 {
		t.Errorf("got %d flushes, want 4", got)
	}
	if got := a.ValidNode(a.Head(), &Selectors{}); got != Valid {
		t.Errorf("what is stored then: got %v", got)
	}
}

// BenchmarkWeigh: while the 64 buckets of a Redis Cluster are to vouch anew, each proof of
// each weighs all that was vouched for before; and lookups wait for that.
func BenchmarkWeigh(b *testing.B) {
	book := NewBook(Options{vouchEvery: 3}, at(0))
	var views []*View
	for i := range 64 {
		v := book.AddNode(fmt.Sprint(i))
		v.Advance(0, Head{uint64(10 + i), 1, 101}, []Entry{begin(101)}, at(0))
		v.Use()
		views = append(views, v)
	}
	for round := range 6 {
		for i := range 300 {
			r := book.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)})
			for _, v := range views {
				h := v.Head()
				v.Heard(h.Inc, Entry{Record: r, Seq: h.Seq + 1, Nonce: h.Seq + 101, After: h.Nonce})
			}
		}
		for _, v := range views {
			if v.Observe(v.Head(), true, at(time.Duration(round+1)*Lease)); round < 5 && take(b, v, Mark) == 0 {
				b.Fatal("a journal does not vouch")
			}
		}
	}
	i := 0
	for b.Loop() {
		i++
		views[0].Observe(views[0].Head(), true, at(time.Duration(i+10)*Lease))
	}
}
