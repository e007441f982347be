package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// Head is the position of a journal's newest record. It lies on its node as
// "inc:seq:nonce": inc and nonce in 16 hexadecimal digits, seq in decimal.
//
// Inc is made at random when a node has no head, so a node that lost its data
// is told from one that kept it. Seq counts records from 1. Nonce is made at
// random for every append: two histories that reach the same seq of the same
// inc (a failover to a replica that had less) differ in it.
type Head struct{ Inc, Seq, Nonce uint64 }

// Stamp is the head of a node's journal as a fill knew it before it asked the
// origin. The zero Stamp covers nothing.
type Stamp = Head

// ParseHead reads a head as it lies on a node; ok is false for anything else.
func ParseHead(s string) (h Head, ok bool) {
	inc, rest, ok1 := strings.Cut(s, ":")
	seq, nonce, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 || len(inc) != 16 || len(nonce) != 16 {
		return Head{}, false
	}
	var err [3]error
	h.Inc, err[0] = strconv.ParseUint(inc, 16, 64)
	h.Seq, err[1] = strconv.ParseUint(seq, 10, 53)
	h.Nonce, err[2] = strconv.ParseUint(nonce, 16, 64)
	if err[0] != nil || err[1] != nil || err[2] != nil || h.Inc == 0 || h.Seq == 0 {
		return Head{}, false
	}
	return h, true
}

// String returns h as it lies on the node: inc:seq:nonce.
func (h Head) String() string { return fmt.Sprintf("%016x:%d:%016x", h.Inc, h.Seq, h.Nonce) }

// Record is one invalidation. Its ID is the same on every node and never used
// twice: the random id of the process that made it, a dash and a counter.
type Record struct {
	ID     string
	Target Target
}

// Entry is a record in the journal of one node.
type Entry struct {
	Record
	Seq   uint64
	Nonce uint64
	After uint64 // the nonce of the entry before, where a message tells of it; 0: not known
}

// maxID is how many bytes the id of a record has at most.
const maxID = 64

// fits reports whether a record as it was read is one that this package makes.
func (r Record) fits() bool { return len(r.ID) <= maxID && r.Target.fits() }
