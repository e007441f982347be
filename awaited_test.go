package fluster

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestAwaitedBody: of a body that the near cache is too small for, memory holds all as
// it comes where others wait for it and it is not too long, so that who is slow holds up
// nobody; else a little.
func TestAwaitedBody(t *testing.T) {
	tests := []struct {
		name    string
		size    int64
		waiters int
		most    int64         // held in memory at one time
		within  time.Duration // the fast ones have it
	}{
		{"awaited", awaitedBody, 2, awaitedBody, 2 * time.Second}, // that the leader takes by itself
		{"awaited, too long", awaitedBody + 1, 2, behind + 3*longBlock, time.Hour},
		{"not awaited", awaitedBody, 0, longBlock, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := embedded(t, new(Cache))
				h.pool.near.Load().SetMaximum(0)
				recorded, most := &h.pool.flights.recorded, int64(0)
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					time.Sleep(time.Second)
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Content-Length", itoa(tt.size))
					for left := tt.size; left > 0; left -= blockSize {
						if _, err := w.Write(make([]byte, min(left, blockSize))); err != nil {
							return err
						}
						most = max(most, recorded.Load())
					}
					return nil
				})
				ask := func(w http.ResponseWriter, got *httptest.ResponseRecorder) {
					if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(request(t, "/"), caddy.NewReplacer(), w, nil), next); err != nil {
						t.Error(err)
					}
					if n := int64(got.Body.Len()); n != tt.size {
						t.Errorf("got %d bytes, want %d", n, tt.size)
					}
				}
				var wg sync.WaitGroup
				start := time.Now()
				wg.Go(func() {
					w := httptest.NewRecorder()
					ask(&slowWriter{w, time.Second, nil}, w)
				})
				synctest.Wait()
				for range tt.waiters {
					wg.Go(func() {
						w := httptest.NewRecorder()
						ask(w, w)
						if took := time.Since(start) - time.Second; took > tt.within {
							t.Errorf("who is fast has waited for %v, want at most %v", took, tt.within)
						}
					})
				}
				wg.Wait()
				if most > tt.most {
					t.Errorf("%d bytes were held, want at most %d", most, tt.most)
				}
				if held := recorded.Load(); held != 0 {
					t.Errorf("%d bytes are held when all is over", held)
				}
			})
		})
	}
}
