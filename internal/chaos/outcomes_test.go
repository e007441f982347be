package chaos

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// outcomesTimeout is long, so that paying it shows on a busy machine.
const outcomesTimeout = 400 * time.Millisecond

// A troubled is a Caddy with one node, to which something happens.
type troubled struct {
	t      *testing.T
	server *redistest.Server
	client *redis.Client // for whoever harms the server
	proxy  *proxy        // nil unless the node is behind it
	c      *caddytest.Caddy
	usual  time.Duration // the longest that a request took when all was well
	asked  atomic.Int64  // pages
	before float64       // penalties of this process until then
}

// newTroubled starts a server, and a Caddy for it; url changes the node's URL.
func newTroubled(t *testing.T, behindProxy bool, args []string, url func(*redistest.Server) string, lines ...string) *troubled {
	s := redistest.Start(t, args...)
	x := &troubled{t: t, server: s, client: s.Client(t)}
	node := url(s)
	if behindProxy {
		x.proxy = newProxy(t, s.Addr())
		node = "redis://" + x.proxy.addr()
	}
	x.c = loadWith(t, append(lines, "nodes "+node+"?name=a", "timeout "+outcomesTimeout.String())...)
	x.c.WaitUp(1)
	for range 20 {
		x.usual = max(x.usual, x.ask())
	}
	caddytest.Eventually(t, "a hit on the node", func() bool { return x.c.Get("/page/1").Hit("node") })
	x.before = x.c.Metric("caddy_fluster_penalties_total")
	return x
}

// ask asks for a page that was not asked for before, and wants it as it is.
func (x *troubled) ask() time.Duration {
	path := fmt.Sprint("/page/", x.asked.Add(1))
	r := x.c.Get(path)
	if r.Err != nil || r.Status != 200 || string(r.Body) != "page" {
		x.t.Errorf("%s: got %s, want the page", path, r)
	}
	return r.Took
}

// within wants a request to have taken no longer than this beyond what it usually
// takes, by far; but two time-outs are more than it allows on a quiet machine.
func (x *troubled) within(took, most time.Duration, when string) {
	x.t.Helper()
	if limit := most + 350*time.Millisecond + 5*x.usual; took > limit {
		x.t.Errorf("%s: a request took %s, want at most %s (%s, and what a busy machine adds)", when, took, limit, most)
	}
}

func (x *troubled) do(args ...any) {
	x.t.Helper()
	if err := x.client.Do(x.t.Context(), args...).Err(); err != nil {
		x.t.Fatalf("%v: %v", args, err)
	}
}

// set sets an option of the server, and ends all connections but its own, so that
// the option is about those of the Caddy.
func (x *troubled) setForNew(option ...any) {
	x.do(append([]any{"config", "set"}, option...)...)
	x.do("client", "kill", "type", "normal", "skipme", "yes")
}

// penalties is how many there were since the start.
func (x *troubled) penalties() float64 {
	return x.c.Metric("caddy_fluster_penalties_total") - x.before
}

func plainURL(s *redistest.Server) string { return s.URL() }

// TestOutcomes: C2. What can go wrong on a node, each as it really happens: no
// client sees it, it costs a request no more than a time-out and after the penalty
// nothing, and it costs the node its place, or not.
func TestOutcomes(t *testing.T) {
	tests := []struct {
		name   string
		proxy  bool
		args   []string
		harm   func(x *troubled)
		pays   time.Duration // what a request pays until the node is penalized
		reason string        // words of which one says why it is out of use; "": it stays in use
	}{
		{"connection refused", false, nil, func(x *troubled) { x.server.Kill() }, 0, "connection refused"},
		{"connection reset", true, nil, func(x *troubled) { x.proxy.set(resetting, 0) }, 0, "reset"},
		{"reply cut off", true, nil, func(x *troubled) { x.proxy.set(cutting, 0) }, 0, "EOF"},
		{"dials are not answered", false, nil, func(x *troubled) { x.server.Kill(); blackHole(x.t, x.server.Addr()) }, outcomesTimeout, "i/o timeout"},
		{"replies do not come", false, nil, func(x *troubled) { x.server.Pause() }, outcomesTimeout, "timeout"},
		{"packets are swallowed", true, nil, func(x *troubled) { x.proxy.set(swallowing, 0) }, outcomesTimeout, "timeout"},
		{"replies are too late", true, nil, func(x *troubled) { x.proxy.set(delaying, 2*outcomesTimeout) }, outcomesTimeout, "timeout"},
		{"replies are late", true, nil, func(x *troubled) { x.proxy.set(delaying, outcomesTimeout/4) }, outcomesTimeout, ""},
		{"READONLY", false, nil, func(x *troubled) { x.do("replicaof", "127.0.0.1", "1") }, 0, "READONLY"},
		{"LOADING", false, []string{"--enable-debug-command", "yes"}, (*troubled).load, outcomesTimeout, "LOADING"},
		{"MASTERDOWN", false, []string{"--replica-serve-stale-data", "no"}, func(x *troubled) { x.do("replicaof", "127.0.0.1", "1") }, 0, "MASTERDOWN"},
		{"OOM", false, []string{"--maxmemory-policy", "noeviction"}, func(x *troubled) { x.do("config", "set", "maxmemory", "1") }, 0, "OOM"},
		{"NOAUTH", false, nil, func(x *troubled) { x.setForNew("requirepass", "secret") }, 0, "NOAUTH"},
		{"NOPERM to read", false, nil, func(x *troubled) { x.do("acl", "setuser", "default", "-mget", "-get") }, 0, "NOPERM"},
		{"NOPERM to write", false, nil, func(x *troubled) { x.do("acl", "setuser", "default", "-set") }, 0, "NOPERM"},
		{"too many clients", false, nil, func(x *troubled) { x.setForNew("maxclients", "1") }, 0, "max number of clients|broken pipe|reset|EOF"},
		{"WRONGTYPE under a response's key", false, nil, func(x *troubled) { x.replaceByList("*:e:*") }, 0, ""},
		{"WRONGTYPE under the journal's head", false, nil, func(x *troubled) { x.replaceByList("*:h") }, 0, ""},
		{"WRONGTYPE under the journal", false, nil, func(x *troubled) { x.replaceByList("*:j") }, 0, ""},
		{"MOVED to and fro", true, nil, func(x *troubled) { x.proxy.answer("-MOVED 1 127.0.0.1:1\r\n") }, 0, "MOVED"},
		{"rubbish", true, nil, func(x *troubled) { x.proxy.set(babbling, 0) }, 0, "HTTP/1.1 400"},
		{"rubbish without an end", true, nil, func(x *troubled) { x.proxy.answer(strings.Repeat("\x00\xff\x1b[2J", 1<<14)) }, outcomesTimeout, "parse|large|timeout"},
		{"a reply larger than any", true, nil, func(x *troubled) { x.proxy.answer("*2000000000\r\n") }, 0, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTroubled(t, tt.proxy, tt.args, plainURL)
			tt.harm(x)
			x.wantOutcome(tt.pays, tt.reason)
		})
	}
}

// TestSlowTwice: C2. The replies that one request needs of a node are each late, but
// in time: of the value, of the chunks of its body, and of the lock on the forward.
func TestSlowTwice(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, strings.Repeat("x", 300<<10), "Cache-Control", "max-age=600"))
	for _, collapse := range []string{"process", "cluster"} {
		t.Run(collapse, func(t *testing.T) {
			x := newTroubled(t, true, nil, plainURL)
			x.c.Reload(fmt.Sprintf("fluster {\nnear off\nnodes redis://%s?name=a\ntimeout %s\n}", x.proxy.addr(), outcomesTimeout),
				"fluster_cache {\ncollapse "+collapse+"\n}\n"+o.Behind())
			x.c.WaitUp(1)
			caddytest.Eventually(t, "a hit on the node", func() bool { return x.c.Get("/long").Hit("node") })
			x.proxy.set(delaying, outcomesTimeout*3/4)
			for _, path := range []string{"/long", "/long", "/new"} {
				r := x.c.Get(path)
				if r.Status != 200 || len(r.Body) != 300<<10 {
					t.Errorf("%s: got %d with %d bytes", path, r.Status, len(r.Body))
				}
				x.within(r.Took, outcomesTimeout, path)
			}
		})
	}
}

// TestLockIsLost: C2. With `collapse cluster`, what the node is told of a lock is lost, or
// what it says to that. Nobody waits for a lock that nobody has.
func TestLockIsLost(t *testing.T) {
	tests := []struct {
		name, text string
		reaches    bool
	}{
		{"taken, and the reply is lost", "\r\nNX\r\n", true},
		{"let go of, and the command is lost", "\r\nstored {fluster:0}:l:", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTroubled(t, true, nil, plainURL)
			o := caddytest.NewOrigin(t, plain)
			x.c.Reload(fmt.Sprintf("fluster {\nnear off\nnodes redis://%s?name=a\ntimeout %s\n}", x.proxy.addr(), outcomesTimeout),
				"fluster_cache {\ncollapse cluster\n}\n"+o.Behind())
			x.c.WaitUp(1)
			x.proxy.lose(tt.text, tt.reaches)
			x.ask()
			if a := x.c.Invalidate(`{"all":true}`); a.Status != 200 {
				t.Fatalf("invalidating: got %s", a)
			}
			x.asked.Add(-1) // the same page again
			x.within(x.ask(), outcomesTimeout, "with a lock that nobody has")
			if n := x.penalties(); n != 0 {
				t.Errorf("the node was penalized %v times", n)
			}
		})
	}
}

// TestNotWellYet: a node that does all but what a lookup does is not put to use.
func TestNotWellYet(t *testing.T) {
	x := newTroubled(t, false, nil, plainURL)
	x.do("acl", "setuser", "default", "-mget")
	x.wantOutcome(0, "NOPERM")
	for range 12 {
		x.ask()
		time.Sleep(50 * time.Millisecond)
	}
	if lines := x.c.Logged("node returned"); len(lines) > 0 {
		t.Errorf("it was put to use: %s", lines[0])
	}
}

// TestTwoServersAtOneAddress: every other connection to a node leads to another server. It
// sits out like any node that is of no use, and what others have stays in the near cache.
func TestTwoServersAtOneAddress(t *testing.T) {
	servers, urls := startNodes(t, 3)
	p := newProxy(t, servers[0].Addr())
	p.alternate(servers[1].Addr())
	o := caddytest.NewOrigin(t, plain)
	c := caddytest.Load(t, "fluster {\npenalty 5s\nnodes redis://"+p.addr()+"?name=a "+urls[2]+"\n}", "fluster_cache\n"+o.Behind())
	c.WaitUp(2)
	asked := 0
	caddytest.Eventually(t, "it is found out", func() bool {
		if asked++; asked%200 == 0 {
			p.alternate(servers[1].Addr()) // all connections that matter may lead to one of them
		}
		if r := c.Get(fmt.Sprint("/page/", asked%20)); r.Status != 200 || string(r.Body) != "page" {
			t.Fatalf("got %s, want the page", r)
		}
		return len(c.Logged("node penalized", "several servers")) > 0
	})
	forks := c.Metric("caddy_fluster_journal_forks_total")
	for i := range 20 {
		caddytest.Eventually(t, "a hit in the near cache", func() bool { return c.Get(fmt.Sprint("/page/", i)).Hit("near") })
	}
	if n := c.Metric("caddy_fluster_journal_forks_total") - forks; n > 0 {
		t.Errorf("the journal was another one %v times while the node sat out", n)
	}
}

// TestNameLeadsElsewhere: a node's name leads to another server, and the one before has become
// a replica, to which all connections in stock still lead. That costs one penalty and not one
// for each of them.
func TestNameLeadsElsewhere(t *testing.T) {
	x := newTroubled(t, true, nil, plainURL)
	big := strings.Repeat("0123456789", 7_000)
	o := caddytest.NewOrigin(t, caddytest.Answer(200, big, "Cache-Control", "max-age=600"))
	x.c.Reload(fmt.Sprintf("fluster {\nnear off\npenalty 100ms 400ms\ntimeout %s\nnodes redis://%s?name=a\n}", outcomesTimeout, x.proxy.addr()),
		"fluster_cache\n"+o.Behind())
	x.c.WaitUp(1)
	herd := func() {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if r := x.c.Get(fmt.Sprint("/big/", i)); r.Status != 200 || string(r.Body) != big {
					t.Errorf("got %s, want the page", r)
				}
			})
		}
		wg.Wait()
	}
	herd()
	caddytest.Eventually(t, "a hit on the node", func() bool { return x.c.Get("/big/1").Hit("node") })
	herd() // which leaves connections in stock
	before := x.c.Metric("caddy_fluster_penalties_total")
	another := redistest.Start(t)
	x.proxy.lead(another.Addr())
	x.do("replicaof", "127.0.0.1", "1")
	caddytest.Eventually(t, "a hit on the other server", func() bool {
		x.c.Get(fmt.Sprint("/new/", x.asked.Add(1))) // is to be stored, which the one before refuses
		return x.c.Get("/big/1").Hit("node") && stored(t, another) > 0
	})
	for range 5 {
		herd()
	}
	if n := x.c.Metric("caddy_fluster_penalties_total") - before; n > 2 {
		t.Errorf("the node was penalized %v times, want once", n)
	}
}

// TestTLSTurnsBad: as TestOutcomes, for a server whose certificate is replaced by
// one that is not for it.
func TestTLSTurnsBad(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{DNSNames: []string{"redis.internal"}})
	a.issue("other", &x509.Certificate{DNSNames: []string{"other.internal"}})
	port, err := redistest.FreePort()
	a.check(err)
	args := []string{"--tls-port", fmt.Sprint(port), "--tls-cert-file", a.file("server"), "--tls-key-file", a.file("server-key"),
		"--tls-ca-cert-file", a.file("ca"), "--tls-auth-clients", "no"}
	x := newTroubled(t, false, args, func(*redistest.Server) string { return fmt.Sprintf("rediss://127.0.0.1:%d", port) },
		"tls {\nca "+a.file("ca")+"\nserver_name redis.internal\n}")
	x.setForNew("tls-cert-file", a.file("other"), "tls-key-file", a.file("other-key"))
	x.wantOutcome(0, "other.internal")
}

// wantOutcome wants requests to pay no more than that, and the node to be
// penalized for such a reason, or to stay in use.
func (x *troubled) wantOutcome(pays time.Duration, reason string) {
	t := x.t
	if reason == "" {
		for start := time.Now(); time.Since(start) < time.Second; {
			x.within(x.ask(), pays, "in trouble")
		}
		if n := x.penalties(); n != 0 {
			t.Errorf("the node was penalized %v times: %+v", n, x.c.Nodes()["a"])
		}
		caddytest.Eventually(t, "a hit on the node", func() bool { return x.c.Get("/page/1").Hit("node") })
		return
	}
	caddytest.Eventually(t, "the node is penalized", func() bool {
		x.within(x.ask(), pays, "in trouble")
		return x.penalties() > 0
	})
	for range 10 {
		x.within(x.ask(), 0, "when the node is penalized")
	}
	var told string
	defer func() {
		if t.Failed() {
			t.Logf("the reason was %q", told)
		}
	}()
	caddytest.Eventually(t, "the reason is told: "+reason, func() bool {
		told = x.c.Nodes()["a"].Reason
		return slices.ContainsFunc(strings.Split(reason, "|"), func(word string) bool { return strings.Contains(told, word) })
	})
	if len(told) > 300 || strings.ContainsFunc(told, func(r rune) bool { return r < ' ' }) {
		t.Errorf("the reason is %q, which breaks a line or fills it", told)
	}
	x.c.WaitLogged("node penalized", `"node":"a"`)
}

// replaceByList puts a list in place of what lies there.
func (x *troubled) replaceByList(pattern string) {
	for _, key := range keys(x.t, x.client, pattern) {
		pipe := x.client.TxPipeline()
		pipe.Del(x.t.Context(), key)
		pipe.RPush(x.t.Context(), key, "foreign")
		if _, err := pipe.Exec(x.t.Context()); err != nil {
			x.t.Fatal(err)
		}
	}
}

// load makes the server load a dump, slowly.
func (x *troubled) load() {
	for i := range 400 {
		x.do("set", fmt.Sprint("ballast", i), strings.Repeat("x", 4096))
	}
	x.do("config", "set", "key-load-delay", "10000", "loading-process-events-interval-bytes", "1024", "rdbcompression", "no")
	client := x.server.Client(x.t)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		client.Do(context.Background(), "debug", "reload") //nolint:errcheck // the test may end before it does
	}()
	x.t.Cleanup(func() { x.server.Kill(); <-loaded })
	caddytest.Eventually(x.t, "the server loads", func() bool {
		return redis.HasErrorPrefix(x.client.Get(x.t.Context(), "ballast1").Err(), "LOADING")
	})
}

// blackHole makes an address one where dials are not answered, not even refused:
// its listener accepts nothing, and its queue is full.
func blackHole(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	shrinkQueue(t, l)
	for range 64 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the listener's queue never got full")
}

// TestMovedStorm: a Redis Cluster whose only member sends every command back to
// itself costs no request more than the time-out.
func TestMovedStorm(t *testing.T) {
	p := newProxy(t, "127.0.0.1:1")
	host, port, _ := net.SplitHostPort(p.addr())
	p.answer(fmt.Sprintf("-MOVED 1 %s\r\n", p.addr()))
	p.slots(fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$%d\r\n%s\r\n:%s\r\n$1\r\nx\r\n", len(host), host, port))
	c := loadWith(t, "cluster redis://"+p.addr(), "timeout "+outcomesTimeout.String())
	x := &troubled{t: t, c: c, usual: 20 * time.Millisecond}
	for range 20 {
		x.within(x.ask(), outcomesTimeout, "in the storm")
	}
	wantOut(t, c, "MOVED")
}

// TestNobodysFault: C2. Visitors who leave, and a lack of connections in this
// process, are held against no node.
func TestNobodysFault(t *testing.T) {
	x := newTroubled(t, true, nil, plainURL)
	big := strings.Repeat("0123456789", 7_000)
	o := caddytest.NewOrigin(t, caddytest.Answer(200, big, "Cache-Control", "max-age=600"))
	x.c.Reload(fmt.Sprintf("fluster {\nnear off\ntimeout 1s\nnodes redis://%s?name=a\n}", x.proxy.addr()), "fluster_cache\n"+o.Behind())
	x.c.WaitUp(1)
	caddytest.Eventually(t, "a hit on the node", func() bool { return x.c.Get("/big").Hit("node") })
	x.proxy.set(delaying, 100*time.Millisecond)
	var wg sync.WaitGroup
	for i := range 120 {
		wg.Go(func() {
			if i%2 == 0 { // a visitor who leaves
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint("http://", x.c.Addr, "/page/", i), nil)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
				return
			}
			for range 2 { // many connections at once are wanted for large bodies
				if r := x.c.Get("/big"); r.Status != 200 || string(r.Body) != big {
					t.Errorf("got %s, want the page", r)
				}
			}
		})
	}
	wg.Wait()
	if n := x.penalties(); n != 0 {
		t.Errorf("the node was penalized %v times: %+v", n, x.c.Nodes()["a"])
	}
}
