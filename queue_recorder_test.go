package fluster

import (
	"net/http"
	"testing"
)

// TestRecorder: the final head alone counts, as it was when it was written, and
// a body is kept whole or not at all.
func TestRecorder(t *testing.T) {
	w := newRecorder(4)
	w.Header().Set("Link", "early")
	w.WriteHeader(http.StatusEarlyHints)
	if w.status != 0 {
		t.Errorf("after 103 the status is %d", w.status)
	}
	w.Header().Set("X-A", "1")
	w.Write([]byte("ab"))
	w.Header().Set("X-A", "2")
	w.WriteHeader(500)
	if w.status != 200 || w.kept.Get("X-A") != "1" {
		t.Errorf("got %d with X-A %q, want 200 with 1", w.status, w.kept.Get("X-A"))
	}
	w.Write([]byte("cd"))
	if b, ok := w.whole(); string(b) != "abcd" || !ok {
		t.Errorf("the body is %q, %v", b, ok)
	}
	w.Write([]byte("e"))
	w.Write([]byte("f"))
	if b, ok := w.whole(); b != nil || ok {
		t.Errorf("a body that is too long is %q, %v", b, ok)
	}
	if w.size != 6 {
		t.Errorf("the size is %d, want 6", w.size)
	}
	w = newRecorder(4)
	w.WriteHeader(http.StatusSwitchingProtocols)
	if w.status != 101 {
		t.Errorf("a switch of protocols counts as %d", w.status)
	}
	w = newRecorder(4)
	if http.NewResponseController(w).Flush() != nil || w.status != 200 {
		t.Error("it cannot be flushed")
	}
}
