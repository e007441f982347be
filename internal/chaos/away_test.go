package chaos

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A versioned is a page of which a test makes new versions, on two nodes.
type versioned struct {
	t       *testing.T
	c       *caddytest.Caddy
	o       *caddytest.Origin
	servers []*redistest.Server
	urls    []string
	newest  int
}

func newVersioned(t *testing.T) *versioned {
	v := &versioned{t: t, o: caddytest.NewOrigin(t, plain)}
	v.servers, v.urls = startNodes(t, 2)
	v.publish(1)
	v.c = caddytest.Load(t, v.global(v.urls), v.site())
	v.c.WaitUp(2)
	return v
}

func (v *versioned) global(urls []string) string {
	return "fluster {\nnear off\npenalty 50ms 200ms\nnodes " + strings.Join(urls, " ") + "\n}"
}

func (v *versioned) site() string { return "fluster_cache\n" + v.o.Behind() }

// publish makes version n the one that the origin has.
func (v *versioned) publish(n int) {
	v.newest = n
	v.o.Handle(caddytest.Answer(200, fmt.Sprint("version ", n), "Cache-Control", "max-age=600", "Etag", fmt.Sprintf(`"%d"`, n)))
}

// wantNewest wants the newest version, and it stored on a node.
func (v *versioned) wantNewest(when string) {
	v.t.Helper()
	want := fmt.Sprint("version ", v.newest)
	if r := v.c.Get("/page"); string(r.Body) != want {
		v.t.Fatalf("C4: %s: got %s, want %s", when, r, want)
	}
	caddytest.Eventually(v.t, "it is stored", func() bool { return v.c.Get("/page").Hit("node") })
}

// home is the number of the node that the page lies on.
func (v *versioned) home() int {
	v.t.Helper()
	for i, s := range v.servers {
		if stored(v.t, s) > 0 {
			return i
		}
	}
	v.t.Fatal("the page lies nowhere")
	return -1
}

// away waits until a node is out of use.
func (v *versioned) away(i int) {
	v.t.Helper()
	v.c.WaitState(string(rune('a'+i)), "penalty")
}

// TestFailedLookup: C4. A lookup times out, which alone penalizes nobody, and the
// origin answers. What lies on the node is no longer fresh then, whether what the
// origin said could be stored in its place or not.
func TestFailedLookup(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%t", stored), func(t *testing.T) {
			v := newVersioned(t)
			v.wantNewest("at the start")
			home := v.servers[v.home()].Client(t)
			if !stored {
				v.newest = 2
				v.o.Handle(caddytest.Answer(200, "version 2", "Cache-Control", "no-store"))
			} else {
				v.publish(2)
			}
			if err := home.Do(t.Context(), "client", "pause", 150, "all").Err(); err != nil {
				t.Fatal(err)
			}
			if r := v.c.Get("/page"); string(r.Body) != "version 2" || r.Hit("") {
				t.Fatalf("while its node stands still: got %s, want version 2 from the origin", r)
			}
			home.Ping(t.Context()) // which is answered when the pause is over
			for range 5 {
				if r := v.c.Get("/page"); string(r.Body) != "version 2" {
					t.Fatalf("C4: when its node goes on: got %s, want version 2 as before", r)
				}
			}
			if stored {
				v.wantNewest("then")
			}
		})
	}
}

// TestVaryAppears: C4. As TestFailedLookup, where the newer version is the only one
// that varies, or varies by something else, and is not stored either.
func TestVaryAppears(t *testing.T) {
	for _, before := range []string{"", "Accept"} {
		t.Run("Vary before: "+before, func(t *testing.T) {
			v := newVersioned(t)
			v.o.Handle(caddytest.Answer(200, "version 1", "Cache-Control", "max-age=600", "Vary", before))
			v.wantNewest("at the start")
			home := v.servers[v.home()].Client(t)
			v.newest = 2
			v.o.Handle(caddytest.Answer(200, "version 2", "Cache-Control", "max-age=600", "Vary", "Accept-Language"))
			if err := home.Do(t.Context(), "client", "pause", 230, "all").Err(); err != nil {
				t.Fatal(err)
			}
			if r := v.c.Get("/page"); string(r.Body) != "version 2" || r.Hit("") {
				t.Fatalf("while its node stands still: got %s, want version 2 from the origin", r)
			}
			home.Ping(t.Context()) // which is answered when the pause is over
			for range 5 {
				if r := v.c.Get("/page"); string(r.Body) != "version 2" {
					t.Fatalf("C4: when its node goes on: got %s, want version 2 as before", r)
				}
			}
			v.wantNewest("then")
		})
	}
}

// TestSlowWhenOneLeaves: a node that is slow for a moment just when another one
// goes out of use stands in for that all the same, without a forward each time.
func TestSlowWhenOneLeaves(t *testing.T) {
	v := newVersioned(t)
	v.wantNewest("at the start")
	home := v.home()
	other := v.servers[1-home].Client(t)
	if err := other.Do(t.Context(), "client", "pause", 150, "all").Err(); err != nil {
		t.Fatal(err)
	}
	v.servers[home].Kill()
	v.c.Get("/page")
	v.away(home)
	other.Ping(t.Context()) // which is answered when the pause is over
	v.c.WaitUp(1)
	v.wantNewest("while its node is away")
}

// TestAwayTwice: C4. What was stored on another node during an outage is no
// longer fresh in the next one, when the page was served anew in between.
func TestAwayTwice(t *testing.T) {
	v := newVersioned(t)
	v.wantNewest("at the start")
	home := v.home()
	v.servers[home].Kill()
	v.away(home)
	v.wantNewest("in the first outage")

	v.servers[home].Restart()
	v.c.WaitUp(2)
	v.publish(2)
	v.wantNewest("when its node is back, empty")

	v.servers[home].Kill()
	v.away(home)
	v.wantNewest("in the second outage")
}

// TestAnotherTime: C4. Other data take the place of a node's, and the old ones come
// back, and no command fails meanwhile. Whoever sees it first, a request or the keeper:
// what lies there is validated, also where another Caddy has fetched the newer one.
func TestAnotherTime(t *testing.T) {
	v := newVersioned(t)
	v.wantNewest("at the start")
	before := v.c.Metric("caddy_fluster_journal_forks_total")
	home := v.servers[v.home()].Client(t)
	swap := func() {
		t.Helper()
		if err := home.Do(t.Context(), "swapdb", 0, 1).Err(); err != nil {
			t.Fatal(err)
		}
		for i := range 10 { // the first request that sees it has a miss, whatever lies there
			caddytest.Eventually(t, "another page is stored", func() bool { return v.c.Get(fmt.Sprint("/page/", i)).Hit("node") })
		}
	}
	another := caddytest.Start(t, v.global(v.urls), v.site())
	another.WaitUp(2)
	swap()
	v.publish(2)
	caddytest.Eventually(t, "another Caddy has stored it", func() bool { return another.Get("/page").Hit("node") })
	v.wantNewest("with other data")
	swap()
	v.wantNewest("with the old data")
	if n := v.c.Metric("caddy_fluster_journal_forks_total") - before; n != 2 {
		t.Errorf("the journal was another one %v times, want 2", n)
	}
}

// TestTakenOutAndBack: C4. What lay on a node that a reload took out is not
// fresh when another one brings it back.
func TestTakenOutAndBack(t *testing.T) {
	v := newVersioned(t)
	v.wantNewest("at the start")
	home := v.home()
	v.c.Reload(v.global([]string{v.urls[1-home]}), v.site())
	v.c.WaitUp(1)
	v.publish(2)
	v.wantNewest("without its node")

	v.c.Reload(v.global(v.urls), v.site())
	v.c.WaitUp(2)
	v.wantNewest("with its node again")
}

// TestBroughtIn: C4. What was stored on another node before a reload brought
// the page's own node in is not fresh when that one is taken out again.
func TestBroughtIn(t *testing.T) {
	v := newVersioned(t)
	v.wantNewest("at the start")
	home := v.home()
	v.c.Reload(v.global([]string{v.urls[1-home]}), v.site())
	v.c.WaitUp(1)
	v.wantNewest("without its node")
	if err := v.servers[home].Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	v.c.Reload(v.global(v.urls), v.site())
	v.c.WaitUp(2)
	v.publish(2)
	v.wantNewest("with its node again")

	v.c.Reload(v.global([]string{v.urls[1-home]}), v.site())
	v.c.WaitUp(1)
	v.wantNewest("without it again")
}
