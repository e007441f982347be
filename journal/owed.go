package journal

// What a journal lacks is a set of numbers of records in the log. To tell which
// stored responses those select, the rows of their targets are counted; but of
// no more than this many records, and with more than four nodes of fewer. A node in use that is owed more is not
// believed at all until it has got them: it was away, or its data are others.
const maxNamed = 1 << 15

// Owed returns up to max records that this process knows and the journal of
// the node lacks, to be relayed to it; none before the journal was loaded.
func (v *View) Owed(max int) []Record {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	if !v.loaded {
		return nil
	}
	var out []Record
	if kind, ok := v.needsLocked(); ok {
		out = v.vouchLocked(kind)
	}
	n, ok := v.owed.next(0)
	for ; ok && len(out) < max; n, ok = v.owed.next(n + 1) {
		out = append(out, v.book.log.record(n))
	}
	return out
}

// Owes returns how many records the node is owed, as far as it is known.
func (v *View) Owes() int {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	if _, ok := v.needsLocked(); ok {
		return v.owed.len + 1
	}
	return v.owed.len
}

// Owes reports whether any node is owed the record.
func (b *Book) Owes(r Record) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, ok := b.log.peek(r)
	for _, v := range b.views {
		if ok && v.owed.has(n) {
			return true
		}
	}
	return false
}

// Holds takes note that the node had these records already when they were to
// be appended and it answered with the head h. They may have been trimmed from
// its journal, and then no reading will show them. It must be told after the
// journal was read to the head: until then they are owed for a reason.
func (v *View) Holds(h Head, records []Record) {
	v.book.mu.Lock()
	defer v.book.mu.Unlock()
	if !v.loaded || !v.coversLocked(h) {
		return // another journal than the one that had them
	}
	for _, r := range records {
		if n, ok := v.book.log.find(r); ok {
			v.paidLocked(n, r.Target)
		}
	}
}

// oweAllLocked starts anew: nothing is known to be in the journal, so all that
// this process knows is owed to it until it is read there.
func (v *View) oweAllLocked() {
	v.owed, v.owedRows = numberSet{}, nil
	if !v.book.has(ruleOwe) {
		return
	}
	v.owed.fill(v.book.log.first, v.book.log.next)
	v.lost = v.lost || v.book.log.dropped() && !v.book.standsInLocked()
}

// oweLocked notes that the journal lacks record number n, of a target in row.
func (v *View) oweLocked(n uint64, row uint32) {
	switch {
	case !v.owed.add(n) || v.owedRows == nil:
	case v.owed.len > v.book.maxNamed:
		v.owedRows = nil
	default:
		v.owedRows[row]++
	}
}

// paidLocked notes that the journal has record number n, or needs it no more.
func (v *View) paidLocked(n uint64, t Target) {
	if !v.owed.remove(n) {
		return
	}
	if v.owedRows != nil {
		v.unnameLocked(t)
	} else if v.loaded && v.owed.len <= v.book.maxNamed/2 {
		v.nameLocked()
	}
}

// nameLocked counts the rows of what is owed, if that is not too much.
func (v *View) nameLocked() {
	if v.owed.len > v.book.maxNamed {
		return
	}
	v.owedRows = map[uint32]int32{}
	n, ok := v.owed.next(0)
	for ; ok; n, ok = v.owed.next(n + 1) {
		v.owedRows[v.book.rowLocked(v.book.log.target(n))]++
	}
}

func (v *View) unnameLocked(t Target) {
	row := v.book.rowLocked(t)
	if v.owedRows[row]--; v.owedRows[row] <= 0 {
		delete(v.owedRows, row)
	}
}

// dropLocked notes that the log is about to give up its oldest records, those
// before end. If the node is owed one of them, nothing on it is believed until
// it has a record `all`, which stands for what can be named no more.
func (v *View) dropLocked(end uint64, stood bool) {
	n, ok := v.owed.next(0)
	for ; ok && n < end; n, ok = v.owed.next(n + 1) {
		v.lost = v.lost || !stood
		v.paidLocked(n, v.book.log.target(n))
	}
	v.owed.forget(end)
}

// standsInLocked reports whether a record `all` that this process made is in
// the log: it was made after all that the log has given up, and stands for that.
// Another process's would not do: it may have been on a node before one of those
// was made.
func (b *Book) standsInLocked() bool {
	return b.standIn > b.log.first
}

// replaceLostLocked makes the record `all` that stands for what was lost.
func (v *View) replaceLostLocked() {
	if !v.lost || !v.book.has(ruleLost) {
		return
	}
	v.lost = false
	if v.book.standsInLocked() {
		return // made meanwhile, and owed
	}
	r := v.book.NewRecord(Target{Kind: All})
	n, _ := v.book.learnLocked(r, nil)
	v.book.standIn = n + 1
}

// believedLocked reports whether it is known which responses on the node what
// it is owed selects.
func (v *View) believedLocked() bool {
	if v.lost && v.book.has(ruleLost) || v.suspect && v.book.has(ruleSuspect) {
		return false
	}
	return v.owedRows != nil || v.owed.len == 0 || !v.book.has(ruleOwed)
}
