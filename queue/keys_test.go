package queue

import (
	"fmt"
	"strings"
	"testing"
)

// allKeys returns names of all kinds, and what they are for.
func allKeys(k keys, rids, lanes []string) map[string]string {
	out := map[string]string{}
	add := func(what, key string) {
		if was, ok := out[key]; ok {
			out[key] = was + " AND " + what
			return
		}
		out[key] = what
	}
	for what, key := range map[string]string{"delayed": k.delayed(), "dead": k.dead(), "orders": k.orders(), "seconds": k.seconds(),
		"counters": k.counters(), "paused": k.paused(), "bucket": k.bucket(), "lanes": k.lanes(), "incarnation": k.incarnation()} {
		add(what, key)
	}
	for _, lane := range lanes {
		add("stream "+lane, k.stream(lane))
	}
	for _, rid := range rids {
		add("record "+rid, k.record(rid))
		add("second "+rid, k.second(rid))
		add("tombstone "+rid, k.tombstone(rid))
		add("order "+rid, k.order(rid))
		add("dedup "+rid, k.dedup(rid))
		for n := range 3 {
			add(fmt.Sprintf("chunk %s %d", rid, n), k.chunk(rid, n))
		}
	}
	return out
}

func TestKeysAreAllDifferent(t *testing.T) {
	letters := strings.Split("s d x m o k b y n c p g i l", " ")
	rids := append([]string{"", "a:1", "a", "s:s", "a~m", "m/:s", "}", "0", "1:0"}, letters...)
	var lanes []string
	for _, destination := range append([]string{""}, letters...) {
		for _, class := range append([]string{""}, letters...) {
			lanes = append(lanes, lane(destination, class))
		}
	}
	for key, what := range allKeys(newKeys("fluster", "mail", 3), rids, lanes) {
		if strings.Contains(what, " AND ") {
			t.Errorf("%s is the key of %s", key, what)
		}
		if want := "{fluster:q:mail:3}:"; !strings.HasPrefix(key, want) {
			t.Errorf("%s does not begin with %s", key, want)
		}
	}
}

func TestKeysOfTheDocumentedNames(t *testing.T) {
	k := newKeys("fluster", "webhooks", 0)
	if got, want := k.stream(lane("", "")), "{fluster:q:webhooks:0}:s"; got != want {
		t.Errorf("got %s, want %s: other programs use that name", got, want)
	}
	if got, want := k.stream(lane("mail", "")), "{fluster:q:webhooks:0}:mail/:s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLanesAndRecordIDsAreReadAsTheyAreWritten(t *testing.T) {
	for _, destination := range []string{"", "a", "a.b-c_d"} {
		for _, class := range []string{"", "high"} {
			if d, c := splitLane(lane(destination, class)); d != destination || c != class {
				t.Errorf("lane of %q and %q is read as %q and %q", destination, class, d, c)
			}
		}
		if destination == "" {
			continue
		}
		for _, id := range []string{"x", "x~y", "~", "a~a"} {
			if i, d := splitRecordID(recordID(id, destination)); i != id || d != destination {
				t.Errorf("record id of %q and %q is read as %q and %q", id, destination, i, d)
			}
		}
	}
}

func TestKeysOfChunks(t *testing.T) {
	k := newKeys("f", "q", 0)
	for size, want := range map[int64]int{0: 0, 1: 1, chunkSize: 1, chunkSize + 1: 2, 20 << 20: 80} {
		if got := len(k.chunks("id", size)); got != want {
			t.Errorf("%d bytes are in %d chunks, want %d", size, got, want)
		}
	}
}
