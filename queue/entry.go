package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// dataField is where the frame is, in an entry and in a record: FastStream's name.
const dataField = "__data__"

// An entry is what an entry of a stream says of a message, and what a record
// says of it besides its state. doc.go lists the fields.
type entry struct {
	id         string // empty: the producer gave none
	attempts   int    // ended, without those that XPENDING counts
	accepted   int64  // ms of the node's clock; 0: the entry's own time
	expires    int64  // ms of the node's clock; 0: never
	lastError  string
	lastStatus int
	notBefore  int64  // ms of the node's clock, of an entry that was in an order list; 0: none
	doomed     string // why it is to be a dead letter, when that can be told; empty: it is not
	order      string // order hash; empty: no order
	counted    int64  // bytes in T:c
	size       int64  // bytes of a body that lies in chunks; 0: it is in the frame
	tracked    bool
	copy       string // ref of the partition that has the other copy; empty: none
	frame      []byte
}

// A record is what T:m:<record id> says.
type record struct {
	entry
	state    string
	lane     string
	queued   string // id of the entry in the stream
	reason   string // why it is a dead letter
	digest   string // of the body
	response []byte // a frame
}

// States of a record, and of an Info.
const (
	stateReady    = "ready"
	stateInFlight = "in_flight" // of an Info alone
	stateDelayed  = "delayed"
	stateDead     = "dead"
	stateDone     = "done"
)

// fields appends names and values as they are in a stream; what has its zero
// value is left out. The frame comes last.
func (e *entry) fields(dst []any) []any {
	dst = append(dst, "i", e.id)
	number := func(name string, n int64) {
		if n != 0 {
			dst = append(dst, name, n)
		}
	}
	text := func(name, s string) {
		if s != "" {
			dst = append(dst, name, s)
		}
	}
	number("a", int64(e.attempts))
	number("t", e.accepted)
	number("x", e.expires)
	number("d", e.notBefore)
	text("f", e.doomed)
	text("e", e.lastError)
	number("l", int64(e.lastStatus))
	text("o", e.order)
	number("z", e.counted)
	number("n", e.size)
	if e.tracked {
		dst = append(dst, "k", "1")
	}
	text("c", e.copy)
	return append(dst, dataField, e.frame)
}

// parseEntry reads an entry of a stream. One without __data__, of a producer
// that knows nothing of frames, is JSON of its fields. An entry that comes with an
// error is garbage and still says as much as could be read.
func parseEntry(values map[string]any) (entry, error) {
	if _, framed := values[dataField]; !framed {
		return foreignEntry(values)
	}
	var e entry
	err := e.parse(func(name string) (string, bool) {
		s, ok := values[name].(string)
		return s, ok
	})
	return e, err
}

// foreignEntry reads an entry that has no frame. Its fields are the producer's
// own, whatever they are called.
func foreignEntry(values map[string]any) (e entry, err error) {
	if len(values) == 0 {
		return e, errors.New("queue: the entry has no fields")
	}
	body, err := json.Marshal(values)
	if err != nil {
		return e, fmt.Errorf("queue: an entry without a frame: %w", err)
	}
	e.frame, err = appendFrame(nil, map[string]string{"content-type": "application/json"}, body)
	return e, err
}

// parseRecord reads a record; nil fields are none.
func parseRecord(fields map[string]string) (record, error) {
	var r record
	get := func(name string) (string, bool) {
		s, ok := fields[name]
		return s, ok
	}
	err := r.parse(get)
	r.state, r.lane, r.queued = fields["s"], fields["g"], fields["q"]
	r.reason, r.digest = fields["r"], fields["u"]
	if v, ok := fields["v"]; ok {
		r.response = []byte(v)
	}
	return r, err
}

// parse reads what entries and records have in common.
func (e *entry) parse(get func(string) (string, bool)) error {
	var bad []string
	number := func(name string) int64 {
		s, ok := get(name)
		if !ok {
			return 0
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			bad = append(bad, name)
			return 0
		}
		return n
	}
	e.id, _ = get("i")
	e.attempts = int(min(number("a"), 1<<30))
	e.accepted, e.expires = number("t"), number("x")
	e.notBefore = number("d")
	e.doomed, _ = get("f")
	e.lastError, _ = get("e")
	e.lastStatus = int(min(number("l"), 1<<30))
	e.order, _ = get("o")
	e.counted = number("z")
	e.size = number("n")
	k, _ := get("k")
	e.tracked = k == "1"
	e.copy, _ = get("c")
	if data, ok := get(dataField); ok {
		e.frame = aliasBytes(data)
	}
	if e.size > maxChunked {
		bad, e.size = append(bad, "n"), 0
	}
	if bad != nil {
		return fmt.Errorf("queue: fields of the entry that are no numbers: %q", bad)
	}
	return nil
}
