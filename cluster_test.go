package fluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// twoCaddys starts two Caddys with one node before an origin.
func twoCaddys(t *testing.T, o *caddytest.Origin, timeout, collapse string) (*redistest.Server, [2]*caddytest.Caddy) {
	t.Helper()
	servers, global := nodes(t, 1, "timeout "+timeout)
	var caddies [2]*caddytest.Caddy
	for i := range caddies {
		caddies[i] = caddytest.Start(t, global, cached(o, collapse))
	}
	for _, c := range caddies {
		c.WaitUp(1)
	}
	waitListening(t, servers, 2)
	return servers[0], caddies
}

// background asks in the background.
func background(c *caddytest.Caddy, path string) <-chan caddytest.Response {
	answer := make(chan caddytest.Response, 1)
	go func() { answer <- c.Get(path) }()
	return answer
}

// within returns the answer, which must come within d of now.
func within(t *testing.T, d time.Duration, what string, answer <-chan caddytest.Response) caddytest.Response {
	t.Helper()
	select {
	case r := <-answer:
		return r
	case <-time.After(d):
		t.Fatalf("%s: no answer within %s", what, d)
	}
	return caddytest.Response{}
}

// lockKeys returns the locks on a node, and what lies there.
func lockKeys(t *testing.T, s *redistest.Server) map[string]string {
	t.Helper()
	client := s.Client(t)
	out := map[string]string{}
	for _, key := range client.Keys(t.Context(), "*:l:*").Val() {
		out[key] = client.Get(t.Context(), key).Val()
	}
	return out
}

func waitLocked(t *testing.T, s *redistest.Server) {
	t.Helper()
	caddytest.Eventually(t, "the forward is locked", func() bool { return len(lockKeys(t, s)) == 1 })
}

// slowly answers after a while, so that a herd can gather.
func slowly(w http.ResponseWriter, r *http.Request) {
	time.Sleep(300 * time.Millisecond)
	caddytest.Answer(200, "page "+r.URL.Path, fresh...)(w, r)
}

// TestHerd: concurrent requests for one cold key over two Caddys are one forward
// with collapse cluster, and two with collapse process.
func TestHerd(t *testing.T) {
	for collapse, want := range map[string]int{"cluster": 1, "process": 2} {
		t.Run(collapse, func(t *testing.T) {
			o := caddytest.NewOrigin(t, slowly)
			node, caddies := twoCaddys(t, o, "10s", "collapse "+collapse)
			got, wanted := "", fmt.Sprintf("the origin was asked %d times, %d answers were stored, others collapsed: true", want, want)
			// A Caddy that gets no processor for a second believes nothing that is stored, and
			// asks the origin more often.
			for try := 0; try < 5 && got != wanted && !t.Failed(); try++ {
				got = herdFor(t, o, caddies, fmt.Sprint("/cold", try))
			}
			if got != wanted {
				t.Errorf("got: %s\nwant: %s", got, wanted)
			}
			caddytest.Eventually(t, "the lock is gone", func() bool { return len(lockKeys(t, node)) == 0 })
		})
	}
}

// herdFor has many clients of both Caddys ask for path at once, and returns what
// became of that. Whatever it is, each of them gets the page.
func herdFor(t *testing.T, o *caddytest.Origin, caddies [2]*caddytest.Caddy, path string) string {
	t.Helper()
	const clients = 500 // of each Caddy
	before := o.Count()
	var wg sync.WaitGroup
	var collapsed, stored, others atomic.Int32
	for i := range 2 * clients {
		wg.Go(func() {
			r := caddies[i%2].Get(path)
			if r.Err != nil || string(r.Body) != "page "+path {
				t.Errorf("got %s", r)
			}
			switch s := r.CacheStatus(); {
			case s == "fluster; fwd=uri-miss; fwd-status=200; collapsed":
				collapsed.Add(1)
			case s == "fluster; fwd=uri-miss; fwd-status=200; stored":
				stored.Add(1)
			case !r.Hit(""):
				others.Add(1)
			}
		})
	}
	wg.Wait()
	got := fmt.Sprintf("the origin was asked %d times, %d answers were stored, others collapsed: %t",
		o.Count()-before, stored.Load(), collapsed.Load() > 0)
	if n := others.Load(); n > 0 {
		got += fmt.Sprintf(", and %d were told something else", n)
	}
	return got
}

// TestLockOfUncacheable: a response that cannot be shared releases those who
// wait in other processes at once, and leaves a mark for those to come.
func TestLockOfUncacheable(t *testing.T) {
	g := newGate()
	var n atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i == 1 {
			g.wait(r)
		}
		caddytest.Answer(200, fmt.Sprint("for you alone: ", i), "Cache-Control", "private")(w, r)
	})
	node, caddies := twoCaddys(t, o, "10s", "collapse cluster")
	news := node.Client(t).Subscribe(t.Context(), "fluster:forwards")
	defer news.Close()
	if _, err := news.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers := []<-chan caddytest.Response{background(caddies[0], "/")}
	waitLocked(t, node)
	for range 10 {
		answers = append(answers, background(caddies[1], "/"))
	}
	time.Sleep(200 * time.Millisecond)
	if o.Count() != 1 {
		t.Errorf("the origin was asked %d times, want once while the lock is held", o.Count())
	}
	g.open()
	seen := map[string]bool{}
	for _, a := range answers {
		r := within(t, 5*time.Second, "a response for one", a)
		if b := string(r.Body); seen[b] || !strings.HasPrefix(b, "for you alone") {
			t.Errorf("%s was sent twice, or is not what the origin sent", r)
		}
		seen[string(r.Body)] = true
	}
	marks := lockKeys(t, node)
	if len(marks) != 1 {
		t.Errorf("%d marks are left, want one", len(marks))
	}
	for key, value := range marks {
		if value != "alone" {
			t.Errorf("%s holds %q, want a mark", key, value)
		}
		if m, err := news.ReceiveMessage(testContext(t)); err != nil || m.Payload != "alone "+key {
			t.Errorf("those who wait were told %v, %v, want alone and the key", m, err)
		}
	}
}

// TestLeaderKilled: a process that dies while others wait for its forward costs
// them the lock's time.
func TestLeaderKilled(t *testing.T) {
	g := newGate()
	var n atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			g.wait(r)
		}
		caddytest.Answer(200, "page", fresh...)(w, r)
	})
	node, caddies := twoCaddys(t, o, "10s", "collapse cluster")
	background(caddies[0], "/")
	waitLocked(t, node)
	waiter := background(caddies[1], "/")
	time.Sleep(3 * time.Second) // longer than the lock lives unless it is renewed
	if o.Count() != 1 {
		t.Fatalf("the origin was asked %d times, want once while its holder lives", o.Count())
	}
	caddies[0].Kill()
	wantBody(t, within(t, 6*time.Second, "the waiter", waiter), 200, "page")
	g.open()
}

// TestLockOfPausedNode: C2. A node that stands still while others wait for a
// forward, or when it is asked for the lock, is no lock.
func TestLockOfPausedNode(t *testing.T) {
	g := newGate()
	var n atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			g.wait(r)
		}
		caddytest.Answer(200, "page", fresh...)(w, r)
	})
	node, caddies := twoCaddys(t, o, "1s", "collapse cluster")
	leader := background(caddies[0], "/")
	waitLocked(t, node)
	waiter := background(caddies[1], "/")
	time.Sleep(100 * time.Millisecond)
	node.Pause()
	defer node.Resume()
	wantBody(t, within(t, 8*time.Second, "the waiter", waiter), 200, "page")
	g.open()
	wantBody(t, within(t, 8*time.Second, "the leader", leader), 200, "page")
	wantBody(t, within(t, 8*time.Second, "another URL", background(caddies[0], "/other")), 200, "page")
}

// TestWaiterAfterInvalidation: C3. Who comes after an acknowledged invalidation
// is not given what was asked for before it, although it waited for that.
func TestWaiterAfterInvalidation(t *testing.T) {
	g := newGate()
	var n atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i == 1 {
			g.wait(r)
		}
		caddytest.Answer(200, fmt.Sprint("version ", i), append(fresh, "Cache-Tag", "product")...)(w, r)
	})
	node, caddies := twoCaddys(t, o, "10s", "collapse cluster")
	leader := background(caddies[0], "/")
	waitLocked(t, node)
	caddytest.Eventually(t, "the origin is asked", func() bool { return n.Load() == 1 }) // the lock is there before that
	if r := caddies[1].Invalidate(`{"tag":["product"],"wait":true}`); r.Status != 200 {
		t.Fatalf("invalidating: %s", r)
	}
	waiter := background(caddies[1], "/")
	time.Sleep(200 * time.Millisecond)
	g.open()
	wantBody(t, within(t, 10*time.Second, "the leader", leader), 200, "version 1")
	if r := within(t, 10*time.Second, "the waiter", waiter); string(r.Body) != "version 2" {
		t.Errorf("after the invalidation: got %s, want what was asked for after it", r)
	}
}

// TestLockIsForShortBodies: nobody waits in another process for a long body to
// be stored.
func TestLockIsForShortBodies(t *testing.T) {
	body := string(bodyOf(3 << 20))
	g := newGate()
	defer g.open()
	var n atomic.Int32
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			inParts(g, body[:2<<20], thenWrite(body[2<<20:]), fresh...)(w, r)
			return
		}
		caddytest.Answer(200, body, fresh...)(w, r)
	})
	_, caddies := twoCaddys(t, o, "10s", "collapse cluster")
	background(caddies[0], "/")
	caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
	r := within(t, 10*time.Second, "the other process", background(caddies[1], "/"))
	sameBody(t, "the other process", r.Body, []byte(body), r.Err)
}

// TestLostLock: a lock whose holder never says anything again is waited for as
// long as it lives, by looking at it.
func TestLostLock(t *testing.T) {
	o := caddytest.NewOrigin(t, slowly)
	node, caddies := twoCaddys(t, o, "10s", "collapse cluster")
	g := newGate()
	o.Handle(func(w http.ResponseWriter, r *http.Request) { g.wait(r) })
	background(caddies[0], "/")
	waitLocked(t, node)
	var key string
	for key = range lockKeys(t, node) {
	}
	node.Client(t).Set(t.Context(), key, "another's", 1500*time.Millisecond)
	o.Handle(slowly)
	start := time.Now()
	wantBody(t, within(t, 10*time.Second, "the waiter", background(caddies[1], "/")), 200, "page /")
	if took := time.Since(start); took < time.Second {
		t.Errorf("the waiter was answered after %s, want it to wait for the lock", took)
	}
	g.open()
	time.Sleep(100 * time.Millisecond)
	if v, ok := lockKeys(t, node)[key]; ok && v == "another's" {
		t.Error("the lock is still there")
	}
}

// TestHitForMiss: what cannot be shared makes nobody wait for a while; when it
// can be shared again, it is.
func TestHitForMiss(t *testing.T) {
	const together = 8
	var in atomic.Int32
	all := make(chan struct{})
	g := newGate()
	o := caddytest.NewOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		g.wait(r)
		caddytest.Answer(200, "private", "Cache-Control", "private")(w, r)
	})
	c := caddytest.Load(t, "", cached(o))
	first := []<-chan caddytest.Response{background(c, "/"), background(c, "/")}
	caddytest.Eventually(t, "the origin is asked", func() bool { return o.Count() == 1 })
	time.Sleep(100 * time.Millisecond)
	g.open()
	for _, a := range first {
		wantBody(t, within(t, 10*time.Second, "the first", a), 200, "private")
	}
	// From now on each request reaches the origin, although none was answered yet.
	o.Handle(func(w http.ResponseWriter, r *http.Request) {
		if in.Add(1) == together {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
		caddytest.Answer(200, "shared", fresh...)(w, r)
	})
	var answers []<-chan caddytest.Response
	for range together {
		answers = append(answers, background(c, "/"))
	}
	for _, a := range answers {
		wantBody(t, within(t, 10*time.Second, "one who should not wait", a), 200, "shared")
	}
	// They could have been shared: the next ones are.
	c.Invalidate(`{"all":true}`)
	o.Handle(slowly)
	before := o.Count()
	answers = answers[:0]
	for range together {
		answers = append(answers, background(c, "/"))
	}
	for _, a := range answers {
		wantBody(t, within(t, 10*time.Second, "one who shares", a), 200, "page /")
	}
	if got := o.Count() - before; got != 1 {
		t.Errorf("the origin was asked %d times for what can be shared again, want once", got)
	}
}
