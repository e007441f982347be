package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fault is one bad thing that happens to one node.
type fault struct {
	kind string
	node int
	at   time.Duration // since the start of the schedule
	long time.Duration // from its begin to its end
	dice uint64        // for what else there is to choose
}

// A step is the begin or the end of a fault.
type step struct {
	fault fault
	at    time.Duration
	ends  bool
}

// whole are the faults that are about no node, or about all of them.
var whole = map[string]bool{"origin-fails": true, "all-swallow": true}

// elections are the faults after which servers elect a master. Sentinels that
// have just done so wait for half a minute before they do it again.
var elections = map[string]bool{"switch-over": true, "kill-master": true}

// electing is how far apart elections are.
const electing = 8 * time.Second

// rare are the faults of which there may be one in so long a time.
func rare(w world) (kinds map[string]bool, apart time.Duration) {
	if q, ok := w.(queueWorld); ok && len(q.mode.losing) > 0 {
		return q.mode.losing, losing
	}
	return elections, electing
}

// schedule draws the faults of length. Each kind comes once before one comes
// again. A node has one fault at a time; now and then several nodes have one.
func schedule(seed uint64, w world, length time.Duration) (faults []fault) {
	kinds, nodes := w.kinds(), w.nodes()
	dice := rand.New(rand.NewPCG(seed, uint64(nodes)))
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(dice.Int64N(int64(high-low))) }
	free := make([]time.Duration, nodes+1) // when each node is whole again; the last is for what is about none
	var left []string
	rare, rarely := rare(w)
	last := -rarely
	for at := time.Duration(0); ; {
		if len(left) == 0 {
			left = slices.Clone(kinds)
			dice.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		f := fault{kind: left[0], node: dice.IntN(nodes), long: between(120*time.Millisecond, 600*time.Millisecond), dice: dice.Uint64()}
		left = left[1:]
		if rare[f.kind] && at-last < rarely {
			continue
		}
		if whole[f.kind] {
			f.node = nodes
		}
		f.at = max(at, free[f.node])
		if f.at+f.long > length {
			return faults
		}
		faults = append(faults, f)
		if rare[f.kind] {
			last = f.at
		}
		// What it was penalized for takes a while to be over.
		free[f.node] = f.at + f.long + between(100*time.Millisecond, 500*time.Millisecond)
		at = f.at + between(50*time.Millisecond, 450*time.Millisecond)
		if w.apart() {
			at += f.long
		}
	}
}

// steps puts the begins and ends of faults in the order of their times.
func steps(faults []fault) (out []step) {
	for _, f := range faults {
		out = append(out, step{f, f.at, false}, step{f, f.at + f.long, true})
	}
	slices.SortStableFunc(out, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return out
}

// describe is the schedule for people.
func describe(faults []fault) string {
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&b, "%8s %-14s node %d for %s\n", f.at.Round(time.Millisecond), f.kind, f.node, f.long.Round(time.Millisecond))
	}
	return b.String()
}

// TestSchedule: a seed names one schedule, and no node has two faults at once.
func TestSchedule(t *testing.T) {
	w := &threeNodes{victims: make([]*victim, 3)}
	faults := schedule(7, w, 20*time.Second)
	if again := schedule(7, w, 20*time.Second); describe(faults) != describe(again) {
		t.Error("the same seed gave another schedule")
	}
	if other := schedule(8, w, 20*time.Second); describe(faults) == describe(other) {
		t.Error("another seed gave the same schedule")
	}
	busy := map[int]bool{}
	for _, s := range steps(faults) {
		if busy[s.fault.node] != s.ends {
			t.Fatalf("two faults of node %d at once:\n%s", s.fault.node, describe(faults))
		}
		busy[s.fault.node] = !s.ends
	}
	for _, kind := range w.kinds() {
		if !strings.Contains(count(faults), kind) {
			t.Errorf("no %s in 20s: %s", kind, count(faults))
		}
	}
}

// trouble knows which nodes have a fault, or had one lately. It is safe for
// concurrent use.
type trouble struct {
	mu     sync.Mutex // guards all below
	active []string   // by node: the fault that it has
	ended  []time.Time
}

func newTrouble(nodes int) *trouble {
	return &trouble{active: make([]string, nodes+1), ended: make([]time.Time, nodes+1)}
}

func (t *trouble) begin(f fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[f.node] = f.kind
}

func (t *trouble) end(f fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[f.node] = ""
	if f.kind != "origin-fails" {
		t.ended[f.node] = time.Now()
	}
}

// well reports which nodes have had no fault since then.
func (t *trouble) well(since time.Time) (nodes []bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.active) - 1
	ok := func(i int) bool {
		return (t.active[i] == "" || t.active[i] == "origin-fails") && t.ended[i].Before(since)
	}
	for i := range last {
		nodes = append(nodes, ok(i) && ok(last))
	}
	return nodes
}

// now names the faults that there are.
func (t *trouble) now() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var words []string
	for i, kind := range t.active {
		if kind != "" {
			words = append(words, fmt.Sprintf("%s of %d", kind, i))
		} else if !t.ended[i].IsZero() {
			words = append(words, fmt.Sprintf("%d well for %s", i, time.Since(t.ended[i]).Round(time.Millisecond)))
		}
	}
	return strings.Join(words, ", ")
}
