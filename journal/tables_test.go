package journal

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// at is the simulated time of the unit tests.
func at(d time.Duration) time.Time { return time.Unix(1e9, 0).Add(d) }

func TestMarksRefuseWhatTheyForgot(t *testing.T) {
	m := newMarks(8)
	for i := range uint64(20) {
		m.set(sum(i), i+1)
		for j := range i + 1 {
			if got := m.last(sum(j)); got < j+1 {
				t.Fatalf("after %d targets, target %d was last seen at %d, want %d or later", i+1, j, got, j+1)
			}
		}
	}
	if m.len() > 8 || m.last(999) == 0 || m.seen(999) != 0 {
		t.Errorf("got %d targets, floor %d, seen %d; want at most 8, a floor, 0", m.len(), m.last(999), m.seen(999))
	}
}

func TestMarksKeepTheirGenerationForKnownTargets(t *testing.T) {
	m := newMarks(4)
	for i := range uint64(100) {
		m.set(sum(i%2), i+1)
	}
	if got := m.last(7); got != 0 {
		t.Errorf("two targets over and over raised the floor to %d", got)
	}
}

// Prefixes of more lengths than are told apart still select what they selected.
func TestPrefixesBeyondTheBound(t *testing.T) {
	b := NewBook(Options{}, at(0))
	for i := maxPrefixLengths + 40; i > 0; i-- {
		b.Learn(b.NewRecord(Target{Kind: Prefix, Value: "//" + strings.Repeat("a", i)}))
	}
	n := b.Learnt()
	for i, p := range []string{"//" + strings.Repeat("a", 300), "https://e/", "", "/"} {
		url := "https:" + p
		if !strings.HasPrefix(p, "//") {
			url = "https://e/"
		}
		sel := NewSelectors(url, nil)
		b.Learn(b.NewRecord(Target{Kind: Prefix, Value: p}))
		if got, _ := b.ValidNear(n, &sel); got != Dead {
			t.Errorf("%d: %q is %v after prefix %q", i, url, got, p)
		}
	}
	sel := NewSelectors("http:"+"//"+strings.Repeat("a", 290), nil)
	if got, _ := b.ValidNear(0, &sel); got != Dead {
		t.Error("a prefix that was learnt first is forgotten")
	}
	if got := len(b.prefixes.lengths); got > maxPrefixLengths+1 {
		t.Errorf("got %d lengths, want at most %d", got, maxPrefixLengths+1)
	}
}

func TestRecordLog(t *testing.T) {
	l := newRecordLog(4)
	var dropped []string
	for i := range uint64(9) {
		for _, r := range l.add(Record{ID: fmt.Sprint(i)}, i+1) {
			dropped = append(dropped, r.ID)
		}
		if i == 2 {
			l.remove("1")
		}
	}
	if got := strings.Join(dropped, ","); got != "0,,2,3,4,5" {
		t.Errorf("dropped %q", got)
	}
	if n, ok := l.learn("8"); !ok || n != 9 || len(l.records) > 4 || !l.dropped {
		t.Errorf("got %d, %v, %d records", n, ok, len(l.records))
	}
	if _, ok := l.learn("1"); ok {
		t.Error("a removed record is known")
	}
	l = newRecordLog(1000)
	for i := range uint64(3) {
		l.add(Record{ID: fmt.Sprint(i), Target: Target{Value: strings.Repeat("x", maxLogBytes/2+1)}}, i)
	}
	if len(l.records) != 2 {
		t.Errorf("got %d records of half the bytes, want 2", len(l.records))
	}
}

func TestLearntSinceIsNotFooledByTheFloor(t *testing.T) {
	b := NewBook(Options{MaxTargets: 4}, at(0))
	heard := Target{Kind: Tag, Value: "heard"}
	n := b.Learn(b.NewRecord(heard))
	for i := range 20 {
		b.Learn(b.NewRecord(Target{Kind: Tag, Value: fmt.Sprint(i)}))
	}
	if b.LearntSince(heard, n) {
		t.Error("a record is covered by none")
	}
}

func TestLease(t *testing.T) {
	b := NewBook(Options{MaxBlind: time.Minute}, at(0))
	want := func(what string, d time.Duration, want bool) {
		t.Helper()
		if got := b.Leased(at(d)); got != want {
			t.Errorf("%s, at %v: leased is %v, want %v", what, d, got, want)
		}
	}
	want("no node", time.Hour, true)
	a, c := b.AddNode("a"), b.AddNode("c")
	want("none tried", 0, false)
	a.Penalize()
	want("one not tried", 0, false)
	c.Penalize()
	want("all away since the start", time.Minute-1, true)
	want("too long", time.Minute, false)
	load(t, a, at(0))
	a.Use()
	want("one up", Lease-1, true)
	want("not proven", Lease, false)
	a.Observe(a.Head(), true, at(2*time.Second))
	want("proven again", 2*time.Second+Lease-1, true)
	load(t, c, at(time.Second))
	c.Use()
	want("the other is older", 2*time.Second, false)
	c.Penalize()
	want("the other is away", 2*time.Second, true)
	a.Penalize()
	want("blind", 62*time.Second-1, true)
	want("too long blind", 62*time.Second, false)
	b.SetMaxBlind(-1)
	want("blind for ever", time.Hour, true)
}

func TestUntilGoesByEitherClock(t *testing.T) {
	u := newUntil(time.Now(), time.Second)
	u.wall = time.Now().UnixNano() - 1 // the machine was suspended
	if !u.passed(time.Now()) {
		t.Error("an instant that the wall clock has passed counts")
	}
}

func TestEar(t *testing.T) {
	var early, late, later Ear
	if early.Message() != "" {
		t.Error("a message has a name before an entry was heard")
	}
	early.Entry(7)
	late.Entry(7)
	one := early.Message()
	if got := late.Message(); got != one {
		t.Errorf("one message has the names %q and %q", one, got)
	}
	if later.Message() != "" {
		t.Error("one who came later names it")
	}
	if two := early.Message(); two == one {
		t.Error("two messages have one name")
	}
	early.Entry(8)
	if early.Message() == one {
		t.Error("two messages have one name")
	}
}
