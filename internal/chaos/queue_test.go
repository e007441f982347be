package chaos

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// queueMode is a set of servers with what the queue is asked to promise on them,
// and what may happen to them then.
type queueMode struct {
	name string
	open func(t *testing.T) world
	// options of fluster_queue
	options string
	// kinds are the faults of the world that lose nothing which was promised. Those
	// that begin with caddy- or upstream- are about those.
	kinds []string
	// losing are those after which a node has lost everything. Until the second
	// copies of what lay on it are overdue, another node must not lose its.
	losing map[string]bool
	short  time.Duration
}

// losing is how far apart such faults are: twice the visibility, the time until
// the next look at second copies, and some.
const losing = 2*visibility + 8*time.Second

var onlyFlag = flag.String("queue", "", "the one mode of TestChaosQueue that runs; empty: all")

// always can happen to any of the servers.
var always = []string{
	"pause", "full", "kill-clients", "sleep", "script-flush", "group-destroy",
	"caddy-kill", "caddy-pause", "caddy-reload", "upstream-down", "upstream-slow",
}

// nodes can happen to independent nodes that write everything to their disk first.
var nodes = append([]string{"kill", "read-only", "swallow", "delay", "cut", "reset", "babble", "all-swallow"}, always...)

// queueModes: a node that writes everything to its disk first may be killed,
// whether or not it is asked; one that does not may even lose everything, where
// each message has a second copy.
var queueModes = []queueMode{
	{"aof", openDurableNodes, "ack aof\nbacklog 40", nodes, nil, 5 * time.Second},
	{"memory", openDurableNodes, "ack memory", nodes, nil, 3 * time.Second},
	{"copies", openNodes, "copies 2",
		append([]string{"kill", "restart-empty", "swallow", "delay", "cut", "reset", "babble"}, always...),
		map[string]bool{"kill": true, "restart-empty": true}, 5 * time.Second},
	{"cluster", openCluster, "ack replicas 1",
		append([]string{"failover", "kill-master", "migrate"}, always...), nil, 3 * time.Second},
	{"sentinel", openSentinel, "ack replicas 1", append([]string{"switch-over"}, always...), nil, 3 * time.Second},
}

// durableNodes are independent nodes that lose nothing when they are killed.
type durableNodes struct{ *threeNodes }

func openDurableNodes(t *testing.T) world {
	w := &threeNodes{t: t}
	for range 3 {
		s := redistest.Start(t, "--enable-debug-command", "yes", "--appendonly", "yes", "--appendfsync", "always")
		w.victims = append(w.victims, newVictim(t, s))
		w.proxies = append(w.proxies, newProxy(t, s.Addr()))
	}
	return durableNodes{w}
}

func (w durableNodes) end(f fault) {
	if f.kind == "kill" {
		w.victims[f.node].server.RestartWithData()
		return
	}
	w.threeNodes.end(f)
}

// TestChaosQueue: Q1 to Q6 while nodes, Caddys and the upstream die, hang and
// come back. Everything that was answered and everything that was delivered is
// in a ledger, and compared at the end, also with what the Caddys have counted.
func TestChaosQueue(t *testing.T) {
	seed := *seedFlag
	switch {
	case seed == 0 && *lengthFlag == 0:
		seed = shortSeed
	case seed == 0:
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d: go test ./internal/chaos -run TestChaosQueue -v -seed %d -for %s", seed, seed, *lengthFlag)
	for _, m := range queueModes {
		if *onlyFlag != "" && *onlyFlag != m.name {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			length := m.short
			if *lengthFlag > 0 {
				length = *lengthFlag
			}
			newQueueRun(t, m, seed).play(length)
		})
	}
}

// queueWorld is a world of which only some faults are wanted, and two more nodes
// that faults can be about: a Caddy and the upstream.
type queueWorld struct {
	world
	mode queueMode
}

func (w queueWorld) kinds() []string { return w.mode.kinds }

// queueRun is one mode under load.
type queueRun struct {
	t       *testing.T
	mode    queueMode
	seed    uint64
	world   world
	ledger  *ledger
	trouble *trouble
	began   time.Time

	mu      sync.Mutex // guards caddies
	caddies []*process

	lives []*life // of all Caddys that there were
}

// visibility is short, so that what a dead worker had in hand comes again within the test.
const visibility = 2 * time.Second

// stopped is for how long a Caddy is stopped: longer than its deliveries are hidden.
const stopped = visibility + visibility/4

func newQueueRun(t *testing.T, m queueMode, seed uint64) *queueRun {
	r := &queueRun{t: t, mode: m, seed: seed, world: queueWorld{m.open(t), m}, began: time.Now()}
	r.ledger = newLedger(t, seed)
	r.trouble = newTrouble(r.world.nodes())
	for range 2 {
		r.caddies = append(r.caddies, r.startCaddy())
	}
	return r
}

func (r *queueRun) startCaddy() *process {
	x := &life{name: fmt.Sprint("caddy-", len(r.lives)), answers: map[int]int{}}
	global := fmt.Sprintf("fluster {\n%s\npenalty 100ms 400ms\n}", r.world.option())
	site := fmt.Sprintf(`fluster_queue q {
	deliver {
		reverse_proxy %s {
			header_up X-Caddy %s
			header_up X-Node {http.fluster.queue.node}
		}
	}
	%s
	max_body %d
	visibility %s
	attempts 1000
	backoff 20ms 300ms
	dedup {header.Idempotency-Key} 1m
	priority {header.X-Priority} high=3
}`, r.ledger.addr, x.name, r.mode.options, maxBody, visibility)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	x.process = &process{Caddy: caddytest.Start(r.t, global, site), client: &http.Client{Transport: transport, Timeout: 30 * time.Second}, life: x}
	r.lives = append(r.lives, x)
	return x.process
}

// caddy returns one of the Caddys that run.
func (r *queueRun) caddy(i uint64) *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.caddies[i%uint64(len(r.caddies))]
}

// play sends messages while the faults happen, waits until all are delivered, and
// compares.
func (r *queueRun) play(length time.Duration) {
	t := r.t
	faults := schedule(r.seed, r.world, length)
	defer func() {
		if t.Failed() {
			t.Logf("the faults:\n%s", describe(faults))
		}
	}()
	ctx, end := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for i := range 4 {
		senders.Go(func() { r.send(ctx, uint64(i)) })
	}
	func() {
		defer senders.Wait()
		defer end() // also where a fault fails the test
		pass(t, 300*time.Millisecond)
		r.perform(faults)
		pass(t, 300*time.Millisecond)
	}()
	r.ledger.calm()
	r.drain()
	r.ledger.compare(r)
	r.wantNothingLeft()
	r.compareCounts()
	t.Logf("%s: %s; %d faults (%s)", t.Name(), r.ledger.summary(), len(faults), count(faults))
}

// pass lets time pass.
func pass(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// send sends messages until ctx ends; the last one is answered.
func (r *queueRun) send(ctx context.Context, sender uint64) {
	dice := rand.New(rand.NewPCG(r.seed, sender))
	for ctx.Err() == nil {
		letters := []*letter{r.ledger.newLetter(dice)}
		if letters[0].times > 1 && dice.IntN(2) == 0 {
			letters = append(letters, r.ledger.forge(letters[0], dice))
		}
		for _, l := range letters {
			for range l.times {
				c := r.caddy(dice.Uint64())
				before := r.ledger.stood(c.life, 0)
				a := r.post(c, l)
				still := r.ledger.stood(c.life, 0) - before
				r.ledger.answered(l, c.life, a, a.end.Sub(a.start)-still)
			}
		}
		pass(r.t, time.Duration(dice.Int64N(int64(20*time.Millisecond))))
	}
}

// post sends a letter. One that was cut off may be in or not.
func (r *queueRun) post(c *process, l *letter) (a reply) {
	var tries atomic.Int64
	ctx := httptrace.WithClientTrace(context.WithoutCancel(r.t.Context()), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { tries.Add(1) },
	})
	req, err := http.NewRequestWithContext(ctx, l.method, "http://"+c.Addr+l.uri, bytes.NewReader(l.body))
	if err != nil {
		return reply{err: err}
	}
	req.Host = l.host
	req.Header = l.header.Clone()
	a = c.roundTrip(req)
	a.tries = int(tries.Load())
	return a
}

// A deadLetter is one that the admin endpoint lists.
type deadLetter struct{ ID, Reason string }
