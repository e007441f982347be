package fluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// timeout is what the nodes of these tests are given. It is long, so that what
// it costs to wait for it once, twice or never differs by more than a loaded
// machine does by itself.
const timeout = 300 * time.Millisecond

// asked is one request that was answered.
type asked struct {
	start time.Time
	took  time.Duration
}

// load is requests from 16 clients, on and on, until it is stopped.
type load struct {
	c    *caddytest.Caddy
	end  context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex // guards all below
	done []asked
	beat []asked  // one after the other, of what passes by the cache: how busy the machine is
	bad  []string // answers that the origin did not send
}

// mixed answers by the path: /7 is 404, and so are all that end in 7.
func mixed(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	if strings.HasSuffix(r.URL.Path, "7") {
		status = http.StatusNotFound
	}
	caddytest.Answer(status, "this is "+r.URL.Path, "Cache-Control", "max-age=1")(w, r)
}

func startLoad(c *caddytest.Caddy) *load {
	ctx, end := context.WithCancel(context.Background())
	l := &load{c: c, end: end}
	for range 16 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.ask("/" + strconv.Itoa(rand.N(300)))
			}
		})
	}
	l.wg.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			l.c.Do("GET", "/beat", "content, which passes by")
			l.mu.Lock()
			l.beat = append(l.beat, asked{start, time.Since(start)})
			l.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
	})
	return l
}

// busiest returns the longest that the machine took between two times for what has
// nothing to do with the nodes.
func (l *load) busiest(from, to time.Time) (most time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.beat {
		if b.start.Before(to) && b.start.Add(b.took).After(from) {
			most = max(most, b.took)
		}
	}
	return most
}

func (l *load) ask(path string) {
	start := time.Now()
	r := l.c.Get(path)
	took := time.Since(start)
	want := http.StatusOK
	if strings.HasSuffix(path, "7") {
		want = http.StatusNotFound
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = append(l.done, asked{start, took})
	if r.Err != nil || r.Status != want || string(r.Body) != "this is "+path {
		l.bad = append(l.bad, fmt.Sprintf("GET %s: %s", path, r))
	}
}

// more waits until n further requests were answered.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	l.mu.Lock()
	until := len(l.done) + n
	l.mu.Unlock()
	caddytest.Eventually(t, fmt.Sprintf("%d further requests", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.done) >= until
	})
}

// stop ends the load.
func (l *load) stop() {
	l.end()
	l.wg.Wait()
}

// slowest returns the longest that a request took of those that which selects,
// and how many they are.
func (l *load) slowest(which func(start, end time.Time) bool) (most time.Duration, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.done {
		if which(a.start, a.start.Add(a.took)) {
			most, n = max(most, a.took), n+1
		}
	}
	return most, n
}

// TestOutage: C2. With three nodes and load on 16 connections, one node is
// killed and another stands still: no client sees what the origin did not send,
// none waits much longer than for one time-out, none for anything once the nodes
// are penalized, and the nodes are used again soon after they are back.
func TestOutage(t *testing.T) {
	for _, near := range []string{"near off", "near 1MiB"} {
		t.Run(near, func(t *testing.T) {
			servers, global := nodes(t, 3, near, "timeout "+timeout.String(), "penalty 200ms 1s")
			o := caddytest.NewOrigin(t, mixed)
			c := caddytest.Load(t, global, cached(o))
			c.WaitUp(3)
			l := startLoad(c)
			defer l.stop()
			l.more(t, 1000) // to warm up
			began := time.Now()
			l.more(t, 1500)

			failed := time.Now()
			servers[0].Kill()
			servers[1].Pause()
			caddytest.Eventually(t, "a and b are penalized", func() bool {
				nodes := c.Nodes()
				return nodes["a"].State == "penalty" && nodes["b"].State == "penalty"
			})
			penalized := time.Now()
			l.more(t, 1500)

			servers[0].Restart()
			servers[1].Resume()
			back := time.Now()
			c.WaitUp(3)
			if took, most := time.Since(back), 5*time.Second; took > most {
				t.Errorf("the nodes were in use %s after they were back, want the longest penalty, 1s, and what a loaded machine adds", took)
			}
			returned := time.Now()
			l.more(t, 500)
			waitStored(t, servers[:1], 1) // it came back empty
			l.stop()

			for _, b := range l.bad[:min(len(l.bad), 3)] {
				t.Errorf("%s (one of %d), which the origin did not send", b, len(l.bad))
			}
			healthy, n := l.slowest(func(start, end time.Time) bool { return start.After(began) && end.Before(failed) })
			slow, m := l.slowest(func(start, end time.Time) bool { return end.After(failed) && start.Before(penalized) })
			settled, k := l.slowest(func(start, _ time.Time) bool { return start.After(penalized) && start.Before(back) })
			t.Logf("the slowest of %d requests before: %s, of %d while they fail: %s, of %d while they are penalized: %s; back after %s",
				n, healthy, m, slow, k, settled, returned.Sub(back))
			healthy = max(healthy, l.busiest(failed, back))
			if limit := timeout + 50*time.Millisecond + 2*healthy; slow > limit {
				t.Errorf("while the nodes failed a request took %s, want at most %s: the time-out, 50ms, and what it is when all is well", slow, limit)
			}
			if healthy > timeout/2 {
				t.Logf("a machine on which a request takes %s without any node cannot tell whether one waited for a node", healthy)
			} else if limit := min(timeout, 50*time.Millisecond+3*healthy); settled > limit {
				t.Errorf("with the nodes penalized a request took %s, want at most %s: as when all is well", settled, limit)
			}
		})
	}
}

// TestNoNodeAtStart: Caddy starts, warns and serves from the origin, and uses
// the nodes when they come.
func TestNoNodeAtStart(t *testing.T) {
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, "fluster {\nnodes redis://"+addr+"?name=late\nnear off\npenalty 100ms 500ms\n}", cached(o))
	c.WaitLogged(`"level":"warn"`, "no node can be reached")
	wantBody(t, wantMiss(t, c, "/"), 200, "page")
	wantBody(t, wantMiss(t, c, "/"), 200, "page")
	if s := c.Nodes()["late"]; s.State == "up" || s.Reason == "" {
		t.Errorf("the status of a node that is not there: got %+v, want it out of use, with a reason", s)
	}
	p, err := redistest.Launch(t.TempDir(), "--port", strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c.WaitUp(1)
	wantHit(t, c, "node", "/")
}

// TestPausedAtStart: a node that accepts connections and says nothing holds a
// start up for a moment only.
func TestPausedAtStart(t *testing.T) {
	servers, global := nodes(t, 1)
	servers[0].Pause()
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, global, cached(o))
	wantBody(t, wantMiss(t, c, "/"), 200, "page")
	c.WaitLogged(`"level":"warn"`, "node")
	servers[0].Resume()
	c.WaitUp(1)
}

// TestFullNode: C2. A node that takes no writes is no client's error.
func TestFullNode(t *testing.T) {
	servers, global := nodes(t, 1, "penalty 100ms 500ms", "near off")
	client := servers[0].Client(t)
	o := caddytest.NewOrigin(t, mixed)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		wantBody(t, c.Get(fmt.Sprint("/full/", i, "x")), 200, fmt.Sprint("this is /full/", i, "x"))
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	c.WaitUp(1)
	wantHit(t, c, "node", "/x")
}

// TestEvictedJournal: a node that evicts its journal as soon as it is written sits out
// with the growing penalty of any other, and its keys fall to the next.
func TestEvictedJournal(t *testing.T) {
	servers, global := nodes(t, 2, "penalty 500ms 2s", "near off")
	client := servers[0].Client(t)
	o := caddytest.NewOrigin(t, mixed)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(2)
	set := func(options ...string) {
		t.Helper()
		for i := 0; i < len(options); i += 2 {
			if err := client.ConfigSet(t.Context(), options[i], options[i+1]).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("maxmemory-policy", "allkeys-lru", "maxmemory", "1")
	c.WaitLogged("node penalized", "could not be read")
	for i := range 20 {
		wantHit(t, c, "node", fmt.Sprint("/evicted/", i, "x"))
	}
	if n := len(c.Logged("journal cannot be read and is begun anew")); n > 20 {
		t.Errorf("told %d times that the journal cannot be read, want once for each try", n)
	}
	set("maxmemory", "0")
	c.WaitUp(2)
}

// TestInvalidatedWhileItStandsIn: C1. A stored response that is to stand in for
// the origin's failure is invalidated while that still comes: the client gets the
// failure, as the origin sends it.
func TestInvalidatedWhileItStandsIn(t *testing.T) {
	servers, global := nodes(t, 1, "timeout 5s")
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Cache-Control", "max-age=0, stale-if-error=600", "Etag", `"1"`))
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantBody(t, c.Get("/"), 200, "page")
	waitStored(t, servers, 1)
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o.Handle(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("failing"))
		http.NewResponseController(w).Flush()
		once.Do(func() {
			close(began)
			<-goOn
		})
	})
	answer := make(chan caddytest.Response)
	go func() { answer <- c.Get("/") }()
	<-began
	time.Sleep(100 * time.Millisecond) // for the head to reach the cache, of which nothing tells
	if r := c.Invalidate(`{"all":true}`); r.Status != 200 {
		t.Errorf("invalidating: got %s", r)
	}
	close(goOn)
	wantBody(t, <-answer, 503, "failing")
}

// TestStoredLate: C4. What another Caddy fetched before, and stores after this one
// has stored what is newer, is not given here. Other variants are unharmed, and so
// is what only looks older.
func TestStoredLate(t *testing.T) {
	varies := append([]string{"Vary", "Accept-Language"}, fresh...)
	page := func(version string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"`+version+r.Header.Get("Accept-Language")+`"`)
			caddytest.Answer(200, version, varies...)(w, r)
		}
	}
	o := caddytest.NewOrigin(t, page("one"))
	servers, global := nodes(t, 1, "near off", "timeout 5s")
	client := servers[0].Client(t)
	c, other := caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	c.WaitUp(1)
	other.WaitUp(1)
	wantMiss(t, other, "/a", "Accept-Language", "en")
	wantMiss(t, other, "/a", "Accept-Language", "de")
	waitStored(t, servers, 3) // with the list of variants
	en := map[string]string{}
	for _, key := range storedKeys(t, servers) {
		value := client.Get(t.Context(), key).Val()
		if strings.Contains(value, `"oneen"`) {
			en[key] = value
			client.Del(t.Context(), key)
		}
	}
	if len(en) != 1 {
		t.Fatalf("%d values are the English variant", len(en))
	}
	time.Sleep(2 * time.Millisecond) // times of responses are in milliseconds
	o.Handle(page("two"))
	wantBody(t, wantMiss(t, c, "/a", "Accept-Language", "en"), 200, "two")
	waitStored(t, servers, 3)
	for key, value := range en {
		client.Set(t.Context(), key, value, time.Hour) // which other has sent long ago
	}
	wantBody(t, wantHit(t, c, "node", "/a", "Accept-Language", "de"), 200, "one")
	got := c.Get("/a", "Accept-Language", "en")
	wantBody(t, got, 200, "two")
	if status := got.Header.Get("Cache-Status"); !strings.Contains(status, "fwd=stale") {
		t.Errorf("Cache-Status: %s, want fwd=stale", status)
	}
	caddytest.Eventually(t, "the newer one lies there", func() bool {
		return strings.Contains(c.Get("/a", "Accept-Language", "en").Header.Get("Cache-Status"), "hit")
	})
}

// TestStoredLateAfterAnother: C4. So it is after an answer that is not stored for what
// its request is, as to HEAD or with credentials, where nothing lay on the node.
func TestStoredLateAfterAnother(t *testing.T) {
	for name, ask := range map[string]func(*caddytest.Caddy) caddytest.Response{
		"HEAD":          func(c *caddytest.Caddy) caddytest.Response { return c.Do(http.MethodHead, "/", "") },
		"Authorization": func(c *caddytest.Caddy) caddytest.Response { return c.Get("/", "Authorization", "Basic YTpi") },
	} {
		t.Run(name, func(t *testing.T) {
			page := func(version string) http.HandlerFunc {
				return caddytest.Answer(200, version, append([]string{"Etag", `"` + version + `"`}, fresh...)...)
			}
			o := caddytest.NewOrigin(t, page("one"))
			servers, global := nodes(t, 1, "near off", "timeout 5s")
			client := servers[0].Client(t)
			c, other := caddytest.Load(t, global, cached(o)), caddytest.Start(t, global, cached(o))
			c.WaitUp(1)
			other.WaitUp(1)
			wantMiss(t, other, "/")
			waitStored(t, servers, 1)
			key := storedKeys(t, servers)[0]
			value := client.GetDel(t.Context(), key).Val()
			time.Sleep(2 * time.Millisecond) // times of responses are in milliseconds
			o.Handle(page("two"))
			if r := ask(c); r.Header.Get("Etag") != `"two"` || strings.Contains(r.CacheStatus(), "stored") {
				t.Fatalf("got %s, want the second answer, and it is not stored", r)
			}
			client.Set(t.Context(), key, value, time.Hour) // which other has sent long ago
			wantBody(t, c.Get("/"), 200, "two")
		})
	}
}
