package journal

import "time"

// requests is what clients ask of the process.
func (p *simProcess) requests() {
	for {
		p.w.sleep(time.Duration(1+p.w.rng.IntN(120)) * time.Millisecond)
		p.lookup(p.w.rng.IntN(len(simURLs)))
	}
}

// lookup is exchange.lookup: near cache, node, origin.
func (p *simProcess) lookup(url int) {
	if it, ok := p.near[url]; ok && !p.w.noNear && p.book.Leased(p.clock()) {
		v, upTo := p.book.ValidNear(it.learn, &simSelectors[url])
		if v == Valid {
			it.learn = upTo
			p.near[url] = it
			p.w.served(p, url, it, nil, p.w.now)
			return
		}
	}
	var pl *simPlace
	for i := range p.places {
		if c := p.places[(i+url)%len(p.places)]; c.inUse {
			pl = c
			break
		}
	}
	if pl != nil && p.lookupOn(pl, url) {
		return
	}
	if fl := p.flight[url]; fl != nil && p.follow(fl, url) {
		return
	}
	p.fill(pl, url)
}

// simFlight is the root's flight: a forward under way, which others may follow.
type simFlight struct {
	learn uint64
	done  bool
	item  simItem
}

// follow is exchange.follow and exchange.mayTake; true if the response was served.
func (p *simProcess) follow(fl *simFlight, url int) bool {
	for !fl.done {
		p.w.sleep(5 * time.Millisecond)
	}
	if !p.book.Leased(p.clock()) {
		return false
	}
	if v, _ := p.book.ValidNear(fl.learn, &simSelectors[url]); v != Valid && !p.w.off(mirrorFollower) {
		return false
	}
	p.w.served(p, url, fl.item, nil, p.w.now)
	return true
}

// lookupOn is lookup.read and lookup.judge; true if a response was served.
func (p *simProcess) lookupOn(pl *simPlace, url int) bool {
	sent, learn, sentAt := p.clock(), p.book.Learnt(), p.w.now
	var h Head
	var ok, found bool
	var it simItem
	var at time.Duration
	head := func() { h, ok = pl.node.data.head, pl.node.data.ok }
	if p.w.off(mirrorTogether) {
		if p.call(pl, head) != nil {
			return false
		}
		head = func() {}
	}
	err := p.call(pl, func() {
		head()
		it, found = pl.node.data.items[url]
		at = p.w.now
	})
	if err != nil {
		return false
	}
	sight := pl.view.Observe(h, ok, p.proof(sent))
	p.w.note("process %d node %d: looks up %d, head %v: %d, item %v", p.index, pl.node.index, url, h, sight, it)
	switch sight {
	case Proven:
		if pl.view.head == h {
			p.prove(pl, sentAt)
		}
	case Behind:
		if p.readToHead(pl, 2) != nil {
			return false
		}
	case Forked:
		pl.keeper.wake()
		return false
	}
	if !found || pl.view.ValidNode(it.stamp, &simSelectors[url]) != Valid {
		return false
	}
	if !p.w.off(mirrorLeased) && !p.book.Leased(p.clock()) {
		return false
	}
	it.learn, it.shared = learn, true
	p.near[url] = it
	p.w.served(p, url, it, pl.node, at)
	return true
}

// fill is exchange.fetch and pool.keep; the place (pool.placeFor) comes first.
func (p *simProcess) fill(pl *simPlace, url int) {
	var it simItem
	ok := false
	place := func() {
		it.learn = p.book.Learnt()
		if pl != nil {
			it.stamp, ok = pl.view.Stamp(p.clock())
		}
	}
	learn := func() { it.learn = p.book.Learnt() }
	place()
	fl := &simFlight{learn: it.learn}
	p.flight[url] = fl
	p.w.sleep(p.w.latency())
	it.version = p.w.versions[url]
	p.w.sleep(time.Duration(p.w.rng.IntN(p.w.slowest)) * time.Millisecond)
	if p.w.off(mirrorStamp) {
		first := it.learn
		place()
		it.learn = first
	}
	if p.w.off(mirrorLearn) {
		learn()
	}
	p.w.note("process %d: fills %d with %v (%v)", p.index, url, it, ok)
	fl.item, fl.done = it, true
	if p.flight[url] == fl {
		delete(p.flight, url)
	}
	p.near[url] = it
	if pl != nil && ok && pl.inUse {
		p.call(pl, func() { pl.node.data.items[url] = it }) //nolint:errcheck // it is not stored then
	}
}
