package fluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// invalidationFault is something that happens around an invalidation.
type invalidationFault struct {
	name   string
	before func(f *faulty) // after all was stored
	after  func(f *faulty) // after the invalidation was acknowledged
}

// faulty is what such a fault happens to: two nodes and two Caddys, of which
// the first is told of the invalidation.
type faulty struct {
	t       *testing.T
	servers []*redistest.Server
	other   *caddytest.Caddy
}

// each does something to all nodes.
func (f *faulty) each(do func(s *redistest.Server)) {
	for _, s := range f.servers {
		do(s)
	}
}

// redis sends a command to all nodes.
func (f *faulty) redis(args ...any) {
	f.each(func(s *redistest.Server) {
		client := s.Client(f.t)
		defer client.Close()
		client.Do(f.t.Context(), args...) // CLIENT KILL may end the test's own connection
	})
}

var invalidationFaults = []invalidationFault{
	{"nothing", nil, nil},
	{"a node is away and comes back with its data",
		func(f *faulty) { f.servers[0].Save(); f.servers[0].Kill() },
		func(f *faulty) { f.servers[0].RestartWithData() }},
	{"a node is away and comes back empty",
		func(f *faulty) { f.servers[0].Kill() },
		func(f *faulty) { f.servers[0].Restart() }},
	{"a node stands still meanwhile",
		func(f *faulty) { f.servers[0].Pause() },
		func(f *faulty) { f.servers[0].Resume() }},
	{"all nodes are set back to an older snapshot",
		func(f *faulty) { f.each((*redistest.Server).Save) },
		func(f *faulty) { f.each((*redistest.Server).Kill); f.each((*redistest.Server).RestartWithData) }},
	{"all nodes lose their data",
		nil, func(f *faulty) { f.redis("flushall") }},
	{"all nodes restart empty",
		nil, func(f *faulty) { f.each((*redistest.Server).Kill); f.each((*redistest.Server).Restart) }},
	{"subscriptions are lost",
		func(f *faulty) { f.redis("client", "kill", "type", "pubsub") }, nil},
	{"nobody may subscribe",
		func(f *faulty) {
			f.redis("acl", "setuser", "default", "-subscribe")
			f.redis("client", "kill", "type", "pubsub")
		}, nil},
	{"connections are lost",
		func(f *faulty) { f.redis("client", "kill", "type", "normal", "skipme", "yes") },
		func(f *faulty) { f.redis("client", "kill", "type", "normal", "skipme", "yes") }},
	{"scripts are forgotten",
		func(f *faulty) { f.redis("script", "flush") }, nil},
	{"the other Caddy stands still meanwhile",
		func(f *faulty) { f.signal(syscall.SIGSTOP) },
		func(f *faulty) { f.signal(syscall.SIGCONT) }},
	{"the journals are trimmed",
		nil, func(f *faulty) { f.redis("xtrim", "{fluster:0}:j", "maxlen", "0") }},
	{"the journals are gone",
		nil, func(f *faulty) { f.redis("del", "{fluster:0}:j", "{fluster:0}:h") }},
	{"the heads go backwards",
		nil, func(f *faulty) { f.redis("set", "{fluster:0}:h", "0000000000000001:1:0000000000000001") }},
	{"the heads are garbage",
		nil, func(f *faulty) { f.redis("set", "{fluster:0}:h", "what") }},
	{"the journals hold foreign records",
		nil, func(f *faulty) { f.redis("xadd", "{fluster:0}:j", "*", "some", "thing") }},
	{"the journals take no entry any more",
		func(f *faulty) { f.redis("xsetid", "{fluster:0}:j", "99999999-0") }, nil},
	{"an entry was put into the journals and taken out again",
		func(f *faulty) {
			f.redis("xadd", "{fluster:0}:j", "99999999-0", "some", "thing")
			f.redis("xdel", "{fluster:0}:j", "99999999-0")
		}, nil},
	{"the heads count further than numbers go",
		func(f *faulty) {
			f.redis("set", "{fluster:0}:h", "0000000000000001:9999999999999999999999:0000000000000001")
		}, nil},
}

func (f *faulty) signal(s syscall.Signal) { f.other.Signal(s) }

// TestInvalidationFaults: C3. Whatever happens to the nodes, to connections and
// to a process around an invalidation that was acknowledged: the Caddy that did
// it serves nothing of what it selects, and the other neither once its lease has
// ended, ever after.
func TestInvalidationFaults(t *testing.T) {
	// Each row takes seconds, nearly all of them waiting: one half has a near
	// cache, the other has not, and the chaos tests mix it all.
	for i, fault := range invalidationFaults {
		near := []string{"near 1MiB", "near off"}[i%2]
		t.Run(near+"/"+fault.name, func(t *testing.T) {
			t.Parallel()
			testInvalidationFault(t, near, fault)
		})
	}
}

func testInvalidationFault(t *testing.T, near string, fault invalidationFault) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 2, near, "penalty 100ms 300ms")
	here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	f := &faulty{t, servers, other}
	here.WaitUp(2)
	other.WaitUp(2)
	old := map[string]bool{}
	var paths []string
	for i := range 8 { // on either node
		path := fmt.Sprintf("/%d?tags=x", i)
		paths = append(paths, path)
		for _, c := range []*caddytest.Caddy{here, other} {
			old[string(wantHit(t, c, "", path).Body)] = true
		}
	}
	if fault.before != nil {
		fault.before(f)
	}
	caddytest.Eventually(t, "the invalidation is acknowledged", func() bool {
		return here.Invalidate(`{"tag":["x"]}`).Status == http.StatusOK
	})
	acknowledged := time.Now()
	if fault.after != nil {
		fault.after(f)
	}
	const lease = time.Second
	for time.Since(acknowledged) < 2*lease {
		for _, path := range paths {
			if r := here.Get(path); r.Err != nil || old[string(r.Body)] {
				t.Fatalf("%s after the invalidation, where it was made: got %s", time.Since(acknowledged), r)
			}
			asked := time.Now()
			if r := other.Get(path); r.Err != nil || old[string(r.Body)] && asked.Sub(acknowledged) > lease {
				t.Fatalf("%s after the invalidation, elsewhere: got %s", time.Since(acknowledged), r)
			}
		}
		pause(20 * time.Millisecond)
	}
	for _, c := range []*caddytest.Caddy{here, other} {
		if strings.Contains(fault.name, "may subscribe") {
			break // they are used nevertheless
		}
		c.WaitUp(2)
		wantHit(t, c, "", paths[0])
	}
}

// TestMissingPermissions: C3. What a user may not do within the script that appends
// to the journal costs an acknowledged invalidation nothing where it can do without;
// where it cannot, the node does not know us, and sits out.
func TestMissingPermissions(t *testing.T) {
	for missing, state := range map[string]string{"-unlink": "up", "resetchannels": "up", "-xadd": "penalty"} {
		t.Run(missing, func(t *testing.T) {
			var o *caddytest.Origin
			o = caddytest.NewOrigin(t, numbered(&o))
			servers, global := nodes(t, 1, "near off", "penalty 1m")
			here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, global, cached(o))
			here.WaitUp(1)
			other.WaitUp(1)
			old := string(wantHit(t, other, "node", "/x").Body)
			if err := servers[0].Client(t).Do(t.Context(), "acl", "setuser", "default", missing).Err(); err != nil {
				t.Fatal(err)
			}
			a := here.Invalidate(`{"url":["http://` + caddytest.Host + `/x"],"wait":true}`)
			if acknowledged := a.Status == http.StatusOK; acknowledged != (state == "up") {
				t.Errorf("the invalidation is answered: %s", a)
			} else if r := other.Get("/x"); acknowledged && string(r.Body) == old {
				t.Errorf("after it was acknowledged: got %s", r)
			}
			if n := here.Nodes()["a"]; n.State != state {
				t.Errorf("the node is %s (%s), want %s", n.State, n.Reason, state)
			}
		})
	}
}

// pause leaves the machine to others between two rounds of a test that watches
// something for a while; nothing is concluded from how long it takes.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// TestInvalidationFailover: C3. An invalidation holds over a fail-over to a
// replica.
func TestInvalidationFailover(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	group := redistest.StartSentinel(t)
	global := "fluster {\nsentinel " + group.Name + " redis://" + strings.Join(group.Addrs(), " redis://") + "\npenalty 100ms 300ms\n}"
	here, other := caddytest.Start(t, global, cached(o)), caddytest.Start(t, global, cached(o))
	here.WaitUp(1)
	other.WaitUp(1)
	for round := range 2 {
		path := fmt.Sprintf("/%d?tags=x", round)
		old := map[string]bool{string(wantHit(t, here, "", path).Body): true, string(wantHit(t, other, "", path).Body): true}
		caddytest.Eventually(t, "the invalidation is acknowledged", func() bool {
			return here.Invalidate(`{"tag":["x"],"wait":true}`).Status == http.StatusOK
		})
		group.Failover()
		for range 50 {
			for i, c := range []*caddytest.Caddy{here, other} {
				if r := c.Get(path); r.Err != nil || old[string(r.Body)] {
					t.Fatalf("after a fail-over, Caddy %d: got %s", i, r)
				}
			}
			pause(20 * time.Millisecond)
		}
		here.WaitUp(1)
		other.WaitUp(1)
	}
}

// TestNoiseOnTheChannel: garbage, messages of 1 MB and more messages than can
// be heard crash nothing, grow nothing, and harm no hit; invalidation goes on.
func TestNoiseOnTheChannel(t *testing.T) {
	var o *caddytest.Origin
	o = caddytest.NewOrigin(t, numbered(&o))
	servers, global := nodes(t, 1)
	c := caddytest.Start(t, global, cached(o))
	c.WaitUp(1)
	waitListening(t, servers, 1)
	want := string(wantHit(t, c, "near", "/").Body)
	before := c.Metric("process_resident_memory_bytes")
	client := servers[0].Client(t)
	megabyte := "tag " + strings.Repeat("x", 1<<20)
	for range 20 {
		publish(t, client, megabyte)
	}
	for round := range 100 {
		pipe := client.Pipeline()
		for i := range 1000 {
			message := fmt.Sprintf("%c nonsense %d %d", 'a'+i%26, round, i)
			if i%2 == 0 {
				message = fmt.Sprintf("tag noise-%d-%d", round, i)
			}
			pipe.Publish(t.Context(), channel, message)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// A subscriber that cannot keep up is cut off by the server, and begins anew.
	caddytest.Eventually(t, "Caddy listens", func() bool {
		return client.PubSubNumSub(t.Context(), channel).Val()[channel] == 1
	})
	if r := wantHit(t, c, "", "/"); string(r.Body) != want {
		t.Errorf("after what does not select it: got %s, want the hit %q", r, want)
	}
	if grown := c.Metric("process_resident_memory_bytes") - before; grown > 512<<20 {
		t.Errorf("memory grew by %.0f MB", grown/(1<<20)) // of a race detector's process
	}
	caddytest.Eventually(t, "messages are heard again", func() bool {
		client.Publish(t.Context(), channel, "all")
		return string(c.Get("/").Body) != want
	})
	c.WaitUp(1)
}
