package journal

import (
	"errors"
	"time"
)

// simProcess mirrors what the root does with one Book. Each method names the
// function that it stands for; each sleep is a moment at which anything else
// may happen.
type simProcess struct {
	w      *world
	index  int
	gen    int           // restarts
	frozen time.Duration // until when it is suspended
	slept  time.Duration // how long it was
	born   time.Duration
	book   *Book
	near   map[int]simItem
	flight map[int]*simFlight
	proved []time.Duration // for each node, when a read was sent that proved its journal; -1: never
	places []*simPlace
	links  []simLink
}

// simPlace is the root's node: one node as one process uses it.
type simPlace struct {
	node    *simNode
	view    *View
	inUse   bool
	slow    int
	reading bool
	keeper  *task
	sub     *simSub
}

type simLink int

const (
	linkUp simLink = iota
	linkRefused
	linkStalled
)

const simTimeout = 100 * time.Millisecond

func (p *simProcess) start() {
	p.gen++
	p.born, p.slept = p.w.now, 0
	p.book = NewBook(Options{MaxTargets: p.w.maxTargets, MaxRecords: p.w.maxRecords, MaxBlind: p.w.maxBlind, Strict: p.w.strict, maxNamed: p.w.maxNamed, vouchEvery: uint64(p.w.vouchEvery), Writer: p.w.writer()}, p.clock())
	p.book.without = p.w.without
	p.near, p.flight = map[int]simItem{}, map[int]*simFlight{}
	p.places, p.proved = nil, nil
	for _, n := range p.w.nodes {
		pl := &simPlace{node: n, view: p.book.AddNode(string(rune('a' + n.index)))}
		p.places = append(p.places, pl)
		p.proved = append(p.proved, -1)
		pl.keeper = p.w.spawn(p, func() { p.keep(pl) })
		if n.index == 0 || !p.w.cluster {
			p.w.spawn(p, func() { p.listen(pl) })
		}
	}
	for range 2 {
		p.w.spawn(p, p.requests)
	}
}

// clock is the time as the process tells it.
func (p *simProcess) clock() time.Time {
	if p.w.off(mirrorClock) {
		return p.w.time().Add(-p.slept)
	}
	return p.w.time()
}

// freeze suspends the process.
func (p *simProcess) freeze(until time.Duration) {
	p.slept += max(0, until-max(p.frozen, p.w.now))
	p.frozen = max(p.frozen, until)
}

var errSim = errors.New("the node does not answer")

// call is one command on a node, within the time-out, and the report of its
// outcome (penaltyBox.Report).
func (p *simProcess) call(pl *simPlace, do func()) error {
	i := pl.node.index
	if p.links[i] == linkRefused || pl.node.down {
		p.w.sleep(time.Millisecond)
		pl.expel()
		return errSim
	}
	p.w.sleep(p.w.latency())
	ok := p.links[i] == linkUp && !pl.node.down
	if ok {
		do()
		p.w.sleep(p.w.latency())
		ok = p.links[i] == linkUp && !pl.node.down
	}
	if !ok {
		p.w.sleep(simTimeout / 2)
		if pl.slow++; pl.slow >= 3 {
			pl.expel()
		}
		return errSim
	}
	pl.slow = 0
	return nil
}

// expel is seat.expel.
func (pl *simPlace) expel() {
	if pl.inUse {
		pl.inUse = false
		pl.keeper.wake()
	}
}

// keep is node.keep, with node.sync, node.watch and node.sitOut in it.
func (p *simProcess) keep(pl *simPlace) {
	for {
		err := p.sync(pl)
		if err == nil && pl.view.Use() {
			pl.inUse, pl.slow = true, 0
		}
		for err == nil && pl.inUse {
			err = p.watch(pl)
			if err != nil && pl.inUse {
				err = nil
				p.w.sleep(time.Millisecond)
			}
		}
		pl.inUse = false
		pl.view.Penalize()
		p.w.sleep(time.Duration(50+p.w.rng.IntN(250)) * time.Millisecond)
	}
}

func (p *simProcess) sync(pl *simPlace) error {
	if p.w.off(mirrorSync) {
		pl.view.loaded = true
		pl.view.nameLocked()
		pl.view.provenLocked(p.clock())
		return p.call(pl, func() {})
	}
	if err := p.readToHead(pl, 64); err != nil {
		return err
	}
	if err := p.relay(pl); err != nil {
		return err
	}
	return p.readToHead(pl, 64)
}

// watch is one round of node.watch.
func (p *simProcess) watch(pl *simPlace) error {
	p.w.sleepUntilWoken(Lease / 3)
	if !pl.inUse || p.w.off(mirrorPoll) {
		return nil
	}
	if err := p.look(pl); err != nil {
		return err
	}
	if pl.view.Owes() == 0 {
		return nil
	}
	p.w.sleep(time.Duration(200+p.w.rng.IntN(50)) * time.Millisecond)
	return p.relay(pl)
}

// look is node.look.
func (p *simProcess) look(pl *simPlace) error {
	sent, at := p.clock(), p.w.now
	var h Head
	var ok bool
	if err := p.call(pl, func() { h, ok = pl.node.data.head, pl.node.data.ok }); err != nil {
		return err
	}
	if pl.view.Observe(h, ok, p.proof(sent)) == Proven {
		if pl.view.head == h {
			p.prove(pl, at)
		}
		return nil
	}
	return p.readToHead(pl, 64)
}

// prove notes for the oracle that the journal was read to the head by what was
// sent at at.
func (p *simProcess) prove(pl *simPlace, at time.Duration) {
	p.proved[pl.node.index] = max(p.proved[pl.node.index], at)
}

// proof is the time as of which a reading proves something.
func (p *simProcess) proof(sent time.Time) time.Time {
	if p.w.off(mirrorSent) {
		return p.clock()
	}
	return sent
}

// readToHead is node.readToHead, with node.readPage in it.
func (p *simProcess) readToHead(pl *simPlace, tries int) error {
	for i := 0; pl.reading; i++ {
		if i == 1000 {
			return errSim
		}
		p.w.sleep(time.Millisecond)
	}
	pl.reading = true
	defer func() { pl.reading = false }()
	for behind := 0; tries > 0 && behind < 1000; behind++ {
		from, sent, at := pl.view.From(), p.clock(), p.w.now
		var h Head
		var entries []Entry
		var ok bool
		if err := p.call(pl, func() { h, entries, ok = pl.node.read(from) }); err != nil {
			return err
		}
		if !ok {
			pl.view.Observe(h, false, sent)
			if err := p.call(pl, func() { pl.node.append(nil) }); err != nil {
				return err
			}
			tries--
			continue
		}
		sight := pl.view.Advance(from, h, entries, p.proof(sent))
		p.w.note("process %d node %d: read %d, head %v, %d entries: %d", p.index, pl.node.index, from, h, len(entries), sight)
		switch sight {
		case Proven:
			p.prove(pl, at)
			return nil
		case Forked:
			tries--
		}
	}
	return errSim
}

// relay is node.relay.
func (p *simProcess) relay(pl *simPlace) error {
	for range 1024 {
		owed := pl.view.Owed(5)
		if len(owed) == 0 || p.w.off(mirrorRelay) {
			return nil
		}
		h, known, err := p.append(pl, owed)
		if err != nil {
			return err
		}
		if err := p.readToHead(pl, 8); err != nil {
			return err
		}
		pl.view.Holds(h, known)
	}
	return nil
}

// append is node.append; it returns the records that were there already.
func (p *simProcess) append(pl *simPlace, records []Record) (h Head, known []Record, err error) {
	var news []Entry
	if err := p.call(pl, func() { h, news = pl.node.append(records) }); err != nil {
		return h, nil, err
	}
	isNew := map[string]bool{}
	for _, e := range news {
		isNew[e.ID] = true
		if !pl.view.Heard(h.Inc, e) {
			pl.keeper.wake()
			break
		}
	}
	for _, r := range records {
		if !isNew[r.ID] {
			known = append(known, r)
		}
	}
	return h, known, nil
}

// listen is node.listen and node.hear.
func (p *simProcess) listen(pl *simPlace) {
	for {
		if pl.inUse && p.links[pl.node.index] == linkUp && !pl.node.down {
			pl.sub = &simSub{p: p, on: pl, live: true, last: map[int]time.Duration{}}
			pl.node.subs = append(pl.node.subs, pl.sub)
			pl.keeper.wake()
			for pl.sub.live && p.links[pl.node.index] == linkUp && !pl.node.down {
				p.w.sleep(50 * time.Millisecond)
			}
			pl.sub.live = false
		}
		p.w.sleep(time.Duration(250+p.w.rng.IntN(250)) * time.Millisecond)
	}
}

// heard is node.heard.
func (p *simProcess) heard(s *simSub, m simMessage) {
	if m.user == nil {
		if !p.w.cluster {
			s.ear.Entry(m.entry.Nonce)
		}
		if about := p.places[m.node]; !about.view.Heard(m.inc, m.entry) {
			about.keeper.wake()
		}
		return
	}
	name := s.ear.Message()
	if p.w.off(mirrorName) {
		name = "" // as it was: a record of one's own, which others may cover
	}
	r := p.book.HeardRecords(name, []Target{m.target})[0]
	p.w.own(r, m.user)
	p.book.Learn(r)
	learn := p.book.Learnt()
	p.w.spawn(p, func() { p.herald(r, learn, m.user) })
}

// herald is herald.write after its random moment.
func (p *simProcess) herald(r Record, learn uint64, inv *simInvalidation) {
	p.w.sleep(time.Duration(p.w.rng.IntN(50)) * time.Millisecond)
	switch {
	case p.w.off(mirrorName) && p.book.LearntSince(r.Target, learn):
		p.book.Withdraw(r)
		p.w.covered(p, inv)
		return
	case !p.book.Owes(r):
		return
	}
	p.appendAll([]Record{r}, func(*simPlace) {})
}

// appendAll is pool.appendAll: done is called for each node that has the records.
func (p *simProcess) appendAll(records []Record, done func(pl *simPlace)) {
	for _, pl := range p.places {
		p.w.spawn(p, func() {
			for try := 0; try < 3 && pl.inUse; try++ {
				if _, _, err := p.append(pl, records); err == nil {
					done(pl)
					return
				}
			}
			pl.keeper.wake()
			done(nil)
		})
	}
}

// invalidate is pool.invalidate.
func (p *simProcess) invalidate(t Target, inv *simInvalidation) {
	r := p.book.NewRecord(t)
	p.w.own(r, inv)
	inv.made, inv.madeIn = p, p.gen
	if !p.w.off(mirrorFirst) {
		p.book.Learn(r)
	}
	left := len(p.places)
	has := map[*simPlace]bool{}
	p.appendAll([]Record{r}, func(pl *simPlace) {
		if pl != nil {
			has[pl] = true
		}
		if left--; left > 0 && !p.w.off(mirrorAck) || inv.acked > 0 {
			return
		}
		p.book.Learn(r)
		if p.reached(has) {
			p.w.acknowledge(p, inv, has)
		}
	})
}

// reached is pool.reached.
func (p *simProcess) reached(has map[*simPlace]bool) bool {
	for _, pl := range p.places {
		if pl.inUse && !has[pl] && !p.w.off(mirrorAck) {
			return false
		}
	}
	if p.w.strict && !p.w.off(mirrorMajority) {
		return len(has) > len(p.places)/2
	}
	return len(has) > 0
}
