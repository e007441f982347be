package journal

import "strings"

// What a journal has lost of its beginning no process can read any more that
// starts now, and a node that was away when it was appended has never had it.
//
// Invariant: a response that lies on a node is served only if the node's journal
// has had whatever the journals that this process has read have lost before they
// were read, or if the response was fetched after that was appended there.
//
// A journal vouches for it by a record that names positions of the others up to
// which it has had everything: all nodes get the same records, so that is what a
// process knows of them when the node is owed nothing. A journal that has lost
// its beginning later than at such a position is no reason for doubt. Any other is:
// the node is suspect, and not believed until its journal has a Flush. That one
// vouches, too, as what comes after it was fetched after everything that is known.

// vouchEvery is after how many records a journal vouches anew. It is much less
// than the length of a journal, so what is trimmed by length was vouched for.
const vouchEvery = 4096

// vouchHeads is how many positions fit in one record.
const vouchHeads = maxValue / 51

// vouching is what is known of a journal beside the others.
type vouching struct {
	first   uint64           // the seq of the oldest entry that was read; what came before it is not known
	flushed uint64           // the seq of the last Flush
	vouches []Head           // what the journal last vouched for, its own positions among them
	covers  map[*View]uint64 // up to which seq it does so for each of the others
	suspect bool             // the node may lack what another journal has lost
	due     bool             // the journal is to vouch anew
}

// beginVouchingLocked forgets what is known; the first entry to be read has this seq.
func (v *View) beginVouchingLocked(first uint64) {
	v.vouching = vouching{first: first, covers: map[*View]uint64{}}
	v.book.dontCoverLocked(v)
}

// dontCoverLocked notes that nothing vouches for v, as it is another journal or gone.
func (b *Book) dontCoverLocked(v *View) {
	for _, o := range b.views {
		delete(o.covers, v)
	}
}

// isFlushedLocked reports whether what has the stamp was stored before a Flush.
func (v *View) isFlushedLocked(s Stamp) bool { return s.Seq < v.flushed && v.book.has(ruleFlush) }

// vouchLocked makes the records by which the journal vouches for all that is known
// of the others. Of a Mark the first position is its own: one that was made for
// another history of it (the node came back with older data meanwhile) says nothing.
func (v *View) vouchLocked(kind Kind) (out []Record) {
	value := []string{v.head.String()}
	add := func() {
		out = append(out, v.book.NewRecord(Target{Kind: kind, Value: strings.Join(value, " ")}))
		value = value[:1]
	}
	for _, o := range v.book.views {
		if o == v || !o.loaded {
			continue
		}
		if value = append(value, o.head.String()); len(value) == vouchHeads {
			add()
		}
	}
	if len(value) > 1 || len(out) == 0 {
		add()
	}
	return out
}

// heedLocked takes note of what an entry vouches for.
func (v *View) heedLocked(e Entry) {
	var heads []Head
	for _, s := range strings.Fields(e.Target.Value) {
		if h, ok := ParseHead(s); ok {
			heads = append(heads, h)
		}
	}
	switch {
	case e.Target.Kind == Flush:
		v.flushed = e.Seq
		if !v.suspect {
			// Somebody else knows why; what was copied from the node is as dead as it is.
			v.book.forgetLocked(ruleFlush)
		}
	case len(heads) == 0 || !v.coversLocked(heads[0]) && v.book.has(ruleOwnHistory):
		return
	}
	v.vouches = append(v.vouches, heads...)
	if n := len(v.vouches) - 4*max(8, len(v.book.views)); n > 0 {
		v.vouches = append([]Head(nil), v.vouches[n:]...)
	}
	for _, o := range v.book.views {
		v.placeLocked(heads, o)
	}
	v.suspect = false
	v.weighLocked()
}

// placeLocked finds the last of the positions that is the other journal's. It is
// asked for each of the 64 buckets of a Redis Cluster, at each proof of each.
func (v *View) placeLocked(heads []Head, o *View) {
	for i := len(heads) - 1; i >= 0 && o != v; i-- {
		if h := heads[i]; o.coversLocked(h) {
			v.covers[o] = max(v.covers[o], h.Seq)
			return
		}
	}
}

// weighLocked finds out whether the node is suspect, and whether its journal is
// to vouch anew.
func (v *View) weighLocked() {
	if !v.loaded {
		return
	}
	v.due = false
	suspect := v.suspect
	for _, o := range v.book.views {
		if o == v || !o.loaded || !v.lagsLocked(o) {
			continue
		}
		v.placeLocked(v.vouches, o)
		v.due = v.due || v.lagsLocked(o)
		_, covered := v.covers[o]
		suspect = suspect || o.first > 1 && !covered
	}
	if suspect && !v.suspect {
		v.book.forgetLocked(ruleSuspectNear) // it was believed until now
	}
	v.suspect = suspect
}

// lagsLocked reports whether the journal is to vouch for more of the other one.
func (v *View) lagsLocked(o *View) bool {
	seq := v.covers[o]
	return o.head.Seq > seq && (o.head.Seq-seq >= v.book.vouchEvery || o.first > 1 && seq < o.first)
}

// weighAllLocked weighs all nodes, as a journal was loaded.
func (b *Book) weighAllLocked() {
	for _, v := range b.views {
		v.weighLocked()
	}
}

// needsLocked returns the kind of record that the journal is in need of.
func (v *View) needsLocked() (kind Kind, ok bool) {
	switch {
	case !v.loaded || !v.book.has(ruleSuspect):
		return 0, false
	case v.suspect:
		return Flush, true
	}
	return Mark, v.due && !v.lost && (v.owed.len == 0 || !v.book.has(ruleVouchPaid))
}
