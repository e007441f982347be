package journal

// recordLog holds the last records that were learnt, oldest first, so that they
// can be relayed to a node that lacks them.
type recordLog struct {
	max     int
	records []logged // a withdrawn record has no ID
	byID    map[string]uint64
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
	if len(l.records) >= l.max {
		// Half goes at once, so that adding stays cheap.
		cut := len(l.records) / 2
		dropped = l.records[:cut]
		for _, r := range dropped {
			delete(l.byID, r.ID)
		}
		l.records = append([]logged(nil), l.records[cut:]...)
	}
	l.records = append(l.records, logged{Record: r, learn: learn})
	l.byID[r.ID] = learn
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
			l.records[i].ID = ""
			return
		}
	}
}
