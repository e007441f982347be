package fluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestInvalidationTrimmed: C3. A node that was away while something was
// invalidated does not bring it back, although the other node's journal tells
// nothing of it any more and all Caddys have started anew. What that costs is
// lost once, not at each start.
func TestInvalidationTrimmed(t *testing.T) {
	for i, c := range []struct {
		name string
		trim []any
	}{
		{"to nothing", []any{"xtrim", "{fluster:0}:j", "maxlen", "0"}},
		{"to a few", []any{"xtrim", "{fluster:0}:j", "maxlen", "3"}},
		{"away", []any{"del", "{fluster:0}:j"}},
	} {
		near := []string{"near 1MiB", "near off"}[i%2]
		t.Run(near+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			testInvalidationTrimmed(t, near, c.trim)
		})
	}
}

func testInvalidationTrimmed(t *testing.T, near string, trim []any) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2, near, "penalty 100ms 300ms")
	away, stays := servers[0], servers[1]
	here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	here.WaitUp(2)
	other.WaitUp(2)
	old := map[string]bool{}
	var paths []string
	for i := range 8 { // on either node
		path := fmt.Sprintf("/%d?tags=x", i)
		paths = append(paths, path)
		old[string(wantHit(t, here, "", path).Body)] = true
	}
	away.Save()
	away.Kill()
	for _, tag := range []string{"x", "u", "v", "w"} {
		caddytest.Eventually(t, "the invalidation is acknowledged", func() bool {
			return here.Invalidate(`{"tag":["`+tag+`"]}`).Status == http.StatusOK
		})
	}
	here.Kill()
	other.Kill()
	if err := stays.Client(t).Do(t.Context(), trim...).Err(); err != nil {
		t.Fatal(err)
	}
	away.RestartWithData()

	for range 2 {
		c := caddytest.Start(t, global, cached(o))
		for begun := time.Now(); time.Since(begun) < time.Second; pause(20 * time.Millisecond) {
			for _, path := range paths {
				if r := c.Get(path); r.Err != nil || old[string(r.Body)] {
					t.Fatalf("%s: got %s", path, r)
				}
			}
		}
		c.WaitUp(2)
		for _, path := range paths {
			wantHit(t, c, "", path)
		}
		c.Kill()
	}
	before := [2]int{flushes(t, away), flushes(t, stays)}
	for range 2 {
		asked := o.Count()
		c := caddytest.Start(t, global, cached(o))
		c.WaitUp(2)
		for _, path := range paths {
			wantHit(t, c, "", path)
		}
		if got := o.Count(); got != asked {
			t.Errorf("the origin was asked %d times after another start", got-asked)
		}
		c.Kill()
	}
	if after := [2]int{flushes(t, away), flushes(t, stays)}; after != before || after[0] == 0 {
		t.Errorf("the journals have %v flushes after further starts, want %v", after, before)
	}
}

// flushes counts how often what lies on the node was declared dead.
func flushes(t *testing.T, s *redistest.Server) int {
	return records(t, s, func(kind, _ string) bool { return kind == "f" })
}

// vouches counts how often the journal vouches for others.
func vouches(t *testing.T, s *redistest.Server) int {
	return records(t, s, func(kind, value string) bool { return kind == "m" && value != "" })
}

// records counts those in the node's journal of which is says true.
func records(t *testing.T, s *redistest.Server, is func(kind, value string) bool) (n int) {
	t.Helper()
	client := s.Client(t)
	defer client.Close()
	entries, err := client.XRange(t.Context(), "{fluster:0}:j", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		kind, _ := e.Values["k"].(string)
		value, _ := e.Values["v"].(string)
		if is(kind, value) {
			n++
		}
	}
	return n
}

// TestJournalTrimmedByLength: what a journal loses by its length costs nothing at
// the next start, as the others have vouched for it.
func TestJournalTrimmedByLength(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 3, "near off")
	here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	here.WaitUp(3)
	other.WaitUp(3)
	for i := range 100 {
		var tags []string
		for k := range 100 {
			tags = append(tags, fmt.Sprintf(`"t%d-%d"`, i, k))
		}
		if r := here.Invalidate(`{"tag":[` + strings.Join(tags, ",") + `]}`); r.Status != http.StatusOK {
			t.Fatalf("got %s", r)
		}
	}
	var paths []string
	for i := range 8 { // on any node
		path := fmt.Sprintf("/%d?tags=x", i)
		paths = append(paths, path)
		wantHit(t, here, "", path)
	}
	for _, s := range servers {
		caddytest.Eventually(t, "its journal vouches for the others", func() bool { return vouches(t, s) > 0 })
		if err := s.Client(t).XTrimMaxLen(t.Context(), "{fluster:0}:j", 8000).Err(); err != nil {
			t.Fatal(err)
		}
	}
	here.Kill()
	other.Kill()
	asked := o.Count()
	c := caddytest.Start(t, global, cached(o))
	c.WaitUp(3)
	for _, path := range paths {
		wantHit(t, c, "", path)
	}
	if got := o.Count(); got != asked {
		t.Errorf("the origin was asked %d times after a start", got-asked)
	}
	for _, s := range servers {
		if f, v := flushes(t, s), vouches(t, s); f > 0 || v > 8 {
			t.Errorf("a journal has %d flushes, and vouches %d times", f, v)
		}
	}
}

// TestInvalidationTrimmedPassedOn: a Caddy that does not reach the node which knew of
// the invalidation gives up what it has copied from the other one, too.
func TestInvalidationTrimmedPassedOn(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2, "near 1MiB", "penalty 100ms 300ms")
	away, stays := servers[0], servers[1]
	here := caddytest.Start(t, global, cached(o))
	here.WaitUp(2)
	var paths []string
	for i := range 16 { // on either node
		paths = append(paths, fmt.Sprintf("/%d", i))
		wantHit(t, here, "", paths[i])
	}
	away.Save()
	away.Kill()
	caddytest.Eventually(t, "the invalidation is acknowledged", func() bool {
		return here.Invalidate(`{"all":true}`).Status == http.StatusOK
	})
	here.Kill()
	if err := stays.Client(t).Do(t.Context(), "xtrim", "{fluster:0}:j", "maxlen", "0").Err(); err != nil {
		t.Fatal(err)
	}
	away.RestartWithData()

	cut := caddytest.Start(t, strings.Replace(global, stays.Addr(), "127.0.0.1:1", 1), cached(o))
	cut.WaitUp(1)
	var path, old string
	for _, p := range paths {
		if r := cut.Get(p); r.Hit("") {
			path, old = p, string(r.Body)
		}
	}
	if path == "" {
		t.Fatal("the node that was away has nothing")
	}
	wantHit(t, cut, "near", path)
	caddytest.Start(t, global, cached(o)).WaitUp(2)
	pause(2 * time.Second)
	if r := cut.Get(path); r.Err != nil || string(r.Body) == old {
		t.Errorf("got %s, which was invalidated", r)
	}
}
