package fluster

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestFailureThatTakesLong: what may be served in place of a failure is judged when the
// origin has failed, and says the age that it has by then.
func TestFailureThatTakesLong(t *testing.T) {
	for name, tt := range map[string]struct {
		window time.Duration
		status int
		age    string
	}{"too long": {10 * time.Second, 503, ""}, "not too long": {time.Minute, 200, "25"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, &Cache{StaleIfError: caddy.Duration(tt.window)})
				s.answers("page", "Cache-Control", "max-age=1")
				s.want("page", "fwd=uri-miss", "/")
				time.Sleep(5 * time.Second)
				s.origin = func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(20 * time.Second)
					answer(503, "failed")(w, r)
				}
				if w := s.do(http.MethodGet, "/"); w.Code != tt.status || w.Header().Get("Age") != tt.age {
					t.Errorf("got %d with Age %q, want %d and %q", w.Code, w.Header().Get("Age"), tt.status, tt.age)
				}
			})
		})
	}
}

// TestAgeAfterWaiting: who has waited for another's forward is told the age that the
// response has when it comes.
func TestAgeAfterWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, new(Cache))
		s.origin = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Second)
			answer(200, "page", "Cache-Control", "max-age=600", "Etag", `"1"`, "Age", "100", "Date", time.Now().UTC().Format(http.TimeFormat))(w, r)
		}
		var wg sync.WaitGroup
		wg.Go(func() { s.want("page", "fwd=uri-miss", "/") })
		synctest.Wait()
		if h := s.want("page", "fwd=uri-miss; fwd-status=200; collapsed", "/"); h.Get("Age") != "110" { // RFC 9111, Section 4.2.3: with the delay
			t.Errorf("Age: got %q, want 110", h.Get("Age"))
		}
		wg.Wait()
		if w := s.do(http.MethodGet, "/c", "If-None-Match", `"1"`); w.Code != 304 || w.Header().Get("Age") != "110" {
			t.Errorf("who has it already: got %d with Age %q, want 304 and 110", w.Code, w.Header().Get("Age"))
		}
	})
}

// TestSlowerAndOlder: a response whose body takes long does not take the place of one
// that was asked for when its head was there already.
func TestSlowerAndOlder(t *testing.T) {
	short, long, vary := []string{"Cache-Control", "max-age=5"}, []string{"Cache-Control", "max-age=500"}, []string{"Vary", "Accept"}
	for name, tt := range map[string]struct {
		old, new []string // headers
		fields   []string // of the request for the new one
	}{
		"as it is stale by then":        {old: short},
		"as a client asks for it":       {old: long, fields: []string{"Cache-Control", "no-cache"}},
		"of variants":                   {old: slices.Concat(long, vary), new: vary, fields: []string{"Cache-Control", "no-cache"}},
		"it varies, the newer does not": {old: slices.Concat(long, vary), fields: []string{"Cache-Control", "no-cache"}},
		"the newer varies":              {old: long, new: vary, fields: []string{"Cache-Control", "no-cache"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, &Cache{ClientDirectives: "honor"})
				s.origin = func(w http.ResponseWriter, r *http.Request) {
					answer(200, "o", tt.old...)(w, r)
					time.Sleep(time.Minute)
					w.Write([]byte("ld")) //nolint:errcheck // a recorder
				}
				var wg sync.WaitGroup
				wg.Go(func() { s.want("old", "fwd=uri-miss", "/") })
				time.Sleep(10 * time.Second)
				synctest.Wait()
				s.answers("new", append(tt.new, "Cache-Control", "max-age=600")...)
				s.want("new", "fwd=uri-miss", "/", tt.fields...)
				s.want("new", "hit", "/")
				wg.Wait()
				s.want("new", "hit", "/")
			})
		})
	}
}
