package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What each Caddy must have counted, by what its clients and the upstream know. In a
// run without faults each number is exact; what a fault leaves unknown makes it bounds:
//
//	accepted_total          the answers 202 that are no replay, on the nodes from
//	                        which the messages came. A request without an answer may
//	                        have been accepted
//	refused_total           the other answers, by their status. Likewise
//	failed_over_total       at most what other nodes than this one took; at least half
//	                        of what came from two nodes: the first of them had it and
//	                        did not say so (few are put on the first again)
//	delivered_total         what the upstream took, from which node (history.count)
//	dead_total              what the upstream refused for good
//	retried_total           the attempts whose error came with the next one
//	suspected_duplicates…   the attempts that came though nothing was recorded of those
//	                        before, and what another worker took away, by the log
//	released_total          what the log says
//	seconds_count           delivered_total
//	messages, oldest_…      at the end none but dead letters, and no age
//
// What the upstream did not see may have been retried by any of them, and what a worker
// gave up to record when it was stopped is counted by none. One that was killed has
// counted no more than this shortly before, and at least what was answered 202 until then.

// bounds are what a number may be.
type bounds struct{ low, high int }

// String is the bounds for people.
func (b bounds) String() string {
	if b.low == b.high {
		return strconv.Itoa(b.low)
	}
	return fmt.Sprintf("%d to %d", b.low, b.high)
}

// counts are what may have been counted, as readCounts names it. What is not there is
// zero.
type counts map[string]bounds

func (c counts) add(key string, low, high int) {
	b := c[key]
	c[key] = bounds{b.low + low, b.high + high}
}

// widen widens all that begin with prefix: those that are expected, and those that were
// counted.
func (c counts) widen(prefix string, lower, higher int, got map[string]int) {
	for key := range c.with(got) {
		if strings.HasPrefix(key, prefix) {
			c[key] = bounds{max(c[key].low-lower, 0), c[key].high + higher}
		}
	}
}

// with returns the names of what is expected and of what was counted.
func (c counts) with(got map[string]int) map[string]bool {
	keys := map[string]bool{}
	for key := range c {
		keys[key] = true
	}
	for key := range got {
		keys[key] = true
	}
	return keys
}

// differences returns what was counted otherwise.
func (c counts) differences(got map[string]int) (out []string) {
	for _, key := range slices.Sorted(maps.Keys(c.with(got))) {
		if n := got[key]; n < c[key].low || n > c[key].high {
			out = append(out, fmt.Sprintf("%s is %d, want %s", key, n, c[key]))
		}
	}
	return out
}

// before returns what may have been counted some time before.
func (c counts) before(known int) counts {
	out := counts{}
	for key, b := range c {
		out[key] = bounds{0, b.high}
	}
	out["accepted_total"] = bounds{known, c["accepted_total"].high}
	return out
}

// counters are those that only grow.
func counters(got map[string]int) map[string]int {
	out := maps.Clone(got)
	maps.DeleteFunc(out, func(key string, _ int) bool { return !strings.Contains(key, "_total") })
	return out
}

// expected returns what a Caddy may have counted that says it has counted got.
func (r *queueRun) expected(x *life, got map[string]int) counts {
	losing := len(r.mode.losing) > 0
	said := x.log()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	all := map[string]counts{}
	for _, l := range r.lives {
		all[l.name] = counts{}
	}
	unseen := 0
	for _, h := range histories(r.ledger.arrivals, losing) {
		unseen += h.unseen()
		h.count(all, losing)
	}
	c := all[x.name]
	for _, node := range said.lost {
		c.add("suspected_duplicates_total "+node, 1, 1)
	}
	// One that was lost, or handed back, may have been suspected and not sent before.
	c.widen("suspected_duplicates_total ", 0, unseen+len(said.lost)+said.released, got)
	c.widen("retried_total ", said.gaveUp, unseen, got)
	c.widen("delivered_total ", said.gaveUp, 0, got)
	c.widen("dead_total ", said.gaveUp, 0, got)
	c.add("released_total", said.released, said.released)
	for key := range got {
		if node, ok := strings.CutPrefix(key, "delivered_total "); ok {
			c["seconds_count "+node] = bounds{got[key], got[key]}
		}
	}
	_, cluster := r.world.(queueWorld).world.(*clusterWorld)
	c.accept(x, placesOf(r.ledger.arrivals), got, acceptRules{losing: losing, named: !cluster})
	return c
}

// placesOf returns the nodes from which messages came, by their ids.
func placesOf(arrivals []*arrival) map[string]map[string]bool {
	nodes := map[string]map[string]bool{}
	for _, a := range arrivals {
		if nodes[a.id] == nil {
			nodes[a.id] = map[string]bool{}
		}
		nodes[a.id][a.node] = true
	}
	return nodes
}

// acceptRules say what can be known of where a message was put.
type acceptRules struct {
	losing bool // the node may have lost it before it came from there
	named  bool // each partition has a name of its own
}

// accept adds what a Caddy may have counted of what its clients sent. places are from
// where messages came.
func (c counts) accept(x *life, places map[string]map[string]bool, got map[string]int, rules acceptRules) {
	c.add("accepted_total", len(x.accepted), len(x.accepted))
	two := 0 // came from two nodes
	for _, id := range x.accepted {
		from := places[id]
		two += least(len(from) == 2)
		for node := range from {
			c.add("accepted_total "+node, least(len(from) == 1 && !rules.losing), 1)
		}
	}
	if rules.losing {
		c.widen("accepted_total ", 0, len(x.accepted), got)
	}
	c.widen("accepted_total", 0, x.unanswered, got)
	for _, status := range refusals {
		n := x.answers[status]
		c[fmt.Sprint("refused_total ", status)] = bounds{n, n}
	}
	c.widen("refused_total ", 0, x.unanswered, got)
	most := c["accepted_total"].high
	c["failed_over_total"] = bounds{least(!rules.losing) * two / 2, most}
	for key := range got {
		node, ok := strings.CutPrefix(key, "failed_over_total ")
		switch {
		case ok && rules.named:
			c[key] = bounds{0, most - c["accepted_total "+node].low}
		case ok:
			c[key] = bounds{0, most}
		}
	}
}

// miscounts returns what the Caddys have counted otherwise than they should, and how
// many numbers could be told exactly of those who live.
func (r *queueRun) miscounts() (wrong []string, strict string) {
	partitions, err := r.partitions()
	if err != nil {
		return []string{err.Error()}, ""
	}
	dead, exact, all := len(r.listDead()), 0, 0
	for _, x := range r.lives {
		if x.killed {
			if x.last != nil {
				wrong = append(wrong, blame(x.name, r.expected(x, x.last).before(x.known).differences(counters(x.last)))...)
			}
			continue
		}
		got, err := x.scrape(r.t.Context())
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		c := r.expected(x, got)
		c["messages dead"], c["partitions"] = bounds{dead, dead}, bounds{partitions, partitions}
		wrong = append(wrong, blame(x.name, c.differences(got))...)
		for _, b := range c {
			exact, all = exact+least(b.low == b.high), all+1
		}
	}
	return wrong, fmt.Sprintf("%d of %d numbers exactly", exact, all)
}

// blame says whose differences these are.
func blame(name string, differences []string) (out []string) {
	for _, d := range differences {
		out = append(out, name+": "+d)
	}
	return out
}

// partitions returns how many there are, all of which tell how they are.
func (r *queueRun) partitions() (int, error) {
	a := r.caddy(0).admin(r.t.Context(), http.MethodGet, "/fluster/queues/q", "")
	var q struct {
		Partial bool
		Nodes   []struct{ Node string }
	}
	if a.err != nil || json.Unmarshal(a.body, &q) != nil || q.Partial {
		return 0, fmt.Errorf("GET /fluster/queues/q: %d %s %v", a.status, bytes.TrimSpace(a.body), a.err)
	}
	return len(q.Nodes), nil
}

// compareCounts compares what the Caddys have counted with the ledger. Who was told
// late by a node that a message is ended counts it late.
func (r *queueRun) compareCounts() {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	wrong, strict := r.miscounts()
	for len(wrong) > 0 && time.Now().Before(deadline) && r.t.Context().Err() == nil {
		pass(r.t, 200*time.Millisecond)
		wrong, strict = r.miscounts()
	}
	for _, w := range wrong {
		r.t.Errorf("metrics: %s", w)
	}
	r.t.Logf("%s: compared the metrics, %s", r.t.Name(), strict)
}

// TestCounts: each number that is not what it may be is told.
func TestCounts(t *testing.T) {
	got, err := readCounts(`# TYPE caddy_fluster_queue_accepted_total counter
caddy_fluster_queue_accepted_total{node="a",pool="",queue="q"} 3
caddy_fluster_queue_accepted_total{node="b",pool="",queue="q"} 2
caddy_fluster_queue_failed_over_total{node="a",pool="",queue="q"} 1
caddy_fluster_queue_refused_total{pool="",queue="q",reason="mismatch"} 1
caddy_fluster_queue_refused_total{pool="",queue="q",reason="no_node"} 2
caddy_fluster_queue_refused_total{pool="",queue="q",reason="closed"} 1
caddy_fluster_queue_seconds_bucket{destination="",node="a",pool="",queue="q",le="0.1"} 7
caddy_fluster_queue_seconds_count{destination="",node="a",pool="",queue="q"} 1
caddy_fluster_queue_oldest_seconds{node="a",partition="0",pool="",queue="q"} 0.2
`)
	if err != nil {
		t.Fatal(err)
	}
	x := &life{name: "x", accepted: []string{"1", "2", "3", "4"}, unanswered: 1, answers: map[int]int{422: 1, 503: 3}}
	places := map[string]map[string]bool{"1": {"a": true}, "2": {"a": true}, "3": {"a": true, "b": true}, "4": {"b": true}}
	differences := func(got map[string]int) []string {
		c := counts{"seconds_count a": {1, 1}, "partitions": {1, 1}}
		c.accept(x, places, got, acceptRules{named: true})
		return c.differences(got)
	}
	if d := cmp.Diff([]string{"oldest_seconds is 1, want 0"}, differences(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	delete(got, "oldest_seconds")
	for key, wrong := range map[string][2]int{
		"accepted_total": {3, 6}, "accepted_total a": {1, 5}, "accepted_total b": {0, 4}, "failed_over_total a": {-1, 4},
		"failed_over_total c": {-1, 6}, "refused_total 503": {2, 5}, "refused_total 422": {0, 3}, "refused_total 413": {-1, 2},
		"seconds_count a": {0, 2}, "delivered_total a": {-1, 1},
	} {
		for _, n := range wrong {
			other := maps.Clone(got)
			other[key] = n
			if d := differences(other); len(d) != 1 || !strings.HasPrefix(d[0], fmt.Sprintf("%s is %d,", key, n)) {
				t.Errorf("with %s = %d: %q", key, n, d)
			}
		}
	}
}
