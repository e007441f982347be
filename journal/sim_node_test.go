package journal

import (
	"maps"
	"slices"
	"time"
)

// simNode does what a Redis server with the append script does: a head, a
// stream, the record keys, and what is stored. All its steps are atomic.
type simNode struct {
	w     *world
	index int
	down  bool
	data  simData
	subs  []*simSub
	saved []simData // snapshots, or what a replica had at some time
}

// simData is what a node loses with a crash.
type simData struct {
	at     time.Duration // when it was copied
	head   Head
	ok     bool
	stream []Entry
	ids    map[string]uint64 // record key → the inc that it was made under
	items  map[int]simItem   // by URL
	since  map[*simInvalidation]time.Duration
}

// simItem is a stored response.
type simItem struct {
	version int
	stamp   Stamp
	learn   uint64 // in a near cache
	shared  bool   // in a near cache: it was read on a node
}

func newSimData() simData {
	return simData{ids: map[string]uint64{}, items: map[int]simItem{}, since: map[*simInvalidation]time.Duration{}}
}

func (d simData) clone(now time.Duration) simData {
	d.at = now
	d.stream, d.ids, d.items, d.since = slices.Clone(d.stream), maps.Clone(d.ids), maps.Clone(d.items), maps.Clone(d.since)
	return d
}

// append is appendSource of the root's journal_node.go. A record key holds the
// inc that it was made under: a record key that outlives the head (it may be
// evicted, or given up as foreign) must not keep the record from the new journal.
func (n *simNode) append(records []Record) (Head, []Entry) {
	w, d := n.w, &n.data
	if !d.ok {
		d.head, d.ok = Head{Inc: w.random(), Seq: 1, Nonce: w.random()}, true
		d.stream = []Entry{{Seq: 1, Nonce: d.head.Nonce, Record: Record{Target: Target{Kind: Begin}}}}
	}
	var news []Entry
	for _, r := range records {
		inc, known := d.ids[r.ID]
		if known && (inc == d.head.Inc || w.off(mirrorKeyInc)) {
			continue
		}
		d.ids[r.ID] = d.head.Inc
		after := d.head.Nonce
		d.head.Seq++
		d.head.Nonce = w.random()
		if w.off(mirrorNonce) {
			d.head.Nonce = uint64(len(r.ID))<<32 + uint64(sumOf(URL, r.ID))
		}
		e := Entry{Record: r, Seq: d.head.Seq, Nonce: d.head.Nonce, After: after}
		d.stream = append(d.stream, e)
		w.note("node %d: %v %d %s %v", n.index, d.head, e.Seq, e.ID, e.Target)
		if i := slices.Index(simURLs, r.Target.Value); r.Target.Kind == URL && !r.Target.Soft && i >= 0 {
			delete(d.items, i)
		}
		if w.maxLen > 0 && len(d.stream) > w.maxLen+w.rng.IntN(4) {
			d.stream = slices.Clone(d.stream[len(d.stream)-w.maxLen:])
		}
		w.appended(n, r)
		news = append(news, e)
	}
	for _, e := range news {
		n.publish(simMessage{inc: d.head.Inc, entry: e})
	}
	return d.head, news
}

// read is journalOn.read, with pages of simPage entries.
func (n *simNode) read(from uint64) (Head, []Entry, bool) {
	d := &n.data
	i := slices.IndexFunc(d.stream, func(e Entry) bool { return e.Seq >= max(from, 1) })
	if i < 0 {
		return d.head, nil, d.ok
	}
	page := d.stream[i:min(i+simPage, len(d.stream))]
	return d.head, slices.Clone(page), d.ok
}

const simPage = 3

// evict loses the head alone, as a server may that was told to evict any key.
func (n *simNode) evict() {
	n.data.head, n.data.ok, n.data.stream = Head{}, false, nil
	clear(n.data.since)
}

func (n *simNode) flush() { n.data = newSimData() }

// restore puts an older state back. What was appended since then is as if it
// had never been; there, only WAIT on appends helps.
func (n *simNode) restore() {
	if len(n.saved) == 0 {
		return
	}
	n.data = n.saved[n.w.rng.IntN(len(n.saved))].clone(0)
	for _, inv := range n.w.invalidations {
		since, ok := n.data.since[inv]
		if !ok {
			inv.attached[n.index] = nil
			continue
		}
		n.data.since[inv] = max(since, n.w.now)
	}
}

func (n *simNode) save() {
	n.saved = append(n.saved, n.data.clone(n.w.now))
	if len(n.saved) > 4 {
		n.saved = n.saved[1:]
	}
}

// simSub is one subscription. Its messages come in order, each late; when one
// is lost, the subscription is, and all that follow.
type simSub struct {
	p    *simProcess
	on   *simPlace
	ear  Ear
	live bool
	last time.Duration // when the last message comes
}

// simMessage is an entry that a node tells of, or what a user published.
type simMessage struct {
	inc    uint64
	entry  Entry
	user   *simInvalidation
	target Target
}

func (n *simNode) publish(m simMessage) {
	n.subs = slices.DeleteFunc(n.subs, func(s *simSub) bool { return !s.live })
	for _, s := range n.subs {
		s.last = max(s.last, n.w.now+n.w.latency(), s.p.frozen)
		n.w.after(s.last-n.w.now, func() {
			lost := n.w.chaos && n.w.rng.Float64() < n.w.loss || s.p.links[n.index] != linkUp || n.down
			if s.live = s.live && !lost && s.p.places[n.index] == s.on; s.live {
				s.p.heard(s, m)
			}
		})
	}
}
