package fluster

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// embedded returns a cache without a node, before next.
func embedded(t *testing.T, h *Cache) *Cache {
	t.Helper()
	p, err := newPool("", PoolConfig{}, caddy.NewReplacer(), zap.NewNop(), func(string, map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() { p.stop(); p.close() })
	h.pool, h.maxBody, h.logger = p, defaultMaxBody, zap.NewNop()
	if err := h.provisionPolicy(); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestLeaderAfterWaiting: who has waited for another's forward in vain, and leads then,
// looks at what was stored meanwhile as it is by then.
func TestLeaderAfterWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := embedded(t, &Cache{ClientDirectives: "honor"})
		var asked atomic.Int32
		goOn := make(chan struct{})
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			switch asked.Add(1) {
			case 1:
				<-goOn
				w.Header().Set("Cache-Control", "max-age=60") // but not for those without credentials
			case 2:
				w.Header().Set("Cache-Control", "max-age=1")
			}
			_, err := w.Write([]byte{byte('0' + asked.Load())})
			return err
		})
		ask := func(fields ...string) string {
			w, r := httptest.NewRecorder(), request(t, "/", fields...)
			if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
				return err.Error()
			}
			return w.Body.String() + " " + w.Header().Get("Cache-Status")
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask("Authorization", "a") })
		synctest.Wait()
		wg.Go(func() {
			if got := ask(); !strings.HasPrefix(got, "3 ") {
				t.Errorf("who has waited: got %q, want what the origin sends by now", got)
			}
		})
		synctest.Wait()
		if got := ask("Cache-Control", "no-cache"); !strings.HasPrefix(got, "2 ") || !strings.Contains(got, "stored") {
			t.Errorf("who does not share: got %q, want it stored", got)
		}
		time.Sleep(5 * time.Second)
		close(goOn)
		wg.Wait()
	})
}

// TestReleasedAtOnce: who has waited for a response that is not for others forwards for
// itself and waits for nobody else, but for credentials that it has not.
func TestReleasedAtOnce(t *testing.T) {
	const waiters = 5
	answer := func(status int, cacheControl string) caddyhttp.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", cacheControl)
			w.WriteHeader(status)
			return nil
		}
	}
	for name, test := range map[string]struct {
		origin  caddyhttp.HandlerFunc
		leader  []string
		waiter  []string
		at      int32 // how many forwards there are once the first has ended
		forward int32 // and in all
	}{
		"private":          {answer(200, "private"), nil, nil, 1 + waiters, 1 + waiters},
		"failure":          {answer(503, ""), nil, nil, 1 + waiters, 1 + waiters},
		"no answer":        {func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, nil) }, nil, nil, 1 + waiters, 1 + waiters},
		"credentials":      {answer(200, "max-age=60"), []string{"Authorization", "a"}, nil, 2, 2},
		"more credentials": {answer(200, "max-age=60"), []string{"Authorization", "a"}, []string{"Authorization", "b"}, 1 + waiters, 1 + waiters},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := embedded(t, new(Cache))
				var asked atomic.Int32
				first, rest := make(chan struct{}), make(chan struct{})
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
					if asked.Add(1) == 1 {
						<-first
					} else {
						<-rest
					}
					return test.origin(w, r)
				})
				ask := func(fields []string) {
					w, r := httptest.NewRecorder(), request(t, "/", fields...)
					h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next) //nolint:errcheck // the origin's own
				}
				var wg sync.WaitGroup
				wg.Go(func() { ask(test.leader) })
				synctest.Wait()
				for range waiters {
					wg.Go(func() { ask(test.waiter) })
				}
				synctest.Wait()
				if n := asked.Load(); n != 1 {
					t.Errorf("%d forwards while the first is under way, want it alone", n)
				}
				close(first)
				synctest.Wait()
				if n := asked.Load(); n != test.at {
					t.Errorf("%d forwards when the first has ended, want %d", n, test.at)
				}
				close(rest)
				wg.Wait()
				if n := asked.Load(); n != test.forward {
					t.Errorf("%d forwards in all, want %d", n, test.forward)
				}
			})
		})
	}
}

// TestLeadersThatGoAway: however many leaders go away before they have asked the
// origin, those who wait share one forward.
func TestLeadersThatGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := embedded(t, new(Cache))
		fs := &h.pool.flights
		name, _ := h.Key.name(request(t, "/"))
		lead := func() *flight { // in place of who leads now, if anybody does
			f := fs.solo()
			f.key = name.key
			f.isOpen.Store(true)
			fs.mu.Lock()
			defer fs.mu.Unlock()
			fs.open[f.key] = f
			return f
		}
		var asked atomic.Int32
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			asked.Add(1)
			w.Header().Set("Cache-Control", "max-age=60")
			return nil
		})
		leader := lead()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				w, r := httptest.NewRecorder(), request(t, "/")
				if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next); err != nil {
					t.Error(err)
				}
			})
		}
		for range 6 {
			synctest.Wait()
			before := leader
			leader = lead()
			before.abandon()
		}
		synctest.Wait()
		if n := asked.Load(); n != 0 {
			t.Errorf("%d forwards while somebody leads, want none", n)
		}
		leader.abandon()
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("%d forwards, want one for all", n)
		}
	})
}

// TestBeginningOfWhatPassesBy: who has waited for the head of a long body finds its
// beginning, however fast that comes and whether or not anybody else takes it.
func TestBeginningOfWhatPassesBy(t *testing.T) {
	const waiters, size = 3, 9 << 20
	for name, gone := range map[string]bool{"the leader is there": false, "the leader has gone": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := embedded(t, new(Cache))
				h.maxBody = 1 << 30
				var asked atomic.Int32
				goOn := make(chan struct{})
				next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					first := asked.Add(1) == 1
					<-goOn
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Content-Length", itoa(size))
					part := make([]byte, 32<<10)
					for range size / len(part) {
						if _, err := w.Write(part); err != nil || !first {
							return err
						}
					}
					return nil
				})
				ask := func(ctx context.Context) {
					w, r := httptest.NewRecorder(), request(t, "/").WithContext(ctx)
					h.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil), next) //nolint:errcheck // one has gone
					if ctx.Err() == nil && w.Body.Len() != size && asked.Load() == 1 {
						t.Errorf("got %d bytes, want %d", w.Body.Len(), size)
					}
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				var wg sync.WaitGroup
				wg.Go(func() { ask(ctx) })
				synctest.Wait()
				for range waiters {
					wg.Go(func() { ask(t.Context()) })
				}
				synctest.Wait()
				if gone {
					leave()
					time.Sleep(time.Second)
				}
				close(goOn)
				wg.Wait()
				if n := asked.Load(); n != 1 {
					t.Errorf("%d forwards, want one", n)
				}
			})
		})
	}
}

// brittle is a client's writer that panics.
type brittle struct{ *httptest.ResponseRecorder }

func (brittle) Write([]byte) (int, error) { panic("brittle") }

// TestWriterThatPanics: a writer before the cache that panics ends its own request,
// as it does everywhere, and not the process; it is stored all the same.
func TestWriterThatPanics(t *testing.T) {
	h := embedded(t, new(Cache))
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		for range 4 {
			if _, err := w.Write(make([]byte, 40<<10)); err != nil {
				return err
			}
		}
		return nil
	})
	ask := func(w http.ResponseWriter) (panicked any) {
		defer func() { panicked = recover() }()
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(request(t, "/"), caddy.NewReplacer(), w, nil), next); err != nil {
			t.Error(err)
		}
		return nil
	}
	if got := ask(brittle{httptest.NewRecorder()}); got != "brittle" {
		t.Errorf("the request ended with the panic %v, want that of its writer", got)
	}
	w := httptest.NewRecorder()
	if got := ask(w); got != nil || w.Body.Len() != 160<<10 || !strings.Contains(w.Header().Get("Cache-Status"), "hit") {
		t.Errorf("the next one: panic %v, %d bytes [%s], want a hit", got, w.Body.Len(), w.Header().Get("Cache-Status"))
	}
}
