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
	// MaxTargets is the most distinct targets in one table. What is older is
	// refused instead of judged. Default: 1048576.
	MaxTargets int
	// MaxRecords is the most records that are kept to be relayed to nodes that
	// lack them. Above it the older half is given up, and for a node that may
	// lack one of those a record `all` takes their place; so half of MaxRecords
	// should be no less than the length of a journal. Default: 524288.
	MaxRecords int
	// MaxBlind is how long the near cache is believed while no node is up.
	// Negative: for ever.
	MaxBlind time.Duration
	// Writer is the id of this process in the ids of its records. Default: random.
	Writer string
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
	table      marks        // target → its last learn number
	prefixes   prefixes     // the lengths of prefixes that were ever learnt
	soft       bool         // a soft target was ever learnt
	log        recordLog    // the last records, to be relayed
	standIn    string       // the id of the last `all` that was made for records that the log gave up
	views      map[string]*View
	lastProven time.Time // when any node was last proven
}

// NewBook returns a Book of no nodes.
func NewBook(o Options, now time.Time) *Book {
	if o.MaxTargets == 0 {
		o.MaxTargets = 1 << 20
	}
	if o.MaxRecords == 0 {
		o.MaxRecords = 1 << 19
	}
	if o.Writer == "" {
		o.Writer = rand.Text()[:16]
	}
	b := &Book{opts: o, started: now, table: newMarks(o.MaxTargets), views: map[string]*View{}, log: newRecordLog(o.MaxRecords)}
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

// AddNode returns the View of the node with this name, made Unknown if it is new.
func (b *Book) AddNode(name string) *View {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.views[name]
	if !ok {
		v = &View{book: b, name: name, table: newMarks(b.opts.MaxTargets), owed: map[string]sum{}, owedSums: map[sum]int{}}
		v.oweAllLocked()
		b.views[name] = v
		b.renewLocked()
	}
	return v
}

// RemoveNode forgets the node.
func (b *Book) RemoveNode(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.views, name)
	b.renewLocked()
}

// Learnt returns the newest learn number: the one of a fill that begins now.
func (b *Book) Learnt() uint64 { return b.learnt.Load() }

// NewRecord returns a record of this process for t.
func (b *Book) NewRecord(t Target) Record {
	return Record{ID: fmt.Sprintf("%s-%d", b.opts.Writer, b.made.Add(1)), Target: t}
}

// Learn records r and returns its learn number; a known record keeps the one
// that it has. From now on nothing that r selects and that was fetched before
// is served here, and r is owed to every node.
func (b *Book) Learn(r Record) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.learnLocked(r, nil)
}

// LearnAfter learns records that were made by the request whose response sel
// selects, and which was sent when the newest learn number was n. It returns
// the learn number of that response: it is newer than the records are. ok is
// false if anything else that selects it was learnt since n.
func (b *Book) LearnAfter(records []Record, n uint64, sel *Selectors) (learn uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok = n == b.learnt.Load() || b.judgeLocked(&b.table, n, sel) == Valid
	for _, r := range records {
		b.learnLocked(r, nil)
	}
	return b.learnt.Load(), ok
}

// learnLocked learns r; in is the View of the journal in which it was read, and
// nil if it was not.
func (b *Book) learnLocked(r Record, in *View) uint64 {
	if n, ok := b.log.learn(r.ID); ok {
		return n
	}
	n := b.learnt.Load() + 1
	b.table.set(b.indexLocked(r.Target), n)
	// The table first, then the number: whoever sees the number unchanged may
	// skip the table.
	b.learnt.Store(n)
	dropped := b.log.add(r, n)
	for _, v := range b.views {
		v.droppedLocked(dropped)
		if v != in {
			v.oweLocked(r)
		}
	}
	return n
}

// indexLocked returns the key of t in the tables; a prefix of a new length may
// be shortened, which selects more.
func (b *Book) indexLocked(t Target) sum {
	b.soft = b.soft || t.Soft
	if t.Kind == Prefix {
		t.Value = b.prefixes.note(t.Value)
	}
	return t.sum()
}

// forgetLocked makes everything that was fetched before now dead in this
// process: the near cache and the fills under way.
func (b *Book) forgetLocked(why rules) {
	if !b.has(why) {
		return
	}
	n := b.learnt.Load() + 1
	b.table.set(sumAll, n)
	b.learnt.Store(n)
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
	return b.judgeLocked(&b.table, n, sel), b.learnt.Load()
}

// judgeLocked compares what selects a response with the table.
func (b *Book) judgeLocked(m *marks, n uint64, sel *Selectors) Validity {
	if m.last(sumAll) > n || b.selectedLocked(m, n, sel, sel.hard, false) {
		return Dead
	}
	if b.soft && (m.last(sumAllSoft) > n || b.selectedLocked(m, n, sel, sel.soft, true)) {
		return Stale
	}
	return Valid
}

func (b *Book) selectedLocked(m *marks, n uint64, sel *Selectors, sums []sum, soft bool) bool {
	for _, s := range sums {
		if m.last(s) > n {
			return true
		}
	}
	return b.prefixes.any(sel.urls[:], func(prefix string) bool {
		return m.last(sumOf(Prefix, soft, prefix)) > n
	})
}

var (
	sumAll     = Target{Kind: All}.sum()
	sumReturn  = Target{Kind: Return}.sum()
	sumAllSoft = Target{Kind: All, Soft: true}.sum()
)
