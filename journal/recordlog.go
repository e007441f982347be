package journal

// maxLogBytes bounds the ids and values of the records in a recordLog.
const maxLogBytes = 64 << 20

// recordLog holds the last records that were learnt, oldest first, so that they
// can be relayed to a node that lacks them.
type recordLog struct {
	max     int
	records []logged // a withdrawn record has no ID
	bytes   int      // of their ids and values
	byID    map[string]uint64
	dropped bool // records were given up
}

type logged struct {
	Record
	learn uint64
}

func newRecordLog(max int) recordLog { return recordLog{max: max, byID: map[string]uint64{}} }

// learn returns the learn number of the record with this id, if it is known.
func (l *recordLog) learn(id string) (uint64, bool) {
	n, ok := l.byID[id]
	return n, ok
}

// add appends r and returns the records that had to make place for it.
func (l *recordLog) add(r Record, learn uint64) (dropped []logged) {
	if len(l.records) >= l.max || l.bytes > maxLogBytes {
		dropped = l.halve()
	}
	l.records = append(l.records, logged{Record: r, learn: learn})
	l.bytes += len(r.ID) + len(r.Target.Value)
	l.byID[r.ID] = learn
	return dropped
}

// halve drops the older half at once, so that adding stays cheap.
func (l *recordLog) halve() (dropped []logged) {
	cut := (len(l.records) + 1) / 2
	dropped = l.records[:cut]
	for _, r := range dropped {
		delete(l.byID, r.ID)
		l.bytes -= len(r.ID) + len(r.Target.Value)
	}
	l.records = append([]logged(nil), l.records[cut:]...)
	l.dropped = true
	return dropped
}

func (l *recordLog) remove(id string) {
	learn, ok := l.byID[id]
	if !ok {
		return
	}
	delete(l.byID, id)
	for i := len(l.records) - 1; i >= 0; i-- {
		if l.records[i].learn == learn && l.records[i].ID == id {
			l.bytes -= len(id)
			l.records[i].ID = ""
			return
		}
	}
}
