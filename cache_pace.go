package fluster

import "time"

// paceLocked returns how far the forward's pace-maker has come. Who reads chunks
// is none: those may not be complete until the forward goes on.
func (f *flight) paceLocked() int64 {
	least, most := f.have, int64(0)
	for _, off := range f.followers {
		least, most = min(least, off), max(most, off)
	}
	switch {
	case len(f.followers) == 0:
		return f.have
	case !f.fastestLeadsLocked():
		return least
	case most < f.base:
		return f.have
	}
	return most
}

// fastestLeadsLocked reports whether rule 1 holds.
func (f *flight) fastestLeadsLocked() bool {
	return (f.divisible || f.heldUp > slowest) && f.fill.isAlive()
}

// holdLocked holds the forward up until its pace-maker has come near.
func (f *flight) holdLocked() {
	if !f.isAheadLocked() {
		return
	}
	defer func() { f.held = false }()
	timeout := time.NewTimer(slowest)
	defer timeout.Stop()
	for f.isAheadLocked() {
		f.held = true
		pace, starving, start := f.paceLocked(), f.isStarvingLocked(), time.Now()
		changed := f.changeLocked()
		f.mu.Unlock()
		late := false
		select {
		case <-changed:
		case <-timeout.C:
			late = true
		}
		f.mu.Lock()
		moved := f.paceLocked() != pace
		if starving {
			f.heldUp += time.Since(start)
		}
		if f.isStarvingLocked() && (f.isEndAwaitedLocked() || !f.fill.isAlive()) && (late && !moved || f.divisible && f.heldUp > slowest) {
			f.evictLocked(f.lagLocked())
			f.heldUp = 0
		}
		if late || moved {
			timeout.Reset(slowest)
		}
		f.trimLocked()
	}
}

// isFallenLocked reports whether a client reads chunks.
func (f *flight) isFallenLocked() bool {
	for _, off := range f.followers {
		if off < f.base {
			return true
		}
	}
	return false
}

// isStarvingLocked reports whether a client waits for the forward to go on.
func (f *flight) isStarvingLocked() bool {
	if f.isEndAwaitedLocked() {
		return true
	}
	for _, off := range f.followers {
		if off == f.have {
			return true
		}
	}
	return false
}

// isEndAwaitedLocked reports whether somebody who takes nothing from here any more waits
// for the end, to ask the origin for the rest.
func (f *flight) isEndAwaitedLocked() bool { return f.waiting > f.boarding }

// isBoardingLocked reports whether somebody who has waited for the head, which is
// there, is about to take the body from its beginning: as soon as it has its turn.
func (f *flight) isBoardingLocked() bool { return f.boarding > 0 && f.base == 0 }

// isAheadLocked reports whether the forward has to wait. With several followers
// it goes on until a chunk more than the pace-maker has taken is complete: who
// reads chunks has come by then to what memory holds.
func (f *flight) isAheadLocked() bool {
	if f.isBoardingLocked() && f.have > f.behindLocked() {
		return true
	}
	return len(f.followers) > 0 && f.have-f.paceLocked() > f.mostAheadLocked()
}

// mostAheadLocked returns how far the forward may be before its pace-maker.
func (f *flight) mostAheadLocked() int64 {
	switch {
	case len(f.followers) > 1:
		return f.behindLocked()
	case f.all.hasPlenty():
		return farAhead
	}
	return ahead
}

// isNearLocked reports whether a forward that is held has something to look at: a lone
// client has come so near that it is worth while to go on.
func (f *flight) isNearLocked() bool {
	return len(f.followers) != 1 || f.have-f.paceLocked() <= f.mostAheadLocked()/2
}

// behindLocked returns how much memory holds for several followers: a chunk at
// least, so that who reads chunks can go over to it.
func (f *flight) behindLocked() int64 {
	if f.fill == nil {
		return behind
	}
	return max(behind, int64(f.fill.size))
}

// lagLocked returns how much those have taken at most who are sent away. Where they
// can go on by themselves, they are all who lag, as each of them would hold up the
// others as long again.
func (f *flight) lagLocked() int64 {
	if !f.divisible {
		return f.paceLocked()
	}
	return max(f.paceLocked(), f.have-f.behindLocked()/4)
}

// evictLocked sends those away who have taken no more than most.
func (f *flight) evictLocked(most int64) {
	for x, off := range f.followers {
		if off <= most {
			if f.evicted == nil {
				f.evicted = map[*exchange]bool{}
			}
			f.evicted[x] = true
			delete(f.followers, x)
		}
	}
	f.changedLocked()
}
