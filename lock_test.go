package fluster

import "testing"

// TestWaits: news of a lock reach all who wait for it, and nobody else.
func TestWaits(t *testing.T) {
	var w waits
	a, endA := w.add("a")
	second, endSecond := w.add("a")
	b, endB := w.add("b")
	w.heard("stored a")
	w.heard("lost a") // who has not listened yet hears the first
	for _, news := range []chan outcome{a, second} {
		select {
		case o := <-news:
			if o != wasStored {
				t.Errorf("heard %q, want stored", o)
			}
		default:
			t.Error("one who waits heard nothing")
		}
	}
	select {
	case o := <-b:
		t.Errorf("one who waits for another lock heard %q", o)
	default:
	}
	endA()
	endSecond()
	endB()
	w.heard("stored a")
	w.heard("no key")
	if len(w.open) > 0 {
		t.Errorf("%d locks are waited for by nobody", len(w.open))
	}
}
