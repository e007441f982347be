package fluster

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// slowWriter is a client that takes a block in each interval, or none if that is 0.
type slowWriter struct {
	*httptest.ResponseRecorder
	every time.Duration
	stop  chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.every == 0 {
		<-w.stop
		return 0, errNobodyWants
	}
	time.Sleep(w.every)
	return w.ResponseRecorder.Write(p)
}

// TestPace is the rules of a body that passes by without chunks: how long the
// forward takes, and who is sent away.
func TestPace(t *testing.T) {
	const length = 8 << 20
	block := bytes.Repeat([]byte("x"), blockSize)
	tests := []struct {
		name  string
		etag  string
		every []time.Duration // of each client; 0 takes nothing
		most  time.Duration
		want  []bodyEnd
	}{
		{"all fast", "", []time.Duration{1, 1, 1}, time.Second, []bodyEnd{atEnd, atEnd, atEnd}},
		{"a lone slow one", `"a"`, []time.Duration{time.Second}, 257 * time.Second, []bodyEnd{atEnd}},
		{"a slow one, who cannot go on alone", `W/"a"`, []time.Duration{1, time.Second}, 257 * time.Second, []bodyEnd{atEnd, atEnd}},
		{"a slow one, who can", `"a"`, []time.Duration{1, time.Second}, 20 * time.Second, []bodyEnd{atEnd, lost}},
		{"one that takes nothing", "", []time.Duration{1, 0}, 12 * time.Second, []bodyEnd{atEnd, gone}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := &flights{open: map[string]*flight{}}
				f, _ := fs.join("key")
				head := newEntry(&stored.Response{Status: 200, Header: []stored.Field{{Name: "Etag", Value: tt.etag}}}, 0)
				f.passBy()
				f.share(head, 0, length)
				stop := make(chan struct{})
				ends := make([]chan bodyEnd, len(tt.every))
				for i, every := range tt.every {
					x := &exchange{w: &slowWriter{httptest.NewRecorder(), every, stop}, r: httptest.NewRequest(http.MethodGet, "/", nil)}
					f.mu.Lock()
					f.followLocked(x, 0)
					f.mu.Unlock()
					ends[i] = make(chan bodyEnd, 1)
					go func() {
						_, end := x.takeBody(f, x.w, 0)
						f.leave(x)
						ends[i] <- end
					}()
				}
				start := time.Now()
				for range length / blockSize {
					f.add(block, 0)
					if held := fs.recorded.Load(); held > behind+3*blockSize {
						t.Fatalf("%d bytes are held, want at most %d", held, behind+3*blockSize)
					}
				}
				took := time.Since(start)
				f.settle(whole)
				close(stop)
				for i, end := range ends {
					if got := <-end; got != tt.want[i] {
						t.Errorf("client %d: its response ended as %d, want %d", i, got, tt.want[i])
					}
				}
				if f.end(); took > tt.most {
					t.Errorf("the forward took %s, want at most %s", took, tt.most)
				}
				if held := fs.recorded.Load(); held != 0 {
					t.Errorf("%d bytes are held when all is over", held)
				}
			})
		})
	}
}
