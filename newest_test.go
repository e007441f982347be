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
			if got := n.isOlder("k", received); got != older {
				t.Errorf("%s: what was received at %d is older: got %t, want %t", when, received, got, older)
			}
		}
		want("at first", 1, false)
		n.served("k", 100, time.Now())
		want("when it was served", 99, true)
		want("when it was served", 100, false)
		if n.isOlder("other", 1) {
			t.Error("another key's answer is older")
		}
		n.served("k", 90, time.Now()) // a late one
		want("after a late answer", 99, true)
		n.stored("k", 90, time.Now())
		time.Sleep(2 * settleFor)
		n.served("x", 1, time.Now())
		want("when an older answer is stored", 99, true)
		n.stored("k", 100, time.Now())
		want("just when it is stored", 99, true)
		time.Sleep(settleFor / 2)
		n.served("k", 200, time.Now()) // again, before the note is forgotten
		time.Sleep(settleFor)
		n.served("x", 2, time.Now())
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

// TestNewestIsBounded: when there is no room, it says so and begins anew.
func TestNewestIsBounded(t *testing.T) {
	n := newest{seed: maphash.MakeSeed()}
	for i := range maxNewest {
		if !n.served(strconv.Itoa(i), 1, time.Now()) {
			t.Fatalf("no room for note %d", i)
		}
	}
	if n.served("one more", 1, time.Now()) {
		t.Error("there is room for more than the bound")
	}
	if n.count.Load() != 0 || n.isOlder("0", 0) {
		t.Error("notes are left")
	}
	if !n.served("then", 1, time.Now()) || !n.isOlder("then", 0) {
		t.Error("it does not begin anew")
	}
}
