package fluster

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestCredentialsMarkTheirOwn: that a response was not shared for the credentials of its
// request keeps those without from sharing theirs as little as it makes those with some
// wait; until a response may be stored.
func TestCredentialsMarkTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := embedded(t, new(Cache))
		var asked atomic.Int32
		goOn := make(chan struct{})
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			asked.Add(1)
			<-goOn
			w.Header().Set("Cache-Control", "max-age=60")
			_, err := io.WriteString(w, "page")
			return err
		})
		var wg sync.WaitGroup
		ask := func(fields ...string) {
			wg.Go(func() {
				w, r := httptest.NewRecorder(), request(t, "/", fields...)
				if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil || w.Body.String() != "page" {
					t.Errorf("%q: got %q, %v", fields, w.Body, err)
				}
			})
			synctest.Wait()
		}
		wantAsked := func(when string, want int32) {
			t.Helper()
			if n := asked.Load(); n != want {
				t.Errorf("%s: %d forwards, want %d", when, n, want)
			}
		}
		marked := func(fields ...string) bool {
			x := &exchange{Cache: h, r: request(t, "/", fields...), now: time.Now()}
			x.names, _ = h.Key.name(x.r)
			return x.isAlone()
		}
		ask("Authorization", "a")
		ask("Authorization", "b")
		ask()
		wantAsked("while the first is under way", 1)
		first := goOn
		goOn = make(chan struct{})
		close(first)
		synctest.Wait()
		wantAsked("when the first has ended", 3)
		for range 3 {
			ask()
		}
		wantAsked("more without credentials", 3)
		ask("Authorization", "c")
		wantAsked("one more with credentials", 4)
		if !marked("Authorization", "a") || marked() {
			t.Errorf("marked with credentials: %v, without: %v, want the first alone", marked("Authorization", "a"), marked())
		}
		close(goOn)
		wg.Wait()
		if marked("Authorization", "a") {
			t.Error("with credentials it is marked when a response was stored")
		}
	})
}

// TestMarksAtOnce: what a mark remembers of what was served stays when the key is marked
// anew at that time.
func TestMarksAtOnce(t *testing.T) {
	h := embedded(t, new(Cache))
	x := func() *exchange { return &exchange{Cache: h, names: names{key: "key"}, alone: true} }
	x().markAlone(time.Now().Add(aloneFor), everybody)
	for sent := range int64(2000) {
		var wg sync.WaitGroup
		wg.Go(func() { x().markAlone(time.Now().Add(aloneFor), everybody) })
		wg.Go(func() { x().servedAlone(sent+1, 0) })
		wg.Wait()
		if m, _ := h.pool.alone.Get("key"); m.last.sent != sent+1 {
			t.Fatalf("the mark remembers what was sent at %d, want %d", m.last.sent, sent+1)
		}
	}
}
