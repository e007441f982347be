package journal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The simulation runs the real Book and View in several processes against
// scripted nodes, on a simulated clock, in a random order of events that a seed
// repeats:
//
//	go test ./journal -run TestSimulation -seed 4711 -schedules 1

var (
	simSeed      = flag.Uint64("seed", 0, "first seed of the simulation; 0: random")
	simTell      = flag.Bool("tell", false, "print what happens in the simulation")
	simSchedules = flag.Int("schedules", 500, "schedules that the simulation runs")
)

// What a process does wrong on purpose, one bit each; see rules for what the
// package does.
const (
	mirrorStamp    rules = 1 << iota // a stamp is taken before the request to the origin
	mirrorLearn                      // and so is the learn number
	mirrorRelay                      // what is owed is relayed
	mirrorPoll                       // heads are polled
	mirrorSync                       // a node is used only after its journal was read
	mirrorTogether                   // a response is read together with the head
	mirrorLeased                     // the leases are asked for a node's responses too
	mirrorSent                       // a proof counts from the time of sending
	mirrorNonce                      // a nonce belongs to an append, not to a record
	mirrorName                       // a message makes one record, whoever hears it
	mirrorKeyInc                     // a record key belongs to one inc
	mirrorTwice                      // a node takes a record once
	mirrorFirst                      // an invalidation is learnt here before it is sent
	mirrorAck                        // it is acknowledged when every node in use has it
	mirrorMajority                   // with quorum strict, when more than half of all have it
	mirrorFollower                   // a follower asks whether anything was learnt since the forward began
	mirrorClock                      // leases go on while the process is suspended
)

// A schedule is so long a time of trouble, and then of peace.
const (
	simTrouble = 4 * time.Second
	simEnd     = 7 * time.Second
)

// simURLs are the resources of the origin; simTags the tag of each.
var (
	simURLs = []string{"https://a.example/1", "https://a.example/2", "https://b.example/1"}
	simTags = []string{"x", "y", "x"}

	simSelectors = func() (s []Selectors) {
		for i, u := range simURLs {
			s = append(s, NewSelectors(u, simTags[i:i+1]))
		}
		return s
	}()
)

// simTargets are what is invalidated, and the resources that each selects.
var simTargets = []struct {
	Target
	urls []int
}{
	{Target{Kind: URL, Value: simURLs[0]}, []int{0}},
	{Target{Kind: URL, Value: simURLs[1]}, []int{1}},
	{Target{Kind: URL, Value: simURLs[2], Soft: true}, []int{2}},
	{Target{Kind: Tag, Value: "x"}, []int{0, 2}},
	{Target{Kind: Tag, Value: "y", Soft: true}, []int{1}},
	{Target{Kind: Prefix, Value: "https://a."}, []int{0, 1}},
	{Target{Kind: Prefix, Value: "//b.example/"}, []int{2}},
	{Target{Kind: Host, Value: "b.example"}, []int{2}},
	{Target{Kind: All}, []int{0, 1, 2}},
}

// simInvalidation is one invalidation as the oracle knows it.
type simInvalidation struct {
	number   int
	target   Target
	need     map[int]int // URL → the version that the origin had when it was made
	ids      []string
	made     *simProcess // who made it, in its life number madeIn
	madeIn   int
	acked    time.Duration // when it was acknowledged; 0: never
	promised []simPromise  // by the acknowledgement
	// attached: for each node, the processes that had the node up when it
	// first got the record, and when that was.
	attached [][]simAttached
}

// simPromise is a node that was in use, or had the record, when an invalidation
// was acknowledged.
type simPromise struct {
	node   *simNode
	losses int
	has    bool
}

type simAttached struct {
	p   *simProcess
	gen int
	at  time.Duration
}

// world is one schedule.
type world struct {
	rng     *rand.Rand
	without rules // of the package
	wrong   rules // of the mirror
	now     time.Duration
	end     time.Duration
	queue   tasks
	count   int
	current *task
	failure error
	chaos   bool

	nodes         []*simNode
	processes     []*simProcess
	versions      []int // of the origin's resources
	invalidations []*simInvalidation
	byID          map[string]*simInvalidation

	troubles               uint32 // those that come in this schedule
	noNear                 bool   // the near caches are off
	lagging                int    // one in so many steps takes long
	loss                   float64
	lag, slowest           int // ms
	maxLen                 int
	maxTargets, maxRecords int
	maxNamed               int
	vouchEvery             int
	maxBlind               time.Duration
	strict                 bool
	cluster                bool // the nodes are parts of two servers
	blindServed            int
	writers                int
	nearServed, nodeServed int
	trimmed, flushed       int // records; what lay on a node
}

func (w *world) off(r rules) bool { return w.wrong&r != 0 }
func (w *world) time() time.Time  { return time.Unix(1e9, 0).Add(w.now) }
func (w *world) random() uint64   { return w.rng.Uint64() | 1 }
func (w *world) writer() string   { w.writers++; return "w" + strconv.Itoa(w.writers) }
func (w *world) latency() time.Duration {
	if w.rng.IntN(w.lagging) == 0 {
		return time.Duration(w.rng.IntN(w.lag)) * time.Millisecond
	}
	return time.Duration(100+w.rng.IntN(2000)) * time.Microsecond
}

func newWorld(seed uint64) *world {
	w := &world{end: simEnd, rng: rand.New(rand.NewPCG(seed, 1)), chaos: true, byID: map[string]*simInvalidation{}, versions: make([]int, len(simURLs))}
	pick := func(n ...int) int { return n[w.rng.IntN(len(n))] }
	w.loss = float64(pick(0, 5, 20, 80)) / 100
	w.lag = pick(5, 50, 90)
	w.lagging = pick(2, 6, 12)
	// Few kinds of trouble at a time go further than all of them at once.
	w.troubles = w.rng.Uint32() | w.rng.Uint32()&-uint32(pick(0, 1))
	w.noNear = pick(0, 0, 1) == 1
	w.slowest = pick(20, 200, 1500)
	w.maxLen = pick(0, 0, 4, 12)
	w.maxTargets = pick(0, 0, 0, 5)
	w.maxNamed = pick(0, 0, 2)
	w.vouchEvery = pick(0, 6, 12)
	w.maxBlind = time.Duration(pick(300, 1500, 60_000, -1)) * time.Millisecond
	w.strict = pick(0, 0, 1) == 1
	w.cluster = pick(0, 0, 1) == 1
	if w.maxRecords = pick(0, 0, 0, 24); w.maxLen == 0 {
		w.maxRecords = 0 // a log is longer than a journal
	}
	nodes := 1 + w.rng.IntN(4)
	if w.strict {
		nodes = 3 + w.rng.IntN(3)
	}
	for i := range nodes {
		w.nodes = append(w.nodes, &simNode{w: w, index: i, data: newSimData()})
	}
	for i := range 3 + w.rng.IntN(2) {
		w.processes = append(w.processes, &simProcess{w: w, index: i, links: make([]simLink, len(w.nodes))})
	}
	return w
}

// simulate runs one schedule: trouble, then peace, and the end. It returns what
// was violated.
func simulate(seed uint64, without, wrong rules) (w *world, err error) {
	w = newWorld(seed)
	w.without, w.wrong = without, wrong
	for _, p := range w.processes {
		p.start()
	}
	w.spawn(nil, w.trouble)
	w.until(simTrouble)
	w.peace()
	w.until(simEnd)
	if w.failure == nil {
		w.settled()
	}
	for _, t := range w.queue {
		if t.stop != nil {
			t.stop()
		}
	}
	return w, w.failure
}

// note tells what happens, for one who looks into a schedule with -tell.
func (w *world) note(format string, args ...any) {
	if *simTell {
		fmt.Printf("%v "+format+"\n", append([]any{w.now}, args...)...)
	}
}

func (w *world) fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("at %v: "+format, append([]any{w.now}, args...)...)
	}
}

// trouble is what happens to all.
func (w *world) trouble() {
	every := 10 + w.rng.IntN(150)
	for {
		w.sleep(time.Duration(w.rng.IntN(every)) * time.Millisecond)
		if !w.chaos {
			return
		}
		n, p := w.nodes[w.rng.IntN(len(w.nodes))], w.processes[w.rng.IntN(len(w.processes))]
		what := w.rng.IntN(29)
		if what < 25 && w.troubles>>what&1 == 0 {
			continue
		}
		w.note("trouble %d with process %d and node %d", what, p.index, n.index)
		switch what {
		default:
			t, inv := w.change()
			p.invalidate(t, inv)
		case 0, 1, 2, 3, 4:
			if t, inv := w.change(); !n.down {
				n.publish(simMessage{user: inv, target: t})
			}
		case 5, 6:
			link := simLink(w.rng.IntN(3))
			for _, part := range n.together() {
				p.links[part.index] = link
			}
		case 7, 8:
			clear(p.links)
		case 9:
			n.setDown(!n.down)
		case 10:
			n.setDown(false)
		case 11:
			n.flush()
		case 12:
			n.setDown(true)
			n.flush()
		case 13:
			n.restore()
		case 14, 15:
			n.save()
		case 16:
			p.start()
		case 17: // an invalidator that dies half way
			t, inv := w.change()
			p.invalidate(t, inv)
			w.sleep(w.latency())
			p.start()
		case 18:
			n.evict()
		case 19: // a process that is suspended for a while
			p.freeze(min(w.now+time.Duration(w.rng.IntN(2500))*time.Millisecond, simTrouble))
		case 20: // a process that is cut off from all nodes
			link := simLink(1 + w.rng.IntN(2))
			for i := range p.links {
				p.links[i] = link
			}
		case 21: // a network that falls in two
			for _, p := range w.processes {
				side := w.rng.IntN(2)
				for _, n := range w.nodes {
					p.links[n.index] = linkUp
					if n.server()&1 != side {
						p.links[n.index] = linkRefused
					}
				}
			}
		case 22: // somebody shortens a journal
			n.trim(w.rng.IntN(len(n.data.stream) + 1))
		case 23: // nobody is left who remembers
			w.restart()
		case 24: // both, after something that a node does not get to know
			n.setDown(true)
			t, inv := w.change()
			p.invalidate(t, inv)
			w.sleep(time.Duration(w.rng.IntN(800)) * time.Millisecond)
			for _, n := range w.nodes {
				n.trim(w.rng.IntN(4))
			}
			w.restart()
			n.setDown(false)
		}
	}
}

func (w *world) restart() {
	for _, p := range w.processes {
		p.start()
	}
}

// change bumps what an invalidation selects at the origin, and makes it.
func (w *world) change() (Target, *simInvalidation) {
	t := simTargets[w.rng.IntN(len(simTargets))]
	inv := &simInvalidation{number: len(w.invalidations), target: t.Target, need: map[int]int{}, attached: make([][]simAttached, len(w.nodes))}
	for _, u := range t.urls {
		w.versions[u]++
		inv.need[u] = w.versions[u]
	}
	w.invalidations = append(w.invalidations, inv)
	w.note("invalidation %d: %v %v", inv.number, t.Target, inv.need)
	return t.Target, inv
}

func (w *world) own(r Record, inv *simInvalidation) {
	if other, ok := w.byID[r.ID]; ok && other != inv {
		w.fail("record %s is of invalidations %d and %d", r.ID, other.number, inv.number)
	} else if !ok {
		w.byID[r.ID] = inv
		inv.ids = append(inv.ids, r.ID)
	}
}

func (w *world) peace() {
	w.chaos, w.lagging, w.lag = false, 12, 5
	for _, n := range w.nodes {
		n.down = false
	}
	for _, p := range w.processes {
		clear(p.links)
	}
}

func TestSimulation(t *testing.T) {
	first := *simSeed
	if first == 0 {
		first = rand.Uint64N(1 << 40)
	}
	t.Logf("seeds from %d", first)
	var next, near, node, blind atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !t.Failed() {
				i := next.Add(1) - 1
				if i >= int64(*simSchedules) {
					return
				}
				w, err := simulate(first+uint64(i), 0, 0)
				if err != nil {
					t.Errorf("-seed %d -schedules 1: %v", first+uint64(i), err)
				}
				near.Add(int64(w.nearServed))
				node.Add(int64(w.nodeServed))
				blind.Add(int64(w.blindServed))
			}
		})
	}
	wg.Wait()
	t.Logf("%d responses of near caches (%d without any node) and %d of nodes were checked", near.Load(), blind.Load(), node.Load())
	if near.Load() == 0 || node.Load() == 0 || blind.Load() == 0 && *simSchedules > 100 {
		t.Error("nothing was served from a cache")
	}
}
