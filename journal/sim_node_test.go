package journal

import (
	"maps"
	"slices"
	"time"
)

// simNode does what a Redis server with the append script does: a head, a
// stream, the record keys, and what is stored. All its steps are atomic.
type simNode struct {
	w       *world
	index   int
	down    bool
	data    simData
	subs    []*simSub
	saved   []simData // snapshots, or what a replica had at some time
	losses  int       // how often it lost records
	flushes int       // how often what lay there was declared dead
}

// server is the number of the server that the node is on: its own, or one of
// the two of a cluster.
func (n *simNode) server() int {
	if n.w.cluster {
		return n.index % 2
	}
	return n.index
}

// together are the nodes on one server, which share its fate.
func (n *simNode) together() (out []*simNode) {
	for _, other := range n.w.nodes {
		if other.server() == n.server() {
			out = append(out, other)
		}
	}
	return out
}

func (n *simNode) setDown(down bool) {
	for _, part := range n.together() {
		part.down = down
	}
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
		if known && (inc == d.head.Inc || w.off(mirrorKeyInc)) && !w.off(mirrorTwice) {
			continue
		}
		if slices.ContainsFunc(d.stream, func(e Entry) bool { return e.ID == r.ID }) {
			w.fail("node %d has record %s twice", n.index, r.ID)
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
		if e.Target.Kind == Flush {
			w.flushed++
			n.flushes++
		}
		w.note("node %d: %v %d %s %v", n.index, d.head, e.Seq, e.ID, e.Target)
		if i := slices.Index(simURLs, r.Target.Value); r.Target.Kind == URL && !r.Target.Soft && i >= 0 {
			delete(d.items, i)
		}
		if w.maxLen > 0 && len(d.stream) > w.maxLen+w.rng.IntN(4) {
			n.trim(w.maxLen)
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

// trim leaves the newest entries of the journal, so many.
func (n *simNode) trim(keep int) {
	d := &n.data
	n.w.trimmed += max(0, len(d.stream)-keep)
	d.stream = slices.Clone(d.stream[len(d.stream)-min(keep, len(d.stream)):])
}

// evict loses the head alone, as a server may that was told to evict any key.
func (n *simNode) evict() {
	n.losses++
	n.data.head, n.data.ok, n.data.stream = Head{}, false, nil
	clear(n.data.since)
}

func (n *simNode) flush() {
	for _, part := range n.together() {
		part.losses++
		part.data = newSimData()
	}
}

// restore puts an older state back. What was appended since then is as if it
// had never been; there, only WAIT on appends helps.
func (n *simNode) restore() {
	if len(n.saved) > 0 {
		which := n.w.rng.IntN(len(n.saved))
		for _, part := range n.together() {
			part.restoreFrom(part.saved[which])
		}
	}
}

func (n *simNode) restoreFrom(d simData) {
	n.losses++
	n.data = d.clone(0)
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
	for _, part := range n.together() {
		part.saved = append(part.saved, part.data.clone(n.w.now))
		if len(part.saved) > 4 {
			part.saved = part.saved[1:]
		}
	}
}

// simSub is one subscription. Its messages come in order, each late; when one
// is lost, the subscription is, and all that follow. A cluster passes messages
// on to whoever is subscribed anywhere: in order from each server, and some are
// lost on the way.
type simSub struct {
	p    *simProcess
	on   *simPlace
	ear  Ear
	live bool
	last map[int]time.Duration // when the last message comes, by the server that tells
}

// simMessage is an entry that a node tells of, or what a user published.
type simMessage struct {
	node   int
	inc    uint64
	entry  Entry
	user   *simInvalidation
	target Target
}

func (n *simNode) publish(m simMessage) {
	at := n
	if n.w.cluster {
		at = n.w.nodes[0]
	}
	m.node = n.index
	at.subs = slices.DeleteFunc(at.subs, func(s *simSub) bool { return !s.live })
	for _, s := range at.subs {
		due := max(s.last[n.server()], n.w.now+n.w.latency(), s.p.frozen)
		s.last[n.server()] = due
		n.w.after(due-n.w.now, func() {
			lost := n.w.chaos && n.w.rng.Float64() < n.w.loss
			broken := s.p.links[at.index] != linkUp || at.down
			if n.w.cluster && lost && !broken {
				return
			}
			if s.live = s.live && !lost && !broken && s.p.places[at.index] == s.on; s.live {
				s.p.heard(s, m)
			}
		})
	}
}
