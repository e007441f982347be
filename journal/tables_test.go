package journal

import (
	"strings"
	"testing"
	"time"
)

// at is the simulated time of the unit tests.
func at(d time.Duration) time.Time { return time.Unix(1e9, 0).Add(d) }

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

// TestHeardRecords: records of one message have one id everywhere; those of what is
// called the same elsewhere, or means something else there, have another.
func TestHeardRecords(t *testing.T) {
	id := func(name string, targets ...Target) string {
		records := NewBook(Options{}, at(0)).HeardRecords(name, targets)
		return records[len(records)-1].ID
	}
	tag, soft, url := Target{Kind: Tag, Value: "a"}, Target{Kind: Tag, Value: "a", Soft: true}, Target{Kind: URL, Value: "a"}
	want := id("x.1", tag)
	if got := id("x.1", tag); got != want {
		t.Errorf("one message has the ids %q and %q", want, got)
	}
	for _, got := range []string{id("x.2", tag), id("x.1", soft), id("x.1", url), id("x.1", tag, tag), id("", tag), id("", tag)} {
		if got == want || len(got) > maxID {
			t.Errorf("another record has the id %q, want none of %q and %d bytes at most", got, want, maxID)
		}
	}
}
