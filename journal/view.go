package journal

import (
	"time"
)

// State is what this process makes of a node.
type State uint8

// The states of a node: Unknown → Syncing → Up → Penalty → Syncing → Up.
const (
	Unknown State = iota // not tried since the start
	Syncing              // its journal is being loaded; nothing on it is believed
	Up                   // its journal was read to the head
	Penalty              // out of use
)

func (s State) String() string { return [...]string{"unknown", "syncing", "up", "penalty"}[s] }

// View is the journal of one node as this process knows it.
type View struct {
	book *Book
	name string

	// All below is guarded by book.mu.
	state      State
	head       Head // the newest entry that was read; zero: none yet
	loaded     bool // the journal was once read to its head
	nonces     []uint64
	first      uint64 // the seq of nonces[0]
	table      marks  // target → the last seq at which it stands in this journal
	lastProven time.Time
	owed       map[string]sum      // records that this process knows and the journal lacks, by id
	owedSums   map[sum]int         // how many of them have this target
	seen       map[string]struct{} // while loading: the ids that were read
	lost       bool                // records that it is owed can be named no more
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

// Observe takes note of the head as it was read from the node by a command
// that was sent at sent; ok is false when there was none.
func (v *View) Observe(h Head, ok bool, sent time.Time) Sight {
	b := v.book
	b.mu.RLock()
	quick := ok && v.state == Up && h == v.head && sent.Sub(v.lastProven) < Lease/20
	b.mu.RUnlock()
	if quick {
		return Proven
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !v.loaded:
		return Forked
	case !ok || h.Inc != v.head.Inc:
		v.forkLocked()
		return Forked
	case h.Seq > v.head.Seq:
		return Behind
	case !v.coversLocked(h):
		v.forkLocked()
		return Forked
	}
	v.provenLocked(sent)
	return Proven
}

func (v *View) provenLocked(sent time.Time) {
	if sent.After(v.lastProven) {
		v.lastProven = sent
	}
	v.book.renewLocked()
}

// coversLocked reports whether h is a position that was read.
func (v *View) coversLocked(h Head) bool {
	return h.Inc == v.head.Inc && h.Seq >= v.first && h.Seq-v.first < uint64(len(v.nonces)) &&
		v.nonces[h.Seq-v.first] == h.Nonce
}

// forkLocked forgets the journal. Records may have been lost with it that this
// process never read, so what is in the near cache and what is under way goes too.
func (v *View) forkLocked() {
	if v.loaded {
		v.book.forgetLocked()
	}
	v.resetLocked()
	if v.state == Up {
		v.state = Syncing
	}
	v.book.renewLocked()
}

func (v *View) resetLocked() {
	v.head, v.loaded, v.nonces, v.first = Head{}, false, nil, 0
	v.table = newMarks(v.book.opts.MaxTargets)
	v.seen = nil
	clear(v.owed)
	clear(v.owedSums)
}

// From returns the seq from which on the journal is to be read next, that of
// the newest known entry; 0: from its beginning.
func (v *View) From() uint64 { return v.Head().Seq }

// Advance takes what was read from the journal by a command that was sent at
// sent: its head, and then entries from From() on, in order. It returns
// Proven when that reached the head, Behind when there is more to be read,
// and Forked when it does not continue what was known: read again from From().
func (v *View) Advance(from uint64, h Head, entries []Entry, sent time.Time) Sight {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	switch {
	case from != v.head.Seq:
		return Behind // somebody else has read on meanwhile
	case from == 0:
		v.beginLocked(h, entries)
	case h.Inc != v.head.Inc || h.Seq < v.head.Seq || len(entries) == 0 ||
		entries[0].Seq != v.head.Seq || entries[0].Nonce != v.head.Nonce:
		v.forkLocked()
		return Forked
	default:
		entries = entries[1:]
	}
	for _, e := range entries {
		if !v.pushLocked(e) {
			v.forkLocked()
			return Forked
		}
	}
	if v.head.Seq < h.Seq {
		if len(entries) == 0 {
			v.forkLocked() // the journal lost its newest entries
			return Forked
		}
		return Behind
	}
	if !v.coversLocked(h) {
		v.forkLocked()
		return Forked
	}
	v.endLocked(sent)
	return Proven
}

// beginLocked starts to load a journal. One that does not begin with its first
// record has lost some that this process never read.
func (v *View) beginLocked(h Head, entries []Entry) {
	v.resetLocked()
	v.seen = map[string]struct{}{}
	v.head.Inc = h.Inc
	if len(entries) > 0 && entries[0].Seq == 1 {
		v.first = 1
		return
	}
	v.book.forgetLocked()
	v.first, v.head.Seq = h.Seq, h.Seq-1
	if len(entries) > 0 {
		v.first, v.head.Seq = entries[0].Seq, entries[0].Seq-1
		return
	}
	// A head without a journal: all that is known is where it stands.
	v.head, v.nonces = h, []uint64{h.Nonce}
}

// pushLocked appends the next entry; false if it is not the next one.
func (v *View) pushLocked(e Entry) bool {
	if e.Seq != v.head.Seq+1 {
		return false
	}
	if len(v.nonces) >= v.book.opts.MaxTargets {
		cut := len(v.nonces) / 2
		v.nonces = append([]uint64(nil), v.nonces[cut:]...)
		v.first += uint64(cut)
	}
	v.nonces = append(v.nonces, e.Nonce)
	v.head.Seq, v.head.Nonce = e.Seq, e.Nonce
	if e.Target.Kind == Begin {
		return true
	}
	v.table.set(v.book.indexLocked(e.Target), e.Seq)
	if v.seen != nil {
		v.seen[e.ID] = struct{}{}
	}
	v.book.learnLocked(e.Record)
	v.paidLocked(e.ID)
	return true
}

// endLocked closes the reading of a journal to its head.
func (v *View) endLocked(sent time.Time) {
	if !v.loaded {
		v.loaded = true
		for _, r := range v.book.log.records {
			if _, here := v.seen[r.ID]; r.ID != "" && !here {
				v.oweLocked(r.Record)
			}
		}
		v.seen = nil
		if v.lost {
			v.lost = false
			v.book.learnLocked(v.book.NewRecord(Target{Kind: All}))
		}
	}
	v.provenLocked(sent)
}

// Heard takes note of an entry that came by a message of the node, and reports
// whether it was the next one. It proves nothing: messages are late.
func (v *View) Heard(inc uint64, e Entry) bool {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	if !v.loaded || inc != v.head.Inc {
		return false
	}
	if v.coversLocked(Head{Inc: inc, Seq: e.Seq, Nonce: e.Nonce}) {
		return true
	}
	return v.pushLocked(e)
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
// Proven of the head that was read together with it.
func (v *View) ValidNode(s Stamp, sel *Selectors) Validity {
	b := v.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	if v.state != Up || !v.coversLocked(s) || v.owesLocked(sel) {
		return Dead
	}
	return b.judgeLocked(&v.table, s.Seq, sel)
}
