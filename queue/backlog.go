package queue

import (
	"context"
	"sync"
	"time"
)

const (
	// countFresh is how long a count of another partition is believed.
	countFresh = time.Second
	// fullFor is how long a full queue is taken for full without asking again.
	fullFor = 50 * time.Millisecond
	// drainWindow is over what time the drain rate is measured, at least.
	drainWindow = time.Second
)

// A room is how much of a backlog a partition may have when a message has been
// put in; -1: any number.
type room struct {
	messages, bytes, ageMS int64
	told                   int // known.told when it was reserved
}

// noBounds is the room where there is no bound.
var noBounds = room{messages: -1, bytes: -1, ageMS: -1}

// A load is how much of a backlog something is.
type load struct{ messages, bytes int64 }

func (l load) plus(other load) load {
	return load{l.messages + other.messages, l.bytes + other.bytes}
}

func (l load) minus(other load) load {
	return load{l.messages - other.messages, l.bytes - other.bytes}
}

// A known is what is known of how much of the backlog a partition has. It is
// guarded by its client's backlog.
type known struct {
	load
	age    time.Duration // of the oldest that is ready, when it was counted
	at     time.Time     // when it was counted; zero: never
	coming load          // what this client is putting in now, and may be counted or not
	told   int           // how often it was counted
}

// A backlog keeps a queue within its bounds, over all partitions.
//
// The script on each partition checks what is there; how much that may be
// depends on what the others have, as this client knows it. What always holds, for
// one client: known + coming of a partition is at least what is there or on its
// way. As long as that leaves room, messages go in side by side. Else they go in
// one by one, when all is counted: so the bound is exact where there is one
// client, and nearly so where there are several.
type backlog struct {
	bounds Backlog
	turn   chan struct{} // has an element while someone goes in alone

	mu       sync.Mutex // guards what follows, and known of all partitions
	full     time.Time  // until when it is taken for full
	accepted int64
	drain    drain
}

// bounded reports whether there is a bound.
func (b *backlog) bounded() bool { return b.bounds != Backlog{} }

// enter waits until a parcel may go into the chosen partition. It returns how
// much may be there then, and what ends its stay; or ErrBacklog.
func (c *Client) enter(ctx context.Context, p *parcel) (room, func(), error) {
	b := &c.backlog
	if !b.bounded() {
		return noBounds, func() {}, nil
	}
	n := int64(len(c.o.Destinations))
	more := load{n, n * c.counted(p)}
	if !p.alone && !b.isFull() {
		c.recount(ctx, p.partition, countFresh)
		if r, ok := c.reserve(p.partition, more); ok {
			return r, func() { c.unreserve(p.partition, more) }, nil
		}
	}
	return c.enterAlone(ctx, p.partition, more)
}

// enterAlone is enter where there may be no room.
func (c *Client) enterAlone(ctx context.Context, p *partition, more load) (room, func(), error) {
	b := &c.backlog
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return room{}, nil, ErrBacklog // as far as anyone knows
	}
	for !b.isFull() {
		c.recount(ctx, p, 0)
		if r, ok := c.reserve(p, more); ok {
			return r, func() { c.unreserve(p, more); <-b.turn }, nil
		}
		// What is coming may be counted twice: wait until it is in.
		if !c.anyComing() || !sleep(ctx, time.Millisecond) {
			b.setFull()
		}
	}
	<-b.turn
	return room{}, nil, ErrBacklog
}

func (b *backlog) isFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.full)
}

func (b *backlog) setFull() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = time.Now().Add(fullFor)
}

// reserve counts what is to be put into p as coming, if there is room for it by
// all that is known, and returns how much may be on p then.
func (c *Client) reserve(p *partition, more load) (room, bool) {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	var elsewhere load
	for _, other := range c.partitions {
		k := &other.known
		if other == p {
			continue
		}
		if b.bounds.Age > 0 && k.age > b.bounds.Age {
			return room{}, false
		}
		elsewhere = elsewhere.plus(k.load).plus(k.coming)
	}
	here := p.known.load.plus(p.known.coming)
	all := elsewhere.plus(here)
	b.drain.observe(time.Now(), all.messages, b.accepted)
	all = all.plus(more)
	if b.bounds.Messages > 0 && all.messages > b.bounds.Messages || b.bounds.Bytes > 0 && all.bytes > b.bounds.Bytes {
		return room{}, false
	}
	p.known.coming = p.known.coming.plus(more)
	r := noBounds
	r.told = p.known.told
	if b.bounds.Messages > 0 {
		r.messages = b.bounds.Messages - elsewhere.messages
	}
	if b.bounds.Bytes > 0 {
		r.bytes = b.bounds.Bytes - elsewhere.bytes
	}
	if b.bounds.Age > 0 {
		r.ageMS = b.bounds.Age.Milliseconds()
	}
	return r, true
}

// unreserve ends a stay: what was coming is in, and counted by tell, or is not.
func (c *Client) unreserve(p *partition, more load) {
	c.backlog.mu.Lock()
	defer c.backlog.mu.Unlock()
	p.known.coming = p.known.coming.minus(more)
	p.known.told++ // what is counted now may not have it
}

// countIn counts what was accepted.
func (b *backlog) countIn(messages int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted += messages
}

func (c *Client) anyComing() bool {
	c.backlog.mu.Lock()
	defer c.backlog.mu.Unlock()
	for _, p := range c.partitions {
		if p.known.coming != (load{}) {
			return true
		}
	}
	return false
}

// tell takes what a script on p has counted, of which mine is what was reserved
// for this message, and since what told was then. If anything else was on its way
// meanwhile, an older answer may come after a newer one, so that only more is
// believed.
func (c *Client) tell(p *partition, counted load, age time.Duration, mine load, since int) {
	b := &c.backlog
	b.mu.Lock()
	defer b.mu.Unlock()
	p.known.told++
	if p.known.coming != mine || p.known.told != since+1 {
		counted.messages = max(counted.messages, p.known.messages)
		counted.bytes = max(counted.bytes, p.known.bytes)
	}
	p.known.load, p.known.age, p.known.at = counted, age, time.Now()
}

// recount asks the partitions but one how much they have, if that was not asked
// within fresh. What cannot be reached has what it had.
func (c *Client) recount(ctx context.Context, but *partition, fresh time.Duration) {
	now := time.Now()
	var ask []*partition
	c.backlog.mu.Lock()
	for _, p := range c.partitions {
		// With nothing fresh, all are asked, so that what drained makes room.
		if (p != but || fresh == 0) && now.Sub(p.known.at) >= fresh && p.rest.ready(now, reading) {
			ask = append(ask, p)
		}
	}
	c.backlog.mu.Unlock()
	if len(ask) == 0 {
		return
	}
	var wg sync.WaitGroup
	for _, p := range ask {
		wg.Go(func() { c.recountOne(ctx, p) })
	}
	wg.Wait()
}

// recountOne asks one partition how much it has.
func (c *Client) recountOne(ctx context.Context, p *partition) {
	if !p.available() {
		return
	}
	if _, err := p.learnLanes(ctx); err != nil {
		p.report(ctx, err)
		return
	}
	c.backlog.mu.Lock()
	since := p.known.told
	c.backlog.mu.Unlock()
	all := p.lanes()
	keys := append([]string{p.keys.delayed(), p.keys.counters()}, p.laneStreams(all)...)
	of := ""
	if c.backlog.bounds.Age > 0 {
		of = group
	}
	n, err := countScript.run(ctx, p, keys, of, p.aged(all)).Int64Slice()
	p.report(ctx, err)
	if err == nil && len(n) == 3 {
		c.tell(p, load{n[0], n[1]}, time.Duration(n[2])*time.Millisecond, load{}, since)
	}
}

// A drain measures how fast a queue becomes shorter but for what comes in.
type drain struct {
	since    time.Time
	length   int64
	accepted int64
	rate     float64 // messages a second; 0: not known
}

// observe takes how long the queue is, and how many messages this process has
// ever put in.
func (d *drain) observe(now time.Time, length, accepted int64) {
	if d.since.IsZero() {
		d.since, d.length, d.accepted = now, length, accepted
		return
	}
	took := now.Sub(d.since)
	if took < drainWindow {
		return
	}
	gone := (d.length + accepted - d.accepted) - length
	d.rate = max(float64(gone)/took.Seconds(), 0)
	d.since, d.length, d.accepted = now, length, accepted
}

// retryAfter returns when a twentieth of what may be in is gone.
func (b *backlog) retryAfter() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drain.since.IsZero() || b.drain.rate == 0 {
		return 10 * time.Second
	}
	wanted := max(float64(b.drain.length)/20, 1)
	return time.Duration(min(wanted/b.drain.rate, 3600) * float64(time.Second))
}
