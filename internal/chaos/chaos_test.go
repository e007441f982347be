// Package chaos has two Caddys before Redis servers to which bad things happen,
// under a steady load, and checks after every response that no client sees any
// of it. It is nothing but tests:
//
//	chaos_test.go     the run: healthy, then the faults, then quiet
//	schedule_test.go  which fault comes when, from a seed
//	nodes_test.go     faults of three independent nodes
//	groups_test.go    faults of a Redis Cluster, and of a master under sentinels
//	proxy_test.go     a network that fails
//	origin_test.go    the origin, and its book of what it has said
//	load_test.go      the clients
//	judge_test.go     what an answer may be
//	invalid_test.go   who invalidates, and what must not be seen from then on
//	caddies_test.go   the two Caddys, and what they hold on to
//	dead_test.go      what one dead node of three costs (a benchmark)
//	away_test.go      nodes that are away twice, or taken out and brought back
//	connect_test.go   the ways to reach a node
//	outcomes_test.go  each thing that can go wrong on a node, and what it costs
//	cluster_test.go   a Redis Cluster at rest, and a stale replica that takes over
//	move_test.go      which keys move when nodes come and go
//	queue_test.go     the queue under the same faults
//	ledger_test.go    what was sent to it, and what came
//	lives_test.go     what its Caddys and their clients know
//	counts_test.go    what the metrics must say of that
//	arrivals_test.go  what the upstream knows of what they should say
//	storm_test.go     what waits for an upstream that comes back
//
// The long form, each mode for half a minute:
//
//	go test ./internal/chaos -run TestChaos -v -timeout 30m -for 30s
//
// A run tells its seed, and -seed runs the same faults at the same times again.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/caddy-fluster/caddy-fluster"
	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "the seed of the faults; 0 draws one")
	lengthFlag = flag.Duration("for", 0, "how long the faults of each mode go on; 0 is the short form")
)

// TestMain lets a test run this binary as Caddy itself.
func TestMain(m *testing.M) {
	caddytest.MainIfChild()
	os.Exit(m.Run())
}

// A world is a set of Redis servers, and what can happen to it.
type world interface {
	// option is the line of the Caddyfile that names the servers.
	option() string
	// kinds are the faults that can be, each once.
	kinds() []string
	// nodes is how many nodes there are that a fault can be about.
	nodes() int
	// apart says that there can be one fault at a time.
	apart() bool
	// begin and end do a fault, and undo it. They run on the test's goroutine.
	begin(f fault)
	end(f fault)
	// connections counts those of the Caddys.
	connections() int
	// publish publishes a message on a node and returns how many heard it; 0
	// where nobody can tell.
	publish(node int, message string) (heard int64)
	// shown is how many nodes a status has.
	shown() int
	// reload is what a reload changes: where in the configuration, and to what.
	// Without a node it is as at the start.
	reload(without int) (path, value string)
	// common reports whether two processes certainly have had a node in common
	// that has what was applied, by what both show of the nodes and which of them
	// have had no fault.
	common(applied []string, well []bool, shows ...map[string]nodeStatus) bool
}

// waitTimeout is what a node may cost a request.
const waitTimeout = 100 * time.Millisecond

// shortSeed is the seed of the short form, which is to say the same each time.
// The long form draws one.
const shortSeed = 5

// TestChaos: C2, C3 and C4 while nodes die, hang, fill up, lose their data and
// come back with that of yesterday.
func TestChaos(t *testing.T) {
	seed := *seedFlag
	switch {
	case seed == 0 && *lengthFlag == 0:
		seed = shortSeed
	case seed == 0:
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d: go test ./internal/chaos -run TestChaos -v -seed %d -for %s", seed, seed, *lengthFlag)
	modes := []struct {
		name  string
		open  func(t *testing.T) world
		short time.Duration
	}{
		{"nodes", openNodes, 6000 * time.Millisecond},
		{"cluster", openCluster, 2500 * time.Millisecond},
		{"sentinel", openSentinel, 2500 * time.Millisecond},
	}
	for _, m := range modes {
		// The short form has the near cache on in one of the Caddys.
		nears, length := map[string][2]string{"": {"near off", "near 4MiB"}}, m.short
		if *lengthFlag > 0 {
			nears, length = map[string][2]string{"/near": {"near 4MiB", "near 4MiB"}, "/off": {"near off", "near off"}}, *lengthFlag
		}
		for _, name := range slices.Sorted(maps.Keys(nears)) {
			t.Run(m.name+name, func(t *testing.T) { newRun(t, m.open(t), nears[name], seed).play(length) })
		}
	}
}

// A run is one world under load.
type run struct {
	t       *testing.T
	world   world
	seed    uint64
	origin  *origin
	caddies []*process
	judge   *judge
	trouble *trouble
	began   time.Time
}

func newRun(t *testing.T, w world, near [2]string, seed uint64) *run {
	r := &run{t: t, world: w, seed: seed, origin: newOrigin(t), trouble: newTrouble(w.nodes()), began: time.Now()}
	for _, n := range near {
		r.caddies = append(r.caddies, startProcess(t, r.origin, w.option(), n))
	}
	for _, c := range r.caddies {
		c.WaitUp(w.shown())
	}
	r.judge = newJudge(r)
	return r
}

// play runs the faults, and checks that all is as it was before them.
func (r *run) play(length time.Duration) {
	t := r.t
	faults := schedule(r.seed, r.world, length)
	defer func() {
		if t.Failed() {
			t.Logf("the faults:\n%s", describe(faults))
		}
	}()

	r.load(func() { r.wait(800 * time.Millisecond) })
	r.judge.calibrate()
	before := r.holdings()

	started := time.Now()
	r.load(func() {
		r.perform(faults)
		for _, c := range r.caddies {
			c.WaitUp(r.world.shown())
		}
		r.wait(300 * time.Millisecond)
	})
	t.Logf("%s: %s; %d faults (%s) in %s; %s", t.Name(), r.judge.summary(), len(faults), count(faults),
		time.Since(started).Round(time.Second), r.invalidated())
	r.judge.report()
	r.wantNoMore(before)
}

// load has the clients ask while f runs.
func (r *run) load(f func()) {
	ctx, end := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.drive(ctx)
	}()
	// Also where f fails the test: nothing may outlive it.
	defer func() { end(); <-done }()
	f()
}

// perform does the faults at their times, one step after the other. What takes
// longer than planned delays what comes after it.
func (r *run) perform(faults []fault) {
	start := time.Now()
	for _, s := range steps(faults) {
		r.wait(time.Until(start.Add(s.at)))
		if s.ends {
			r.end(s.fault)
			r.trouble.end(s.fault)
			continue
		}
		r.trouble.begin(s.fault)
		r.begin(s.fault)
	}
}

// begin does what is the same in all worlds, or has the world do it.
func (r *run) begin(f fault) {
	switch f.kind {
	case "origin-fails":
		r.origin.fail()
	case "reload":
		r.reload(f.node)
	default:
		r.world.begin(f)
	}
}

func (r *run) end(f fault) {
	switch f.kind {
	case "origin-fails":
		r.origin.recover()
	case "reload":
		r.reload(-1)
	default:
		r.world.end(f)
	}
}

// wait lets time pass, which is what a schedule is about.
func (r *run) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.t.Context().Done():
	}
}

// count is how many faults there are of each kind.
func count(faults []fault) string {
	n := map[string]int{}
	for _, f := range faults {
		n[f.kind]++
	}
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(n)) {
		words = append(words, fmt.Sprintf("%s %d", kind, n[kind]))
	}
	return strings.Join(words, ", ")
}
