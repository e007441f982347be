package journal

// The rule that was: a heard message needs no record of its own if one for the
// same target was learnt since. The simulation shows why it is no more.

// Withdraw takes back a record that was learnt from a published message and is
// on no node, because another record covers it.
func (b *Book) Withdraw(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log.remove(id)
	for _, v := range b.views {
		v.paidLocked(id)
	}
}

// LearntSince reports whether a record for t was learnt after learn number n.
func (b *Book) LearntSince(t Target, n uint64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.table.seen(t.sum()) > n
}
