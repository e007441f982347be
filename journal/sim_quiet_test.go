package journal

import (
	"testing"
	"time"
)

// quietWorld is a world where nothing goes wrong but what its test does, with
// journals that are trimmed by their length again and again.
func quietWorld(seed uint64, nodes int) *world {
	w := newWorld(seed)
	w.end = time.Hour
	w.chaos, w.loss, w.lag, w.lagging = false, 0, 5, 12
	w.maxLen, w.vouchEvery = 120, 12
	w.maxTargets, w.maxRecords, w.maxNamed, w.strict, w.cluster = 0, 400, 0, false, false
	w.nodes, w.processes = nil, nil
	for range nodes {
		w.addNode()
	}
	for i := range 3 {
		p := &simProcess{w: w, index: i, links: make([]simLink, 8)}
		w.processes = append(w.processes, p)
		p.start()
	}
	return w
}

func (w *world) addNode() {
	w.nodes = append(w.nodes, &simNode{w: w, index: len(w.nodes), data: newSimData()})
	for _, inv := range w.invalidations {
		inv.attached = append(inv.attached, nil)
	}
}

// invalidateSome makes n invalidations, of whoever.
func (w *world) invalidateSome(n int) {
	for range n {
		t, inv := w.change()
		w.processes[w.rng.IntN(len(w.processes))].invalidate(t, inv)
		w.sleep(time.Duration(1+w.rng.IntN(20)) * time.Millisecond)
	}
}

// restartSome starts one process anew, or all.
func (w *world) restartSome() {
	if w.rng.IntN(3) == 0 {
		w.restart()
	} else {
		w.processes[w.rng.IntN(len(w.processes))].start()
	}
	w.sleep(2 * time.Second)
}

// play runs a test's own course of events to its end.
func (w *world) play(t *testing.T, seed uint64, events func()) {
	t.Helper()
	over := false
	w.spawn(nil, func() { events(); over = true })
	for end := w.now; !over && w.failure == nil; {
		end += 100 * time.Millisecond
		w.until(end)
		w.now = max(w.now, end)
	}
	for _, task := range w.queue {
		if task.stop != nil {
			task.stop()
		}
	}
	if w.failure != nil {
		t.Errorf("seed %d: %v", seed, w.failure)
	}
}

// What is stored is not declared dead in ordinary life: processes start anew, one
// or all at once, nodes are away for a while, and journals lose what is oldest.
func TestNothingIsFlushedInOrdinaryLife(t *testing.T) {
	for seed := range uint64(20) {
		w := quietWorld(seed, 3)
		w.play(t, seed, func() {
			for range 12 {
				w.invalidateSome(20 + w.rng.IntN(40))
				w.sleep(time.Second)
				n := w.nodes[w.rng.IntN(3)]
				n.down = w.rng.IntN(2) == 0
				w.invalidateSome(w.rng.IntN(40))
				n.down = w.rng.IntN(2) == 0 && n.down
				w.restartSome()
				n.down = false
				w.sleep(2 * time.Second)
			}
		})
		if w.trimmed < 100 || w.flushed > 0 || w.standIns() > 0 {
			t.Errorf("seed %d: %d records were trimmed, there are %d flushes and %d records all", seed, w.trimmed, w.flushed, w.standIns())
		}
	}
}

// A node that is new in the configuration costs nobody else anything: neither
// does it with journals that have lost their beginning.
func TestNewNodeFlushesNoOther(t *testing.T) {
	for seed := range uint64(20) {
		w := quietWorld(seed, 2)
		w.play(t, seed, func() {
			w.invalidateSome(200)
			w.sleep(2 * time.Second)
			w.addNode()
			for range 4 {
				w.restart()
				w.sleep(2 * time.Second)
				w.invalidateSome(w.rng.IntN(50))
			}
		})
		for _, n := range w.nodes[:2] {
			if n.flushes > 0 {
				t.Errorf("seed %d: node %d has %d flushes", seed, n.index, n.flushes)
			}
		}
		if w.standIns() > 0 {
			t.Errorf("seed %d: there are %d records all", seed, w.standIns())
		}
	}
}

// What somebody has trimmed costs what lies on the other nodes, once: further
// starts cost nothing.
func TestTrimmedJournalFlushesOnce(t *testing.T) {
	for seed := range uint64(20) {
		w := quietWorld(seed, 3)
		w.play(t, seed, func() {
			w.maxLen = 0
			w.invalidateSome(w.rng.IntN(30))
			w.sleep(2 * time.Second)
			w.nodes[0].trim(w.rng.IntN(2) * w.rng.IntN(10))
			for i := range 6 {
				before := w.flushed
				w.restartSome()
				w.invalidateSome(w.rng.IntN(5))
				w.sleep(2 * time.Second)
				if i > 2 && w.flushed != before {
					t.Errorf("seed %d: flushed at start %d", seed, i)
				}
			}
		})
		if w.nodes[0].flushes > 0 || w.flushed > 6 {
			t.Errorf("seed %d: %d flushes, %d of the node that was trimmed", seed, w.flushed, w.nodes[0].flushes)
		}
	}
}

// standIns counts the records `all` that nobody asked for.
func (w *world) standIns() (n int) {
	for _, node := range w.nodes {
		for _, e := range node.data.stream {
			if e.Target.Kind == All && w.byID[e.ID] == nil {
				n++
			}
		}
	}
	return n
}
