package journal

import "time"

// State is what this process makes of a node.
type State uint8

// The states of a node: Unknown → Syncing → Up → Penalty → Syncing → Up.
const (
	Unknown State = iota // not tried since the start
	Syncing              // in use, but its journal is being loaded anew; nothing on it is believed
	Up                   // its journal was read to the head
	Penalty              // out of use
)

// String returns s as the admin endpoint says it.
func (s State) String() string { return [...]string{"unknown", "syncing", "up", "penalty"}[s] }

// View is the journal of one node as this process knows it.
type View struct {
	book *Book
	name string

	// All below is guarded by book.mu.
	state      State
	head       Head // the newest entry that was read; zero: none yet
	loaded     bool // the journal was once read to its head
	nonces     history
	base       uint64 // seqs in the column are counted from it
	floor      uint64 // every target counts as seen at this seq
	seqs       column // for each row of the table, the last seq at which its target stands in this journal
	returned   uint64 // the seq of the last Return
	lastProven time.Time
	owed       numberSet        // records in the log that the journal, as far as it was read, lacks
	owedRows   map[uint32]int32 // how many of them have the target of this row; nil: too many, or not known yet
	lost       bool             // records that it may be owed can be named no more
	replaced   bool             // it was found to be another one, of which nobody has been told yet
	vouching
}

// State returns the state of the node.
func (v *View) State() State {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	return v.state
}

// Head returns the position up to which the journal was read.
func (v *View) Head() Head {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	return v.head
}

// Penalize takes the node out of use.
func (v *View) Penalize() { v.setState(Penalty) }

// Use puts the node to use, if its journal was read to the head and nothing
// happened to it since; it reports whether it did.
func (v *View) Use() bool {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	if !v.loaded {
		return false
	}
	v.state = Up
	v.book.renewLocked()
	return true
}

func (v *View) setState(s State) {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	v.state = s
	v.book.renewLocked()
}

// Sight is what seeing a node's head says.
type Sight uint8

// The results of Observe.
const (
	Proven Sight = iota // everything in the journal was known at the time of sending
	Behind              // there are records to be read
	Forked              // this is not the journal that we knew; it must be loaded anew
)

// suspect is for how long heads below the known position may be late answers,
// because the position moved while they were on their way.
const suspect = Lease / 3

// Observe takes note of the head as it was read from the node by a command
// that was sent at sent; ok is false when there was none.
//
// A head below the known position proves nothing. It may have been overtaken by
// a message, or the node has lost records (a failover to a replica that had
// less): if nothing was proven for a while, it is Behind, and Advance can tell.
func (v *View) Observe(h Head, ok bool, sent time.Time) Sight {
	b := v.book
	b.mu.RLock()
	quick := ok && v.state == Up && h == v.head && !v.lost && sent.Sub(v.lastProven) < Lease/20
	b.mu.RUnlock()
	if quick {
		return Proven
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !v.loaded:
		return Forked
	case !ok && !b.has(ruleNoHead):
		h = v.head
	case !ok || h.Inc != v.head.Inc && b.has(ruleNonce):
		v.forkLocked()
		return Forked
	case h.Seq > v.head.Seq || v.lost && b.has(ruleLost):
		return Behind
	case !v.coversLocked(h):
		v.forkLocked()
		return Forked
	case h.Seq < v.head.Seq && b.has(ruleRollback):
		if sent.Sub(v.lastProven) > suspect {
			return Behind
		}
		return Proven
	}
	v.provenLocked(sent)
	return Proven
}

func (v *View) provenLocked(sent time.Time) {
	if sent.After(v.lastProven) {
		v.lastProven = sent
	}
	v.weighLocked()
	v.book.renewLocked()
}

// coversLocked reports whether h is a position that was read.
func (v *View) coversLocked(h Head) bool {
	if !v.book.has(ruleNonce) {
		return h.Seq <= v.head.Seq
	}
	return h.Inc == v.head.Inc && h.Inc != 0 && (h == v.head || v.nonces.has(h.Seq, h.Nonce))
}

// forkLocked forgets the journal. Records may have been lost with it that this
// process never read, so what is in the near cache and what is under way goes too.
func (v *View) forkLocked() {
	if v.head.Seq > 0 {
		v.book.forgetLocked(ruleForget)
		v.replaced = true
	}
	v.resetLocked()
	if v.state == Up {
		v.state = Syncing
	}
	v.book.renewLocked()
}

// Replaced reports, once, whether the journal was found to be another one than the one
// that was known: by who reads it, or by anybody who sees its head. What lies on the node
// may then be from another time. Who asks after From and before Advance is told before
// anything that lies there is valid again.
func (v *View) Replaced() bool {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	was := v.replaced
	v.replaced = false
	return was
}

func (v *View) resetLocked() {
	v.beginAtLocked(Head{})
	v.oweAllLocked()
}

// beginAtLocked makes h the newest entry that is known, and the only one.
func (v *View) beginAtLocked(h Head) {
	v.head, v.loaded = h, false
	v.base, v.floor, v.seqs, v.returned = h.Seq, 0, column{}, 0
	v.nonces = newHistory(v.book.table.limit, h.Seq+1)
	v.beginVouchingLocked(h.Seq + 1)
}

// Heard takes note of an entry that came by a message of the node, and reports
// whether it is a known one or follows the newest known, as e.After says; else
// the journal is to be read. Seq alone does not tell: the node may have lost
// entries and be writing others in their place. It proves nothing: messages are
// late. The record is learnt in any case; wherever it is not read, it is owed.
func (v *View) Heard(inc uint64, e Entry) bool {
	b := v.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if !e.fits() {
		return false
	}
	known := v.loaded && inc == v.head.Inc
	switch {
	case known && v.coversLocked(Head{Inc: inc, Seq: e.Seq, Nonce: e.Nonce}):
		return true
	case known && e.Seq == v.head.Seq+1 && (e.After == v.head.Nonce || !b.has(ruleAfter)):
		v.pushLocked(e)
		return true
	}
	if !e.Target.isLocal() {
		b.learnLocked(e.Record, nil)
	}
	return false
}

// Stamp returns the stamp of a fill that begins now and will lie on this node;
// ok is false while the node was not proven within Lease, and then the response
// must not be stored on it.
func (v *View) Stamp(now time.Time) (s Stamp, ok bool) {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	return v.head, v.state == Up && v.loaded && now.Sub(v.lastProven) < Lease
}

// ValidNode judges a response that lies on this node, right after Observe said
// Proven of the head that was read together with it. The caller asks Leased, as
// for a response of the near cache: an invalidation may be known to another
// node alone.
func (v *View) ValidNode(s Stamp, sel *Selectors) Validity {
	b := v.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	if v.state != Up || !v.coversLocked(s) || !v.believedLocked() || v.isFlushedLocked(s) || s.Seq < v.floor && b.has(ruleTable) && b.has(ruleFloor) {
		return Dead
	}
	since := uint32(s.Seq - min(s.Seq, v.base))
	newer := func(row uint32) bool { return v.seqs.at(row) > since && b.has(ruleTable) }
	owed := func(row uint32) bool { return v.owedRows[row] > 0 && b.has(ruleOwed) }
	// Soft records count as hard while they are owed: until they are in the
	// journal nobody can tell what was stored before them from what was stored after.
	switch {
	case len(v.owedRows) > 0 && (b.selectedLocked(sel, hard, owed) || b.selectedLocked(sel, soft, owed)):
		return Dead
	case b.selectedLocked(sel, hard, newer):
		return Dead
	case v.returned > s.Seq:
		return Doubted
	case b.selectedLocked(sel, soft, newer):
		return Stale
	}
	return Valid
}
