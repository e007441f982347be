package journal

import (
	"hash/fnv"
	"io"
	"strconv"
)

// An Ear listens to one subscription on one node, on which users publish
// messages and the node tells of new entries of its journal, and gives each
// message a name: the nonce of the last entry that was told before it, and a
// count. All processes hear the two in one order, so they give a message one
// name, and make of it records with one id: whoever appends them first does so
// for all.
//
// A name is never given to two messages: not by an Ear that begins to listen
// between them, as it gives none before it has heard an entry. An Ear belongs
// to one goroutine and ends with its subscription.
type Ear struct {
	after uint64 // 0: no entry was heard yet
	count int
}

// Entry takes note that the node told of the journal entry with this nonce.
func (e *Ear) Entry(nonce uint64) { e.after, e.count = nonce, 0 }

// Message returns the name of the message that was just heard; "" if it has
// none. It must be asked for every message, also for those that mean nothing.
func (e *Ear) Message() string {
	if e.after == 0 {
		return ""
	}
	e.count++
	return strconv.FormatUint(e.after, 36) + "." + strconv.Itoa(e.count)
}

// HeardRecords returns the records of the message with this name: the same in
// every process that heard it, or of this process alone if it has no name. What
// they select is in their ids: processes that listen to other channels hear other
// messages under the same name, and other versions may make something else of one.
func (b *Book) HeardRecords(name string, targets []Target) []Record {
	records := make([]Record, len(targets))
	for i, t := range targets {
		if name == "" {
			records[i] = b.NewRecord(t)
			continue
		}
		records[i] = Record{ID: name + "." + strconv.Itoa(i) + "." + t.digest(), Target: t}
	}
	return records
}

// digest returns a few letters that are the same in all processes, and hardly
// those of another target.
func (t Target) digest() string {
	h := fnv.New32a()
	io.WriteString(h, t.Code()+t.Value) //nolint:errcheck // a hash takes all
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}
