package fluster

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestReason: what a server has sent cannot break a log line, nor fill it.
func TestReason(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", `reading from node "a": EOF`, `reading from node "a": EOF`},
		{"letters of any kind", "größer als ≠", "größer als ≠"},
		{"lines and escapes", "a\r\nb\x1b[31m\u202e", `a\u000d\u000ab\u001b[31m\u202e`},
		{"no UTF-8", "a\xff\x80", `a\xff\x80`},
		{"long", strings.Repeat("x", 1<<20), strings.Repeat("x", maxReason) + "…"},
	}
	for _, tt := range tests {
		if got := reasonOf(errors.New(tt.in)); got != tt.want {
			t.Errorf("%s: got %.300q, want %.300q", tt.name, got, tt.want)
		}
	}
}

// TestHistoryIsBounded: the last changes are kept, oldest first.
func TestHistoryIsBounded(t *testing.T) {
	var h history
	for i := range 100 {
		h.add(change{At: time.Unix(int64(i), 0), For: float64(i)})
	}
	got := h.list()
	if len(got) != maxChanges || cap(h.changes) > 4*maxChanges {
		t.Fatalf("%d changes are kept, in room for %d", len(got), cap(h.changes))
	}
	for i, c := range got {
		if want := 100 - maxChanges + i; int(c.For) != want {
			t.Errorf("change %d: got that of %v, want %d", i, c.For, want)
		}
	}
}
