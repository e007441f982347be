package journal

// Owed returns up to max records that this process knows and the journal of
// the node lacks, to be relayed to it.
func (v *View) Owed(max int) []Record {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	if len(v.owed) == 0 {
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

// Owes returns how many records the node is owed.
func (v *View) Owes() int {
	v.book.mu.RLock()
	defer v.book.mu.RUnlock()
	return len(v.owed)
}

// oweLocked notes that the journal lacks r. A journal that is being loaded is
// owed what turns out to be missing when it has been loaded.
func (v *View) oweLocked(r Record) {
	if !v.loaded {
		return
	}
	if _, ok := v.owed[r.ID]; ok {
		return
	}
	if len(v.owed) >= v.book.opts.MaxRecords/2 {
		v.loseLocked()
		return
	}
	s := v.book.indexLocked(r.Target)
	v.owed[r.ID] = s
	v.owedSums[s]++
}

// loseLocked notes that the node is owed more than can be named. Its journal is
// loaded anew when it is back, and then one record `all` stands for the rest.
func (v *View) loseLocked() {
	v.forkLocked()
	v.lost = true
}

// droppedLocked notes that the log has given up these records.
func (v *View) droppedLocked(dropped []logged) {
	for _, r := range dropped {
		if _, owed := v.owed[r.ID]; owed {
			v.loseLocked()
			return
		}
	}
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
	if len(v.owedSums) == 0 {
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
