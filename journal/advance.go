package journal

import "time"

// From returns the seq from which on the journal is to be read next, that of
// the newest known entry; 0: from its beginning. It is to be asked before the
// command is sent.
func (v *View) From() uint64 { return v.Head().Seq }

// Advance takes what was read from the journal by a command that was sent at
// sent: its head, and then entries from from on, in order. It returns Proven
// when that reached the head, Behind when there is more to be read, and Forked
// when it does not continue what was known: read again from From().
//
// Messages may have told of some of the entries meanwhile.
func (v *View) Advance(from uint64, h Head, entries []Entry, sent time.Time) Sight {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	switch {
	case from > v.head.Seq, from == 0 && v.loaded:
		return Behind // the journal was found to be another one meanwhile
	case from == 0:
		v.beginLocked(h, entries)
	case len(entries) == 0 && h == v.head:
		// Somebody has emptied it, but the head is known. To load it anew would owe
		// the node all records again, each time.
	case v.book.has(ruleInclusive) && !v.continuesLocked(from, h, entries):
		v.forkLocked()
		return Forked
	}
	read := v.head.Seq
	for _, e := range entries {
		if !v.takeLocked(e) {
			v.forkLocked()
			return Forked
		}
	}
	if v.head.Seq < h.Seq {
		if v.head.Seq == read {
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

// continuesLocked reports whether what was read goes on from the position from,
// which was known before it was read.
func (v *View) continuesLocked(from uint64, h Head, entries []Entry) bool {
	return h.Inc == v.head.Inc && h.Seq >= from && len(entries) > 0 && entries[0].Seq == from
}

// beginLocked starts to load a journal. One that does not begin with its first
// record has lost some that this process never read.
func (v *View) beginLocked(h Head, entries []Entry) {
	v.resetLocked()
	switch {
	case len(entries) > 0 && entries[0].Seq <= 1:
		v.beginAtLocked(Head{Inc: h.Inc})
		return
	case len(entries) > 0:
		v.beginAtLocked(Head{Inc: h.Inc, Seq: entries[0].Seq - 1})
	default:
		// A head without a journal: all that is known is where it stands.
		v.beginAtLocked(h)
	}
	v.book.forgetLocked(ruleTrimmed)
}

// takeLocked takes an entry that was read; false if it contradicts what is
// known, is not the next one, or is foreign.
func (v *View) takeLocked(e Entry) bool {
	if !e.fits() {
		return false
	}
	if e.Seq <= v.head.Seq && v.head.Nonce != 0 {
		return e.Seq < v.nonces.begin() || v.coversLocked(Head{Inc: v.head.Inc, Seq: e.Seq, Nonce: e.Nonce}) || !v.book.has(ruleInclusive)
	}
	if e.Seq != v.head.Seq+1 {
		return false
	}
	v.pushLocked(e)
	return true
}

// pushLocked appends the next entry.
func (v *View) pushLocked(e Entry) {
	v.nonces.push(e.Nonce)
	v.head.Seq, v.head.Nonce = e.Seq, e.Nonce
	switch e.Target.Kind {
	case Return:
		v.returned = e.Seq
	case Mark, Flush:
		v.heedLocked(e)
	}
	if e.Target.isLocal() {
		return
	}
	n, row := v.book.learnLocked(e.Record, v)
	v.setSeqLocked(row, e.Seq)
	v.paidLocked(n, e.Target)
}

// setSeqLocked notes that the target of the row stands in the journal at seq.
// Seqs that are lowered to nothing are older than any stamp that is still known.
func (v *View) setSeqLocked(row uint32, seq uint64) {
	if isWide(seq, v.base) {
		v.seqs.lower()
		v.base += halfWide
	}
	v.seqs.set(row, uint32(seq-v.base))
}

// giveUpLocked gives the row up: what was stored before its last entry is refused.
func (v *View) giveUpLocked(row uint32) {
	if seq := v.seqs.at(row); seq > 0 {
		v.floor = max(v.floor, v.base+uint64(seq))
		v.seqs.set(row, 0)
	}
}

// endLocked closes the reading of a journal to its head. A node that was in use
// when its journal turned out to be another one is in use again: what it is
// owed is refused meanwhile.
func (v *View) endLocked(sent time.Time) {
	anew := !v.loaded
	v.loaded = true
	if v.owedRows == nil {
		v.nameLocked()
	}
	if v.state == Syncing {
		v.state = Up
	}
	v.replaceLostLocked()
	if anew {
		v.book.weighAllLocked()
	}
	v.provenLocked(sent)
}
