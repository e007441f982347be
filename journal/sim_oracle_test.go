package journal

import (
	"fmt"
	"slices"
	"time"
)

// What the oracle knows: the origin's version of each resource is raised before
// an invalidation is made, so a response of a lower version was fetched before.
// An invalidation is in force from the moment on that a node has its record: it
// may be acknowledged then, at the earliest. Served when a process P serves a
// response that the invalidation I selects and that is older, any of these is a
// violation:
//
//  1. P knows I.
//  2. The response was read on a node whose journal had I at that time.
//  3. The journal of a node that P has not found out of order has had I for Δ.
//     P may not have tried that node at all, or holds it to be up: either way
//     it must not serve before it has read there. This is the bound "shares a
//     reachable node directly": a node that P holds penalized is one that it
//     cannot reach. What lies between the two is bounded by the penalty. It
//     holds also if I was trimmed from that journal since: P cannot know what no
//     journal tells any more, but it can know that there was something.
//  4. The response is of the near cache and P fetched it itself, and a node that
//     P had up got I more than Δ ago and is up in P now, even if it has lost all
//     its data since: P has either read I there or noticed the loss. It does not
//     hold for what lies on another node, if nobody who lives knows I; nor where
//     the node went back to a state before I (a failover): only WAIT helps there.
//
//  5. P made I itself.
//  6. I was acknowledged more than Δ ago; a node that whoever did so had in use
//     then, and that has lost nothing since it took I, is up in P. This is what
//     200 means.
//  7. With quorum strict: I was acknowledged more than Δ ago, and every node that
//     had it then has it still, whatever P can reach.
//
// Whatever was invalidated, it is a violation to serve from a cache
//
//  8. with quorum strict, less than a majority of the nodes proven within Δ;
//  9. with no node up for longer than max_blind (and Δ).
//
// And when the trouble is over for 3 s, every node is up in every process and is
// owed nothing (the bound "Δ per relay"), and each I that is anywhere is
// everywhere: the checks are then 1 with P being anybody.

// appended notes that the node has the record.
func (w *world) appended(n *simNode, r Record) {
	inv := w.byID[r.ID]
	if inv == nil {
		return
	}
	if _, ok := n.data.since[inv]; ok {
		return
	}
	n.data.since[inv] = w.now
	for _, p := range w.processes {
		if p.places[n.index].view.state == Up {
			inv.attached[n.index] = append(inv.attached[n.index], simAttached{p, p.gen, w.now})
		}
	}
}

// covered notes that p trusts another record to be on all nodes in use in
// place of the one that it made of a message.
func (w *world) covered(p *simProcess, inv *simInvalidation) {
	for i, pl := range p.places {
		if _, ok := w.nodes[i].data.since[inv]; !ok && pl.inUse {
			w.nodes[i].data.since[inv] = w.now
		}
	}
}

// served is the assertion after every response: p serves it for url, from the
// near cache or as it was read on the node on at the time at.
func (w *world) served(p *simProcess, url int, it simItem, on *simNode, at time.Duration) {
	version := it.version
	if on == nil {
		w.nearServed++
	} else {
		w.nodeServed++
	}
	if why := w.doubtful(p); why != "" {
		w.fail("process %d serves version %d of %d: %s", p.index, version, url, why)
	}
	for _, inv := range w.invalidations {
		if inv.need[url] <= version {
			continue
		}
		if why := w.violation(p, inv, it, on, at); why != "" {
			w.fail("process %d serves version %d of %d after invalidation %d (%v, %v): %s", p.index, version, url, inv.number, inv.target, inv.ids, why)
		}
	}
}

// acknowledge notes that p has promised the invalidation.
func (w *world) acknowledge(p *simProcess, inv *simInvalidation, has map[*simPlace]bool) {
	w.note("invalidation %d is acknowledged by process %d", inv.number, p.index)
	inv.acked = w.now
	for _, pl := range p.places {
		if !pl.inUse && !has[pl] {
			continue
		}
		s := simPromise{pl.node, pl.node.losses, has[pl]}
		if _, ok := pl.node.data.since[inv]; s.has && !ok {
			s.losses = -1 // it took the record, and lost it while others were waited for
		}
		inv.promised = append(inv.promised, s)
	}
}

// doubtful says why the process may serve nothing from a cache at all.
func (w *world) doubtful(p *simProcess) string {
	proven, up, last := 0, 0, p.born
	for i, pl := range p.places {
		if p.proved[i] >= 0 {
			last = max(last, p.proved[i])
			if p.proved[i] > w.now-Lease {
				proven++
			}
		}
		if pl.view.state != Penalty {
			up++
		}
	}
	switch {
	case w.strict && proven <= len(p.places)/2:
		return fmt.Sprintf("it has proven %d of %d nodes", proven, len(p.places))
	case up > 0:
	case w.maxBlind >= 0 && w.now-last >= max(Lease, w.maxBlind):
		return fmt.Sprintf("it is blind since %v", last)
	default:
		w.blindServed++
	}
	return ""
}

// broken says how a promise that was made of the invalidation is broken.
func (w *world) broken(p *simProcess, inv *simInvalidation) string {
	if inv.acked == 0 || inv.acked > w.now-Lease {
		return ""
	}
	kept := true
	for _, s := range inv.promised {
		if s.losses == s.node.losses && p.places[s.node.index].view.state == Up {
			return "it was acknowledged when node " + string(rune('a'+s.node.index)) + " was in use"
		}
		if since, ok := s.node.data.since[inv]; s.has && (!ok || since > inv.acked) {
			kept = false
		}
	}
	if w.strict && kept {
		return "it was acknowledged"
	}
	return ""
}

func (w *world) violation(p *simProcess, inv *simInvalidation, it simItem, on *simNode, at time.Duration) string {
	if p.knows(inv) {
		return "it knows it"
	}
	if inv.made == p && inv.madeIn == p.gen {
		return "it made it"
	}
	if why := w.broken(p, inv); why != "" {
		return why
	}
	if on != nil {
		if since, ok := on.data.since[inv]; ok && since < at {
			return "the node had it"
		}
	}
	for i, n := range w.nodes {
		state := p.places[i].view.state
		if since, ok := n.data.since[inv]; ok && since <= w.now-Lease && (state == Up || state == Unknown) {
			return "node " + string(rune('a'+i)) + " has had it"
		}
		for _, a := range inv.attached[i] {
			if on == nil && !it.shared && a.p == p && a.gen == p.gen && a.at < w.now-Lease && state == Up {
				return "node " + string(rune('a'+i)) + " once had it"
			}
		}
	}
	if w.now >= w.end-Lease/2 && w.anywhere(inv) {
		return "it is known"
	}
	return ""
}

// inStream reports whether the journal still tells of the invalidation.
func (d *simData) inStream(inv *simInvalidation) bool {
	return slices.ContainsFunc(d.stream, func(e Entry) bool { return slices.Contains(inv.ids, e.ID) })
}

func (p *simProcess) knows(inv *simInvalidation) bool {
	for _, id := range inv.ids {
		if _, ok := p.book.log.peek(Record{ID: id, Target: inv.target}); ok {
			return true
		}
	}
	return false
}

func (w *world) anywhere(inv *simInvalidation) bool {
	for _, p := range w.processes {
		if p.knows(inv) {
			return true
		}
	}
	for _, n := range w.nodes {
		if _, ok := n.data.since[inv]; ok && n.data.inStream(inv) {
			return true
		}
	}
	return false
}

// settled is the assertion after the trouble.
func (w *world) settled() {
	for _, p := range w.processes {
		for i, pl := range p.places {
			if s := pl.view.State(); s != Up || pl.view.Owes() > 0 || pl.view.lost {
				w.fail("process %d has node %c %v, which is owed %d (lost %v)", p.index, 'a'+i, s, pl.view.Owes(), pl.view.lost)
			}
			if pl.view.Head() != w.nodes[i].data.head {
				w.fail("process %d knows node %c to %v, not to %v", p.index, 'a'+i, pl.view.Head(), w.nodes[i].data.head)
			}
		}
	}
}
