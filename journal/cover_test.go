package journal

// The rule that was: a heard message needs no record of its own if one for the
// same target was learnt since. The simulation shows why it is no more.

// Withdraw takes back a record that was learnt from a published message and is
// on no node, because another record covers it.
func (b *Book) Withdraw(r Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, _ := b.log.find(r)
	for _, v := range b.views {
		v.paidLocked(n, r.Target)
	}
}

// LearntSince reports whether a record for t was learnt after learn number n.
func (b *Book) LearntSince(t Target, n uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.learn(b.rowLocked(t)) > n
}
