package journal

// A Book takes no more memory than this, whatever is invalidated, and however
// many nodes there are.
const (
	maxMemory  = 58 << 20 // of all
	tableShare = 48 << 20 // of the targets
	logShare   = 12 << 20 // of the records, if the targets need the rest
	mostRows   = 1 << 20
)

// boundLocked says how many targets and records there may be with so many nodes.
func (b *Book) boundLocked() {
	// A row, its slots, and of each node the seq of the target and a nonce.
	targets := min(mostRows, tableShare/(12+8+8*len(b.views)))
	records := targets / 2
	if b.opts.MaxTargets > 0 {
		targets = min(mostRows, b.opts.MaxTargets)
	}
	if b.opts.MaxRecords > 0 {
		records = min(mostRows, b.opts.MaxRecords)
	}
	b.maxNamed = min(maxNamed, 4*maxNamed/max(1, len(b.views)))
	if b.opts.maxNamed > 0 {
		b.maxNamed = b.opts.maxNamed
	}
	b.vouchEvery = uint64(min(vouchEvery, max(1, records/8)))
	if b.opts.vouchEvery > 0 {
		b.vouchEvery = b.opts.vouchEvery
	}
	b.table.limit = targets
	for _, v := range b.views {
		v.nonces.max = uint64(targets)
	}
	if b.log.len() == 0 {
		b.log = newRecordLog(records)
	}
	b.log.max = records
}

// makeRoomLocked gives up the oldest records where the next one needs a page,
// and there may be no more.
func (b *Book) makeRoomLocked() {
	if !b.log.startsPage() {
		return
	}
	for b.log.len() > 0 && (b.log.len()+b.log.perPage > b.log.max || b.log.memory() > logShare && b.memoryLocked() > maxMemory) {
		_, end := b.log.oldest()
		stood := b.standIn > end
		for _, v := range b.views {
			v.dropLocked(end, stood)
		}
		b.log.drop()
	}
}

// Memory returns how many bytes the tables take.
func (b *Book) Memory() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.memoryLocked()
}

func (b *Book) memoryLocked() int {
	n := b.table.bytes() + b.log.memory()
	for _, v := range b.views {
		n += v.seqs.bytes() + v.nonces.bytes() + v.owed.bytes() + 32*len(v.owedRows)
	}
	return n
}
