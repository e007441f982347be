package journal

// Owed returns up to max records that this process knows and the journal of
// the node lacks, to be relayed to it; none before the journal was loaded.
func (v *View) Owed(max int) []Record {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	if len(v.owed) == 0 || !v.loaded {
		return nil
	}
	var out []Record
	for _, r := range v.book.log.records {
		if _, ok := v.owed[r.ID]; ok && r.ID != "" {
			if out = append(out, r.Record); len(out) == max {
				break
			}
		}
	}
	return out
}

// Owes returns how many records the node is owed, as far as it is known.
func (v *View) Owes() int {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	return len(v.owed)
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
		v.paidLocked(r.ID)
	}
}

// oweAllLocked starts anew: nothing is known to be in the journal, so all that
// this process knows is owed to it until it is read there.
func (v *View) oweAllLocked() {
	clear(v.owed)
	clear(v.owedSums)
	if !v.book.has(ruleOwe) {
		return
	}
	for _, r := range v.book.log.records {
		if r.ID != "" {
			v.oweLocked(r.Record)
		}
	}
	v.lost = v.lost || v.book.log.dropped && !v.book.standsInLocked()
}

// oweLocked notes that the journal lacks r. The owed records are among those of
// the log, which bounds them.
func (v *View) oweLocked(r Record) {
	if _, ok := v.owed[r.ID]; ok {
		return
	}
	s := v.book.indexLocked(r.Target)
	v.owed[r.ID] = s
	v.owedSums[s]++
}

// droppedLocked notes that the log has given up these records. If the node is
// owed one of them, nothing on it is believed until it has a record `all`, which
// stands for what can be named no more.
func (v *View) droppedLocked(dropped []logged) {
	for _, r := range dropped {
		if _, owed := v.owed[r.ID]; owed {
			v.lost = v.lost || !v.book.standsInLocked()
			v.paidLocked(r.ID)
		}
	}
}

// standsInLocked reports whether a record `all` that this process made is in
// the log: it was made after all that the log has given up, and stands for that.
// Another process's would not do: it may have been on a node before one of those
// was made.
func (b *Book) standsInLocked() bool {
	_, ok := b.log.learn(b.standIn)
	return ok
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
	v.book.standIn = r.ID
	v.book.learnLocked(r, nil)
}

// paidLocked notes that the journal has the record, or needs it no more.
func (v *View) paidLocked(id string) {
	s, ok := v.owed[id]
	if !ok {
		return
	}
	delete(v.owed, id)
	if v.owedSums[s]--; v.owedSums[s] <= 0 {
		delete(v.owedSums, s)
	}
}

// owesLocked reports whether an owed record selects the response. Soft ones
// count as hard here: until the record is in the journal nobody can tell
// what was stored before it from what was stored after it.
func (v *View) owesLocked(sel *Selectors) bool {
	if v.lost && v.book.has(ruleLost) {
		return true
	}
	if len(v.owedSums) == 0 || !v.book.has(ruleOwed) {
		return false
	}
	owed := func(s sum) bool { return v.owedSums[s] > 0 }
	if owed(sumAll) || owed(sumAllSoft) {
		return true
	}
	for i := range sel.hard {
		if owed(sel.hard[i]) || owed(sel.soft[i]) {
			return true
		}
	}
	return v.book.prefixes.any(sel.urls[:], func(prefix string) bool {
		return owed(sumOf(Prefix, false, prefix)) || owed(sumOf(Prefix, true, prefix))
	})
}
