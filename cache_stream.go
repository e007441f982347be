package fluster

import (
	"slices"
	"sync"
	"time"
)

// The body of a flight streams through memory in blocks, from the forward to
// those who take it. As long as it is short enough to be kept whole, all of it
// stays, and nobody waits for anybody. From then on it passes by:
//
//  1. While it is being stored on a node in chunks, and the origin can be asked
//     for a part of it, the fastest client sets the pace. Memory holds a little
//     behind it; who falls back further reads the chunks, and so does who comes
//     later. Should the node fail, the origin has the rest.
//  2. Else the slowest sets the pace, until others have waited for `slowest` in
//     all. Then it is rule 1 if there are chunks; else those who lag are sent away if
//     the origin can be asked for the rest, or the slowest if it has taken nothing for
//     so long.
//  3. If nothing stores it, and nobody shares it when its leader's client has the
//     first of it, it is that client's alone: who comes then cannot have its beginning.
//
// Who is sent away, or finds a chunk gone, asks the origin for the rest alone
// (cache_continue.go); where that is not possible its response is broken off.
// What a flight that passes by holds is bounded by `behind`.

const (
	// blockSize is the length of a block of a body whose length is not known, or
	// is too long for one block; longBlock that of a body known to be long while
	// there is plenty of room: what is written to a client at one time.
	blockSize = 16 << 10
	longBlock = 32 << 10
	// firstBody is the longest body that is one block, made for it by its
	// Content-Length before it has come.
	firstBody = 256 << 10
	// awaitedBody is the longest body that is kept whole for those who wait for it.
	awaitedBody = 1 << 20
	// ahead is how far the forward may be before a lone client; farAhead while there
	// is plenty of room: each need not wait for the other at each step.
	ahead    = 16 << 10
	farAhead = 256 << 10
	// behind is how much memory holds for those who are behind the fastest.
	behind = 256 << 10
	// slowest is how long all wait for a follower that takes nothing.
	slowest = 10 * time.Second

	// maxRecorded bounds the bytes of body that all forwards under way, and all
	// who read from nodes, hold together. What is beyond it is not kept whole.
	maxRecorded = 64 << 20
	// maxUnknown bounds them for bodies that do not say how long they will be.
	maxUnknown = 4 << 20
	// plenty is how many bytes they hold together at most where there is plenty of room.
	plenty = 512 << 10
)

// block is a part of a body. Its bytes up to len(data) do not change.
type block struct {
	data    []byte
	readers int  // those who write it to their clients just now
	dropped bool // the flight holds it no more
	shared  bool // somebody else has the bytes too
}

// blocks and longBlocks are spare ones, with memory of their size and nothing in it.
var (
	blocks     = sync.Pool{New: func() any { return &block{data: make([]byte, 0, blockSize)} }}
	longBlocks = sync.Pool{New: func() any { return &block{data: make([]byte, 0, longBlock)} }}
)

// spareBlocks returns those of a length, nil if none are kept.
func spareBlocks(unit int64) *sync.Pool {
	switch unit {
	case blockSize:
		return &blocks
	case longBlock:
		return &longBlocks
	}
	return nil
}

// add appends to the body. It returns false when the body is not kept whole;
// then it waits as the rules above say. most is how long a body may be that is.
func (f *flight) add(p []byte, most int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.appendLocked(p)
	f.changedLocked()
	if !f.passing && f.overflowsLocked(most) {
		f.passing = true
	}
	if !f.passing {
		return true
	}
	f.trimLocked()
	f.holdLocked()
	return false
}

// appendLocked copies p to the end of the body.
func (f *flight) appendLocked(p []byte) {
	if f.unit == 0 {
		switch {
		case 0 < f.length && f.length <= firstBody:
			f.unit = f.length
		case f.length > firstBody && f.all.hasPlenty():
			f.unit = longBlock
		default:
			f.unit = blockSize
		}
	}
	for len(p) > 0 {
		n := len(f.blocks)
		if n == 0 || int64(len(f.blocks[n-1].data)) == f.unit {
			f.addBlock(len(p))
			f.all.recorded.Add(f.unit)
			n++
		}
		last := f.blocks[n-1]
		k := min(int64(len(p)), f.unit-int64(len(last.data)))
		last.data = append(last.data, p[:k]...)
		if k == f.unit {
			last.data = slices.Clip(last.data) // what was made for it has its size
		}
		f.have += k
		p = p[k:]
	}
}

// hasPlenty reports whether there is plenty of room for what flights hold.
func (fs *flights) hasPlenty() bool { return fs.recorded.Load() < plenty }

// addBlock adds an empty block, to which n bytes are appended next.
func (f *flight) addBlock(n int) {
	isFirst := f.blocks == nil && f.have == 0
	if isFirst {
		f.blocks = f.list[:0]
	}
	hasRoom, spare := f.room != nil && f.unit == int64(cap(f.room)), spareBlocks(f.unit)
	if spare != nil && !hasRoom {
		f.blocks = append(f.blocks, spare.Get().(*block))
		return
	}
	b := &f.first
	if !isFirst {
		b = new(block)
	}
	if hasRoom {
		b.data, f.room = f.room, nil
	} else if int64(n) < f.unit-f.unit/8 {
		b.data = make([]byte, 0, f.unit)
	} // else append makes memory that need not be cleared first
	f.blocks = append(f.blocks, b)
}

// overflowsLocked reports whether the body is longer than may be kept whole.
func (f *flight) overflowsLocked(most int64) bool {
	n, all := f.have, f.all.recorded.Load()
	return n > most || n > inlineBody && (all > maxRecorded || f.length < 0 && all > maxUnknown)
}

// passBy says that the body will not be kept whole.
func (f *flight) passBy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passing = true
}

// feed lets the body be stored in chunks, from its first byte on, all of which
// must still be there.
func (f *flight) feed(fl *fill) {
	f.mu.Lock()
	f.fill = fl
	blocks := f.blocks
	f.mu.Unlock()
	for _, b := range blocks {
		fl.add(b.data) // the only one who appends is the caller
	}
}

// whole returns the body, if all of it is there.
func (f *flight) whole() (body []byte, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.passing || f.base > 0 {
		return nil, false
	}
	if len(f.blocks) == 1 {
		f.blocks[0].shared = true
		return f.blocks[0].data, true
	}
	body = make([]byte, 0, f.have)
	for _, b := range f.blocks {
		body = append(body, b.data...)
	}
	return body, true
}

// offer makes body, which nobody will change, the flight's.
func (f *flight) offer(body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unit = int64(len(body))
	f.have = f.unit
	if f.unit > 0 {
		f.blocks = []*block{{data: body, shared: true}}
		f.all.recorded.Add(f.unit)
	}
}

// trimLocked drops the blocks of a body that passes by which need not be held.
func (f *flight) trimLocked() {
	if f.isBoardingLocked() {
		return
	}
	pace := f.paceLocked()
	keep := int64(0)
	if f.fastestLeadsLocked() && (len(f.followers) > 1 || f.isFallenLocked()) {
		keep = f.behindLocked()
	}
	for len(f.blocks) > 0 {
		first := f.blocks[0]
		end := f.base + f.unit
		if int64(len(first.data)) < f.unit || end > pace || f.have-end < keep {
			return
		}
		f.base = end
		f.blocks[0] = nil
		f.blocks = f.blocks[1:]
		f.dropLocked(first)
	}
}

// dropAllLocked drops all blocks.
func (f *flight) dropAllLocked() {
	for _, b := range f.blocks {
		f.dropLocked(b)
	}
	f.base, f.blocks = f.have, nil
}

// dropLocked lets go of a block, whose memory is used again when nobody reads it.
func (f *flight) dropLocked(b *block) {
	b.dropped = true
	f.all.recorded.Add(-f.unit)
	f.recycleLocked(b)
}

func (f *flight) recycleLocked(b *block) {
	if !b.dropped || b.readers > 0 || b.shared || b == &f.first {
		return
	}
	if spare := spareBlocks(f.unit); spare != nil {
		*b = block{data: b.data[:0]}
		spare.Put(b)
	}
}

// taken is what a follower gets at one time.
type taken struct {
	part    []byte // the next part of the body; to be given back by done
	block   *block
	state   flightState
	stuck   bool            // the flight was ended for its leader's client
	sentOff bool            // nobody waits for this follower any more
	fallen  bool            // memory has the next part no more
	changed <-chan struct{} // closed when there may be more
}

// take returns what there is of the body from off on, which the follower has
// taken so far.
func (f *flight) take(x *exchange, off int64) taken {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := taken{state: f.state, stuck: f.stuck}
	if f.evicted[x] {
		t.sentOff = true
		return t
	}
	moved := f.followers[x] != off
	f.followers[x] = off
	if f.held && moved && f.isNearLocked() { // else those who wait for more would wake each other for ever
		f.changedLocked()
	}
	switch {
	case off < f.base:
		t.fallen = true
	case off < f.have:
		t.block = f.blocks[(off-f.base)/f.unit]
		t.block.readers++
		t.part = t.block.data[(off-f.base)%f.unit:]
	default:
		t.changed = f.changeLocked()
	}
	return t
}

// done gives back what a follower took. What could not be written to its client may
// yet be on its way there: a write in HTTP/2 ends at once when the client resets the
// stream, whatever the frame that is just being sent. That memory is nobody else's.
func (f *flight) done(b *block, written bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.readers--
	b.shared = b.shared || !written
	f.recycleLocked(b)
}
