package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// stock is how many pages the tests here store.
const stock = 300

// startNodes starts n servers and returns them and their URLs by name.
func startNodes(t *testing.T, n int) (servers []*redistest.Server, urls []string) {
	t.Helper()
	for i := range n {
		s := redistest.Start(t)
		servers, urls = append(servers, s), append(urls, fmt.Sprintf("%s?name=%c", s.URL(), 'a'+i))
	}
	return servers, urls
}

// stored counts the responses on a server.
func stored(t *testing.T, s *redistest.Server) int {
	t.Helper()
	return len(keys(t, s.Client(t), "*:e:*"))
}

func keys(t *testing.T, client *redis.Client, pattern string) []string {
	t.Helper()
	list, err := client.Keys(t.Context(), pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// fill stores all pages, and returns when they lie on the servers.
func fill(t *testing.T, c *caddytest.Caddy, servers []*redistest.Server) {
	t.Helper()
	misses(t, c)
	caddytest.Eventually(t, "all is stored", func() bool {
		n := 0
		for _, s := range servers {
			n += stored(t, s)
		}
		return n == stock
	})
}

// misses asks for all pages and returns how many of them were no hits.
func misses(t *testing.T, c *caddytest.Caddy) (n int) {
	t.Helper()
	for i := range stock {
		r := c.Get(fmt.Sprint("/page/", i))
		if r.Err != nil || r.Status != 200 || string(r.Body) != "page" {
			t.Fatalf("page %d: got %s", i, r)
		}
		if !r.Hit("") {
			n++
		}
	}
	return n
}

// TestWeights: a node of weight 3 has three times the pages of one of weight 1.
func TestWeights(t *testing.T) {
	servers, urls := startNodes(t, 2)
	c := loadWith(t, "nodes "+urls[0]+"&weight=1 "+urls[1]+"&weight=3")
	c.WaitUp(2)
	fill(t, c, servers)
	if n := stored(t, servers[0]); n < stock*17/100 || n > stock*33/100 {
		t.Errorf("the node of weight 1 beside one of 3 has %d of %d pages, want about a quarter", n, stock)
	}
}

// TestMoves: a reload that takes a node out costs the pages that lay on it and
// no other; so does one that adds a node for those that it is to have. Nothing
// fails meanwhile.
func TestMoves(t *testing.T) {
	servers, urls := startNodes(t, 4)
	o := caddytest.NewOrigin(t, plain)
	site := "fluster_cache\n" + o.Behind()
	// A node that is slow for once, as the machine is busy, would sit out and be doubted.
	global := func(urls ...string) string {
		return "fluster {\nnear off\ntimeout 2s\nnodes " + strings.Join(urls, " ") + "\n}"
	}
	c := caddytest.Load(t, global(urls[:3]...), site)
	c.WaitUp(3)
	fill(t, c, servers)
	if n := misses(t, c); n != 0 {
		t.Fatalf("%d misses though nothing has changed", n)
	}

	lost := stored(t, servers[1])
	// Others ask for other pages all the while.
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	for i := range 4 {
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := c.Get(fmt.Sprint("/load/", i, "/", n%20))
				if r.Err != nil || r.Status != 200 || string(r.Body) != "page" {
					t.Errorf("under load: got %s", r)
				}
			}
		})
	}

	c.Reload(global(urls[0], urls[2]), site)
	c.WaitUp(2)
	if n := misses(t, c); n != lost {
		t.Errorf("without node b: %d misses, want the %d pages that lay on it", n, lost)
	}

	c.Reload(global(urls[0], urls[2], urls[3]), site)
	c.WaitUp(3)
	n := misses(t, c)
	caddytest.Eventually(t, "what has moved lies on node d", func() bool { return stored(t, servers[3]) >= n })
	if n < stock/5 || n > stock/2 {
		t.Errorf("with a third node: %d misses of %d, want about a third", n, stock)
	}

	// The order of the nodes is of no account.
	c.Reload(global(urls[3], urls[2], urls[0]), site)
	c.WaitUp(3)
	if n := misses(t, c); n != 0 {
		t.Errorf("in another order: %d misses, want none", n)
	}
}

// TestPools: sites with pools of their own, each with its servers and namespace,
// and invalidations that are about one of them.
func TestPools(t *testing.T) {
	servers, urls := startNodes(t, 2)
	o := caddytest.NewOrigin(t, plain)
	global := fmt.Sprintf("fluster {\nnear off\nnodes %s\npool mail {\nnear off\nnamespace post\nnodes %s\n}\n}", urls[0], urls[1])
	site := fmt.Sprintf("handle /mail/* {\nfluster_cache {\npool mail\n}\n%[1]s\n}\nhandle {\nfluster_cache\n%[1]s\n}", o.Behind())
	c := caddytest.Load(t, global, site)
	c.WaitUp(2)
	wantHit := func(path string) {
		t.Helper()
		caddytest.Eventually(t, path+" is a hit", func() bool { return c.Get(path).Hit("node") })
	}
	wantHit("/mail/a")
	wantHit("/a")
	for i, want := range []string{"{fluster:", "{post:"} {
		list := keys(t, servers[i].Client(t), "*:e:*")
		if len(list) != 1 || !strings.HasPrefix(list[0], want) {
			t.Errorf("server %d holds the responses %q, want one, under %s", i, list, want)
		}
	}
	if a := c.Invalidate(`{"all":true,"pool":"mail"}`); a.Status != 200 || !strings.Contains(string(a.Body), `"applied":["b"]`) {
		t.Errorf("invalidating the pool: got %s", a)
	}
	if r := c.Get("/mail/a"); r.Hit("") {
		t.Errorf("after it: got %s, want a miss", r)
	}
	if r := c.Get("/a"); !r.Hit("node") {
		t.Errorf("in the other pool: got %s, want the hit", r)
	}
	servers[1].Kill()
	if r := c.Get("/mail/a"); r.Status != 200 {
		t.Errorf("with the pool's server dead: got %s", r)
	}
	if r := c.Get("/a"); !r.Hit("node") {
		t.Errorf("in the other pool: got %s, want the hit", r)
	}
	if err := c.TryReload(global, "fluster_cache {\npool post\n}\n"+o.Behind()); err == nil || !strings.Contains(err.Error(), `no pool "post"`) {
		t.Errorf("a site with an unknown pool: got %v", err)
	}
}
