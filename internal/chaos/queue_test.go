package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

func (r *queueRun) perform(faults []fault) {
	start := time.Now()
	for _, s := range steps(faults) {
		pass(r.t, time.Until(start.Add(s.at)))
		if s.ends {
			r.end(s.fault)
			r.trouble.end(s.fault)
			continue
		}
		r.trouble.begin(s.fault)
		r.ledger.fault(s.fault.kind)
		r.begin(s.fault)
	}
}

// begin does what is the same in all modes, or has the world do it.
func (r *queueRun) begin(f fault) {
	switch f.kind {
	case "caddy-kill":
		r.replace(f.dice, func(c *process) {
			r.lastWords(c.life)
			r.ledger.hold(c.life)
			c.Kill()
			r.ledger.letGo(c.life)
		})
	case "caddy-pause":
		c := r.caddy(f.dice)
		r.ledger.hold(c.life)
		c.Signal(syscall.SIGSTOP)
		r.ledger.letGo(c.life)
		pass(r.t, stopped)
		r.ledger.stood(c.life, stopped)
		c.Signal(syscall.SIGCONT)
	case "caddy-reload":
		r.reload(r.caddy(f.dice), "21ms")
	case "upstream-down":
		r.ledger.down.Store(true)
	case "upstream-slow":
		r.ledger.slow.Store(int64(3 * visibility))
	case "script-flush":
		r.redis("script", "flush")
	case "group-destroy":
		for _, key := range r.streams() {
			r.redis("xgroup", "destroy", key, "fluster")
		}
	default:
		r.world.begin(f)
	}
}

func (r *queueRun) end(f fault) {
	switch f.kind {
	case "caddy-kill", "caddy-pause", "script-flush", "group-destroy":
	case "caddy-reload":
		r.reload(r.caddy(f.dice), "20ms")
	case "upstream-down":
		r.ledger.down.Store(false)
	case "upstream-slow":
		r.ledger.slow.Store(0)
	default:
		r.world.end(f)
	}
}

// replace ends one of the Caddys and starts another.
func (r *queueRun) replace(dice uint64, end func(c *process)) {
	r.mu.Lock()
	i := dice % uint64(len(r.caddies))
	old := r.caddies[i]
	r.mu.Unlock()
	end(old)
	c := r.startCaddy()
	r.mu.Lock()
	r.caddies[i] = c
	r.mu.Unlock()
}

// reload gives a Caddy another configuration, which differs in the first wait
// before a retry.
func (r *queueRun) reload(c *process, first string) {
	a := c.admin(context.Background(), http.MethodGet, "/config/", "")
	config := strings.NewReplacer(`"first":20000000`, `"first":21000000`, `"first":21000000`, `"first":20000000`).Replace(string(a.body))
	c.reloaded.Store(time.Now().UnixNano())
	if a := c.admin(context.Background(), http.MethodPost, "/load", config); a.err != nil || a.status != http.StatusOK {
		r.t.Errorf("reloading with %s: %d %s %v", first, a.status, bytes.TrimSpace(a.body), a.err)
	}
	c.reloaded.Store(time.Now().UnixNano())
}

// victims are all servers that can be asked.
func (r *queueRun) victims() (list []*victim) {
	switch w := r.world.(queueWorld).world.(type) {
	case *threeNodes:
		return w.victims
	case durableNodes:
		return w.victims
	case *clusterWorld:
		for _, s := range slices.SortedFunc(maps.Keys(w.victims), bySocket) {
			list = append(list, w.victims[s])
		}
	case *sentinelWorld:
		for _, s := range slices.SortedFunc(maps.Keys(w.victims), bySocket) {
			list = append(list, w.victims[s])
		}
	}
	return list
}

func bySocket(a, b *redistest.Server) int { return strings.Compare(a.Addr(), b.Addr()) }

// redis sends a command to each server; one that has another fault may not take it.
func (r *queueRun) redis(args ...any) {
	for _, v := range r.victims() {
		ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
		v.client.Do(ctx, args...) //nolint:errcheck // see above
		cancel()
	}
}

// streams returns the names of the queue's streams.
func (r *queueRun) streams() (names []string) {
	for p := range 8 {
		for _, lane := range []string{"s", "/high:s"} {
			names = append(names, fmt.Sprintf("{fluster:q:q:%d}:%s", p, lane))
		}
	}
	return names
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

// depth is what the admin endpoint tells of the queue.
type depth struct {
	Ready    int64 `json:"ready"`
	InFlight int64 `json:"in_flight"`
	Delayed  int64 `json:"delayed"`
	Dead     int64 `json:"dead"`
}

// depth asks how long the queue is.
func (r *queueRun) depth() (d depth, err error) {
	a := r.caddy(0).admin(r.t.Context(), http.MethodGet, "/fluster/queues/q", "")
	if a.err != nil || a.status != http.StatusOK {
		return d, fmt.Errorf("%d %s %w", a.status, a.body, a.err)
	}
	return d, json.Unmarshal(a.body, &d)
}

// drain waits until nothing is in the queue but dead letters.
func (r *queueRun) drain() {
	r.t.Helper()
	var d depth
	var err error
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		if d, err = r.depth(); err == nil && d.Ready == 0 && d.InFlight == 0 && d.Delayed == 0 && !r.hidden() {
			return
		}
		pass(r.t, 50*time.Millisecond)
	}
	r.t.Errorf("the queue does not drain: %+v %v; hidden: %v", d, err, r.hidden())
}

// hidden reports whether there are second copies that may have to be delivered, or
// to become dead letters, as their firsts are lost.
func (r *queueRun) hidden() bool {
	if len(r.mode.losing) == 0 {
		return false
	}
	dead, seconds := map[string]bool{}, map[string]string{}
	for _, v := range r.victims() {
		ctx := r.t.Context()
		for _, id := range v.client.ZRange(ctx, "{fluster:q:q:0}:x", 0, -1).Val() {
			dead[id] = true
		}
		for _, id := range v.client.ZRange(ctx, "{fluster:q:q:0}:y", 0, -1).Val() {
			seconds[id] = v.client.HGet(ctx, "{fluster:q:q:0}:y:"+id, "s").Val()
		}
	}
	for id, state := range seconds {
		if state != "dead" || !dead[id] {
			return true
		}
	}
	return false
}

// deadLetters returns why messages are dead letters, by their ids.
func (r *queueRun) deadLetters() map[string]string {
	out := map[string]string{}
	for _, l := range r.listDead() {
		out[l.ID] = l.Reason
	}
	return out
}

// A deadLetter is one that the admin endpoint lists.
type deadLetter struct{ ID, Reason string }

// listDead lists the dead letters. One that is on two nodes is there twice.
func (r *queueRun) listDead() (list []deadLetter) {
	a := r.caddy(0).admin(r.t.Context(), http.MethodGet, "/fluster/queues/q/dead?limit=1000", "")
	if err := json.Unmarshal(a.body, &list); err != nil || a.status != http.StatusOK {
		r.t.Errorf("listing dead letters: %d %.200s %v %v", a.status, a.body, a.err, err)
	}
	return list
}

// wantNothingLeft: Q4. After a drain a node has streams that are empty, what
// belongs to dead letters, and what has a time to live.
func (r *queueRun) wantNothingLeft() {
	dead := r.deadLetters()
	// Second copies are removed when it is known that they are not needed.
	caddytest.Eventually(r.t, "nothing is left on the nodes but dead letters", func() bool {
		left := r.left(dead)
		if len(left) > 0 && time.Since(r.ledger.calmed) > 18*time.Second {
			r.t.Errorf("left on the nodes: %.2000q", left)
			return true
		}
		pass(r.t, 100*time.Millisecond)
		return len(left) == 0
	})
}

func (r *queueRun) left(dead map[string]string) (left []string) {
	for _, v := range r.victims() {
		list, err := v.client.Keys(r.t.Context(), "*:q:*").Result()
		if err != nil {
			return []string{err.Error()}
		}
		for _, key := range list {
			_, rest, _ := strings.Cut(key, "}:")
			kind, id, _ := strings.Cut(rest, ":")
			id, _, _ = strings.Cut(id, ":")
			switch {
			case strings.HasSuffix(key, ":s"):
				if n := v.client.XLen(r.t.Context(), key).Val(); n > 0 { // 0 from a replica of a cluster
					left = append(left, fmt.Sprintf("%s with %d entries", key, n))
				}
			case kind == "l": // as long as there are streams
			case kind == "x", slices.Contains([]string{"m", "b", "y", "n"}, kind) && dead[id] != "":
			case kind == "y" && len(dead) > 0: // the second copies' list has those of dead letters
			case v.client.PTTL(r.t.Context(), key).Val() > 0:
			case v.client.PTTL(r.t.Context(), key).Err() != nil: // a replica of a cluster; its master is asked as well
			default:
				left = append(left, key)
			}
		}
	}
	return left
}
