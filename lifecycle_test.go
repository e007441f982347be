package fluster_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

// TestReload: W1. A config reload keeps the near cache, the connections and the
// penalties.
func TestReload(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, global := nodes(t, 2, "penalty 1m 1m")
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(2)
	waitListening(t, servers, 1)
	wantMiss(t, c, "/")
	wantHit(t, c, "near", "/")
	servers[1].Kill()
	c.WaitState("b", "penalty")
	before, connections := c.Nodes()["b"], connectionsTo(t, servers[0].Client(t))

	c.Reload(global, cached(o, "ttl 5m", "max_body 1MiB"))
	if r := c.Get("/"); !r.Hit("near") {
		t.Errorf("after a reload: got %s, want a near hit", r)
	}
	if got := c.Nodes()["b"]; got != before {
		t.Errorf("after a reload the penalty is %+v, and was %+v", got, before)
	}
	if got := connectionsTo(t, servers[0].Client(t)); got != connections {
		t.Errorf("after a reload the connections are %q, and were %q", got, connections)
	}
	if err := c.TryReload(global, cached(o, "pool nobody")); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a cache on a pool that is not there: got %v, want an error that names it", err)
	}
	if r := c.Get("/"); !r.Hit("near") || c.Nodes()["b"] != before {
		t.Errorf("after a reload that was refused: got %s and %+v, want a near hit and %+v", r, c.Nodes()["b"], before)
	}
	publish(t, servers[0].Client(t), "all")
	caddytest.Eventually(t, "messages are heard after a reload", func() bool { return o.Count() > 1 || !c.Get("/").Hit("") })
}

var clientID = regexp.MustCompile(`(?m)^id=(\d+) .* name=caddy-fluster`)

// connectionsTo returns the IDs of the connections that the plugin has to a node.
func connectionsTo(t *testing.T, client *redis.Client) string {
	t.Helper()
	defer client.Close()
	list, err := client.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range clientID.FindAllStringSubmatch(list, -1) {
		ids = append(ids, m[1])
	}
	return strings.Join(ids, " ")
}

// TestNodeLeavesConfig: a node that the next configuration does not name is let
// go of, and the others are not.
func TestNodeLeavesConfig(t *testing.T) {
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	servers, global := nodes(t, 2)
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(2)
	c.Reload("fluster {\nnodes "+servers[0].URL()+"?name=a\n}", cached(o))
	caddytest.Eventually(t, "no connection to b is left", func() bool { return connectionsTo(t, servers[1].Client(t)) == "" })
	if got := c.Nodes(); len(got) != 1 || got["a"].State != "up" {
		t.Errorf("the nodes are %+v, want a alone, up", got)
	}
	if connectionsTo(t, servers[0].Client(t)) == "" {
		t.Error("no connection to a is left")
	}
	caddytest.Eventually(t, "of b no metric tells that it is in use", func() bool {
		return c.Metric(`caddy_fluster_node_up{node="b",pool=""}`) == 0
	})
	c.Reload("fluster {\nnodes "+servers[0].URL()+"?name=a\ntimeout 200ms\n}", cached(o))
	c.WaitUp(1)
	if got := c.Metric(`caddy_fluster_node_up{node="a",pool=""}`); got != 1 {
		t.Errorf("of a node that is configured otherwise the metric is %v, want 1", got)
	}
}

// TestStopLeavesNothing: when Caddy stops, no goroutine and no connection of
// the plugin is left, whatever the state of its nodes.
func TestStopLeavesNothing(t *testing.T) {
	servers, global := nodes(t, 3)
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Cache-Control", "max-age=1, stale-while-revalidate=60", "Age", "1"))
	// A proxy's idle connections outlive it; they are none of the plugin's.
	const once = " {\ntransport http {\nkeepalive off\n}\n}"
	plain := caddytest.Load(t, "", o.Behind()+once) // so that what Caddy itself leaves is known
	wantBody(t, plain.Get("/"), 200, "page")
	plain.Stop()
	known := goleak.IgnoreCurrent()

	c := caddytest.Load(t, global, cached(o)+once)
	c.WaitUp(3)
	wantBody(t, c.Get("/"), 200, "page")
	wantBody(t, c.Get("/"), 200, "page")
	c.Do("POST", "/", "x")
	c.Reload(strings.Replace(global, "}", "timeout 50ms\n}", 1), cached(o)+once)
	c.WaitUp(3)
	servers[0].Kill()
	servers[1].Pause()
	wantBody(t, c.Get("/x"), 200, "page")
	c.WaitState("a", "penalty")
	c.Stop()
	wantNoGoroutine(t, known)
	if got := connectionsTo(t, servers[2].Client(t)); got != "" {
		t.Errorf("connections are left: %s", got)
	}
}

// wantNoGoroutine waits until no goroutine is left but those that are known.
func wantNoGoroutine(t *testing.T, known goleak.Option) {
	t.Helper()
	ctx := testContext(t)
	for {
		// What keeps a lock of Caddy's own storage sees only after a while that it is gone.
		err := goleak.Find(known, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// TestCommandsNeedNoNode: validate and adapt send nothing to a node.
func TestCommandsNeedNoNode(t *testing.T) {
	node, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	called := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := node.Accept()
			if err != nil {
				return
			}
			conn.Close()
			called <- struct{}{}
		}
	}()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	config := "{\n\tadmin off\n\tpersist_config off\n\tfluster {\n\t\tnodes redis://" + node.Addr().String() + " redis://127.0.0.1:1\n\t}\n}\nhttp://:8080 {\n\tfluster_cache\n\trespond ok\n}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"validate", "adapt"} {
		if out, err := caddytest.Command(t, command, "--config", file, "--adapter", "caddyfile"); err != nil {
			t.Errorf("caddy %s: %v\n%s", command, err, out)
		}
	}
	if len(called) != 0 {
		t.Error("a node was called")
	}
}

// TestSecrets: a password comes by a placeholder, and shows in no log, no
// metric and no answer of the admin endpoint.
func TestSecrets(t *testing.T) {
	t.Setenv("FLUSTER_TEST_PASSWORD", "hunter2hunter2")
	servers, global := nodes(t, 1, "password {env.FLUSTER_TEST_PASSWORD}", "penalty 100ms 500ms")
	client := servers[0].Client(t)
	if err := client.ConfigSet(t.Context(), "requirepass", "hunter2hunter2").Err(); err != nil {
		t.Fatal(err)
	}
	o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", fresh...))
	c := caddytest.Load(t, global, cached(o))
	c.WaitUp(1)
	wantBody(t, c.Get("/"), 200, "page")
	if err := client.ConfigSet(t.Context(), "requirepass", "another-one").Err(); err != nil {
		t.Fatal(err)
	}
	client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
	c.WaitState("a", "penalty")
	c.WaitLogged("node penalized")
	for what, text := range map[string]string{"the log": c.Log(), "the status": string(c.AskAdmin("/fluster/status").Body), "the metrics": string(c.AskAdmin("/metrics").Body)} {
		if text == "" || strings.Contains(text, "hunter2") {
			t.Errorf("%s is empty, or has the password in it: %.500s", what, text)
		}
	}
}

// busySite is what stands in a site, and behind it a site on a port that is taken:
// such a configuration is provisioned, and begins to start.
func busySite(t *testing.T, site string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return site + "\n}\nhttp://" + l.Addr().String() + " {\nbind 127.0.0.1\nrespond busy"
}

// TestFailedReload: W1. After a reload that fails while its apps start, all is as
// it was before: near cache, nodes, also one that was to be taken out, and what is
// invalidated. Caddy starts apps in no order, so it is tried several times.
func TestFailedReload(t *testing.T) {
	for _, near := range []string{"near 1MiB", "near off"} {
		t.Run(near, func(t *testing.T) {
			o := caddytest.NewOrigin(t, caddytest.Answer(200, "page", "Cache-Control", "max-age=600", "Etag", `"1"`))
			servers, global := nodes(t, 2, near, "timeout 5s")
			c := caddytest.Load(t, global, cached(o))
			c.WaitUp(2)
			waitListening(t, servers, 1)
			const pages = 20
			for i := range pages {
				wantMiss(t, c, "/"+strconv.Itoa(i))
			}
			waitStored(t, servers, pages)
			asked, before := o.Count(), string(c.AskAdmin("/fluster/status").Body)
			for range 8 {
				// All else is other than before: the near cache, the penalties, and a node
				// less. The channel stays, as it is a node's own.
				err := c.TryReload("fluster {\nnear 4KiB\ntimeout 5s\npenalty 5s 7s\nmax_blind 0s\nnodes "+servers[0].URL()+"?name=a\n}", busySite(t, cached(o)))
				if err == nil || !strings.Contains(err.Error(), "address already in use") {
					t.Fatalf("a reload to a port that is taken: got %v", err)
				}
			}
			if after := string(c.AskAdmin("/fluster/status").Body); after != before {
				t.Errorf("the status is\n%s\nand was\n%s", after, before)
			}
			for i := range pages {
				if r := c.Get("/" + strconv.Itoa(i)); !r.Hit("") {
					t.Errorf("page %d: got %s, want a hit as before", i, r)
				}
			}
			if n := o.Count() - asked; n != 0 {
				t.Errorf("the origin was asked %d times", n)
			}
			if r := c.Invalidate(`{"all":true}`); r.Status != 200 || !strings.Contains(string(r.Body), `"applied":["a","b"]`) {
				t.Errorf("invalidating: got %s, want it on both nodes", r)
			}
			wantMiss(t, c, "/0")
		})
	}
}
