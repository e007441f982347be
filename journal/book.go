package journal

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound what a Book keeps.
type Options struct {
	// MaxTargets is the most distinct targets that are told apart, 1048576 at
	// most. What is older than the oldest is refused instead of judged. Default:
	// 1048576, or as many as take 48 MiB with so many nodes: with 3 nodes a
	// target takes 44 bytes, and 8 more for each further node.
	MaxTargets int
	// MaxRecords is the most records that are kept to be relayed to nodes that
	// lack them, 1048576 at most. Above it the oldest are given up, and for a node
	// that may lack one of those a record `all` takes their place; so it should be
	// more than the length of a journal. Default: half as many as there are targets
	// by default.
	MaxRecords int
	// MaxBlind is how long the near cache is believed while no node is up.
	// Negative: for ever.
	MaxBlind time.Duration
	// Strict is for those who would rather ask the origin than miss an
	// invalidation that more than half of the nodes have: what is stored is
	// believed only while more than half of them are up.
	Strict bool
	// Writer is the id of this process in the ids of its records. Default: random.
	Writer string

	maxNamed   int    // if not 0, in place of the constant
	vouchEvery uint64 // likewise
}

// Book is what one process knows of the journals of all nodes. It gives each
// record a learn number when it first hears of it: what was fetched before a
// record was learnt and is selected by it is dead here, on whatever node the
// record lies.
type Book struct {
	opts    Options
	started time.Time
	learnt  atomic.Uint64 // the newest learn number
	made    atomic.Uint64 // records made by NewRecord
	lease   atomic.Pointer[lease]
	without rules // not kept; set by tests alone

	mu         sync.RWMutex // guards all below, and every View
	table      table        // the targets, and the last learn number of each
	prefixes   prefixes     // the lengths of prefixes that were ever learnt
	soft       bool         // a soft target was ever learnt
	log        recordLog    // the last records, to be relayed
	maxNamed   int          // see the constant
	vouchEvery uint64       // likewise
	standIn    uint64       // 1 + the number of the last `all` that was made for records that the log gave up
	views      map[string]*View
	lastProven time.Time // when any node was last proven
}

// NewBook returns a Book of no nodes.
func NewBook(o Options, now time.Time) *Book {
	if o.Writer == "" {
		o.Writer = rand.Text()[:16]
	}
	b := &Book{opts: o, started: now, table: newTable(), views: map[string]*View{}}
	b.log = newRecordLog(1)
	b.boundLocked()
	b.lease.Store(&lease{forever: true})
	return b
}

// SetMaxBlind changes Options.MaxBlind.
func (b *Book) SetMaxBlind(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opts.MaxBlind = d
	b.renewLocked()
}

// SetStrict changes Options.Strict.
func (b *Book) SetStrict(strict bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opts.Strict = strict
	b.renewLocked()
}

// AddNode returns the View of the node with this name, made Unknown if it is new.
func (b *Book) AddNode(name string) *View {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.views[name]
	if !ok {
		v = &View{book: b, name: name}
		v.resetLocked()
		b.views[name] = v
		b.boundLocked()
		b.renewLocked()
	}
	return v
}

// RemoveNode forgets the node.
func (b *Book) RemoveNode(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dontCoverLocked(b.views[name])
	delete(b.views, name)
	b.boundLocked()
	b.renewLocked()
}

// Learnt returns the newest learn number: the one of a fill that begins now.
func (b *Book) Learnt() uint64 { return b.learnt.Load() }

// NewRecord returns a record of this process for t.
func (b *Book) NewRecord(t Target) Record {
	return Record{ID: fmt.Sprintf("%s-%d", b.opts.Writer, b.made.Add(1)), Target: t}
}

// Learn records r, if it is not known yet. From now on nothing that r selects
// and that was fetched before is served here, and r is owed to every node.
func (b *Book) Learn(r Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.learnLocked(r, nil)
}

// LearnAfter learns records that were made by the request whose response sel
// selects, and which was sent when the newest learn number was n. It returns
// the learn number of that response: it is newer than the records are. ok is
// false if anything else that selects it was learnt since n.
func (b *Book) LearnAfter(records []Record, n uint64, sel *Selectors) (learn uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok = n == b.learnt.Load() || b.judgeNearLocked(n, sel) == Valid
	for _, r := range records {
		b.learnLocked(r, nil)
	}
	return b.learnt.Load(), ok
}

// learnLocked learns r, and returns its number and the row of its target; in is
// the View of the journal in which it was read, nil if it was not.
func (b *Book) learnLocked(r Record, in *View) (n uint64, row uint32) {
	n, known := b.log.find(r)
	row = b.rowLocked(r.Target)
	if known {
		return n, row
	}
	b.soft = b.soft || r.Target.Soft
	b.setLocked(row)
	b.makeRoomLocked()
	n = b.log.add(r)
	for _, v := range b.views {
		if v != in {
			v.oweLocked(n, row)
		}
	}
	return n, row
}

// setLocked gives the row the next learn number. The table first, then the
// number: whoever sees the number unchanged may skip the table.
func (b *Book) setLocked(row uint32) {
	n := b.learnt.Load() + 1
	b.table.set(row, n)
	b.learnt.Store(n)
}

// rowLocked returns the row of t, and makes it if there is none. A prefix of a
// new length may be shortened, which selects more.
func (b *Book) rowLocked(t Target) uint32 {
	switch {
	case t.Kind == All && t.Soft:
		return rowAllSoft
	case t.Kind == All:
		return rowAll
	case t.Kind == Prefix:
		t.Value = b.prefixes.note(t.Value)
	}
	s := t.sum()
	if row, ok := b.table.find(s); ok {
		return row
	}
	return b.table.add(s, b.mayGiveUpLocked, func(row uint32) {
		for _, v := range b.views {
			v.giveUpLocked(row)
		}
	})
}

// mayGiveUpLocked reports whether no node is owed a record of the row's target.
func (b *Book) mayGiveUpLocked(row uint32) bool {
	for _, v := range b.views {
		if v.owedRows[row] > 0 {
			return false
		}
	}
	return true
}

// forgetLocked makes everything that was fetched before now dead in this
// process: the near cache and the fills under way.
func (b *Book) forgetLocked(why rules) {
	if b.has(why) {
		b.setLocked(rowAll)
	}
}

// Validity is what the journal says of a stored response.
type Validity uint8

// The validities of a stored response.
const (
	Dead  Validity = iota // must not be served
	Stale                 // softly invalidated: as if its freshness had ended
	Valid
	// Doubted says that the node was out of somebody's use since it was stored:
	// others may have served a newer one meanwhile. It must be validated.
	Doubted
)

// ValidNear judges a response of the near cache, fetched by a fill that began
// when the newest learn number was n. It returns the learn number up to which
// the judgement holds, to be kept in place of n if the response is Valid. It
// is cheap when nothing was learnt since: two compares. The caller asks Leased.
func (b *Book) ValidNear(n uint64, sel *Selectors) (Validity, uint64) {
	if n == b.learnt.Load() || !b.has(ruleLearnt) {
		return Valid, n
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.judgeNearLocked(n, sel), b.learnt.Load()
}

// ValidName judges a response of the near cache by one more URL that reaches it,
// of which nobody has asked since the newest learn number was n. It is ValidNear
// but for records of all, which are left to that.
func (b *Book) ValidName(n uint64, url string) Validity {
	if n == b.learnt.Load() {
		return Valid
	}
	sel := NewSelectors(url, nil)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if n < b.table.floor {
		return Dead
	}
	since := b.table.since(n)
	newer := func(row uint32) bool { return row >= fixedRows && b.table.at(row).learn > since }
	switch {
	case b.selectedLocked(&sel, hard, newer):
		return Dead
	case b.selectedLocked(&sel, soft, newer):
		return Stale
	}
	return Valid
}

// judgeNearLocked compares what selects a response with the table.
func (b *Book) judgeNearLocked(n uint64, sel *Selectors) Validity {
	if n < b.table.floor && b.has(ruleFloor) {
		return Dead
	}
	since := b.table.since(n)
	newer := func(row uint32) bool { return b.table.at(row).learn > since }
	switch {
	case b.selectedLocked(sel, hard, newer):
		return Dead
	case b.selectedLocked(sel, soft, newer):
		return Stale
	}
	return Valid
}

// softness tells records of soft targets from those of others.
type softness sum

const (
	hard softness = 0
	soft          = softness(softStep)
)

// all is the row of all.
func (s softness) all() uint32 {
	if s == soft {
		return rowAllSoft
	}
	return rowAll
}

// selectedLocked reports whether a row of which newer says true selects the
// response. It asks newer first, and then whether it is the row.
func (b *Book) selectedLocked(sel *Selectors, s softness, newer func(row uint32) bool) bool {
	if s == soft && (!b.soft || !b.has(ruleSoft)) {
		return false
	}
	if all := s.all(); newer(all) {
		return true
	}
	if s == hard && b.table.index.touch(sel.sums) == 0 {
		return b.prefixedLocked(sel, s, newer)
	}
	for _, target := range sel.sums {
		if b.table.has(target^sum(s), newer) {
			return true
		}
	}
	return b.prefixedLocked(sel, s, newer)
}

func (b *Book) prefixedLocked(sel *Selectors, s softness, newer func(row uint32) bool) bool {
	for _, n := range b.prefixes.lengths {
		for _, url := range sel.urls {
			if n <= len(url) && url != "" && b.table.has(sumOf(Prefix, url[:n])^sum(s), newer) {
				return true
			}
		}
	}
	return false
}
