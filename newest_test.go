package fluster

import (
	"hash/maphash"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestNewest: what was received before the newest answer that was served is older,
// until that lies on its node and a while has passed; an answer that was received
// before does not settle it.
func TestNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newest{seed: maphash.MakeSeed()}
		want := func(when string, received int64, older bool) {
			t.Helper()
			if got := n.isOlder("k", received, 0); got != older {
				t.Errorf("%s: what was received at %d is older: got %t, want %t", when, received, got, older)
			}
		}
		want("at first", 1, false)
		n.served("k", 100, 0, false, time.Now())
		want("when it was served", 99, true)
		want("when it was served", 100, false)
		if n.isOlder("other", 1, 0) {
			t.Error("another key's answer is older")
		}
		n.served("k", 90, 0, false, time.Now()) // a late one
		want("after a late answer", 99, true)
		n.stored("k", 90, time.Now())
		time.Sleep(2 * settleFor)
		n.served("x", 1, 0, false, time.Now())
		want("when an older answer is stored", 99, true)
		n.stored("k", 100, time.Now())
		want("just when it is stored", 99, true)
		time.Sleep(settleFor / 2)
		n.served("k", 200, 0, false, time.Now()) // again, before the note is forgotten
		time.Sleep(settleFor)
		n.served("x", 2, 0, false, time.Now())
		want("a while after an older one was stored", 199, true)
		n.stored("k", 200, time.Now())
		time.Sleep(settleFor + time.Second)
		n.stored("x", 2, time.Now())
		want("a while after it was stored", 1, false)
		if got := n.count.Load(); got != 1 {
			t.Errorf("%d notes are left, want that of x", got)
		}
	})
}

// TestNewestThatWasSeen: where it is known that nothing older lies on the node, an
// older answer counts as such for a while, in which somebody may yet store it; the
// same one never does.
func TestNewestThatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newest{seed: maphash.MakeSeed()}
		one, two := n.etagHash(`"1"`), n.etagHash(`"2"`)
		if n.etagHash(`W/"1"`) != 0 || n.etagHash("") != 0 || one == two {
			t.Fatal("entity tags are told apart wrongly")
		}
		n.served("k", 100, two, true, time.Now())
		time.Sleep(storeWithin)
		for etag, want := range map[uint64]bool{0: true, one: true, two: false} {
			if got := n.isOlder("k", 99, etag); got != want {
				t.Errorf("etag %d: older: got %t, want %t", etag, got, want)
			}
		}
		time.Sleep(settleFor)
		n.served("x", 1, 0, true, time.Now())
		if n.isOlder("k", 1, one) || n.count.Load() != 1 {
			t.Error("it still counts, long after")
		}
		n.served("y", 100, two, false, time.Now())
		n.served("y", 101, two, true, time.Now()) // which settles nothing
		time.Sleep(2 * settleFor)
		n.served("x", 2, 0, true, time.Now())
		if !n.isOlder("y", 100, one) {
			t.Error("what was not seen once is forgotten")
		}
	})
}

// TestClockSetBack: what was noted before the clock was set back gives way: a note to
// the next answer, or to the next one that lies on its node, and what was to wait does
// not wait as long as the clock was set back by.
func TestClockSetBack(t *testing.T) {
	before := time.Now()
	back := before.Add(-time.Hour)
	n := newest{seed: maphash.MakeSeed()}
	for _, key := range []string{"served", "stored"} {
		n.served(key, before.UnixMilli(), 0, false, before)
	}
	n.served("served", back.UnixMilli(), 0, false, back)
	if n.isOlder("served", back.UnixMilli(), 0) || !n.isOlder("served", back.UnixMilli()-1, 0) {
		t.Error("what is older is told by another answer than the last one")
	}
	n.stored("stored", back.UnixMilli(), back)
	if !n.notes[n.hash("stored")].settled {
		t.Error("the answer lies on its node, and is not settled")
	}
	if m := (mark{until: before.Add(aloneFor).UnixMilli()}); !m.isBelieved(before) || m.isBelieved(back) {
		t.Error("a mark is to be believed when it is made, and not long before")
	}
	r := new(replicas)
	if r.lag(before); r.areAwaited(before) || !r.areAwaited(back) {
		t.Error("replicas that lag are to be spared when they do, and not long before")
	}
}

// TestNewestIsBounded: when there is no room, it says so and begins anew.
func TestNewestIsBounded(t *testing.T) {
	n := newest{seed: maphash.MakeSeed()}
	for i := range maxNewest {
		if !n.served(strconv.Itoa(i), 1, 0, false, time.Now()) {
			t.Fatalf("no room for note %d", i)
		}
	}
	if n.served("one more", 1, 0, false, time.Now()) {
		t.Error("there is room for more than the bound")
	}
	if n.count.Load() != 0 || n.isOlder("0", 0, 0) {
		t.Error("notes are left")
	}
	if !n.served("then", 1, 0, false, time.Now()) || !n.isOlder("then", 0, 0) {
		t.Error("it does not begin anew")
	}
}
