package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// readMost bounds how many entries one command reads.
	readMost = 64
	// blockFor is how long a read waits at the node.
	blockFor = time.Second
	// inHand is how long an entry that came to a blocked read waits for leave to be
	// delivered, before it is given back to those who may be idle.
	inHand = time.Second
	// restPoll is how often to see whether a partition may be read again.
	restPoll = 50 * time.Millisecond
)

// read is the loop that takes messages, until ctx ends.
//
// Idle it waits at the node, and has no slot meanwhile, which others may need;
// a message that comes gets one. As long as messages come it takes slots first and
// reads as many as it has, so that nothing lies here that cannot be delivered.
func (s *source) read(ctx context.Context) {
	w := &waiting{s: s}
	defer w.close()
	idle, stray := false, false
	pause := restPoll
	for ctx.Err() == nil {
		if s.p.resting() || s.p.taken.paused.Load() {
			sleep(ctx, restPoll)
			continue
		}
		err := s.tidy(ctx, stray)
		if err == nil {
			stray = false
			err = s.knowPause(ctx)
		}
		if err == nil && s.p.taken.paused.Load() {
			continue
		}
		if err == nil {
			err = s.p.measure(ctx)
		}
		if err == nil {
			if idle, err = s.readOnce(ctx, w, idle); err == nil {
				s.p.report(ctx, nil)
				pause = restPoll
				continue
			}
		}
		if isNoGroup(err) {
			s.p.taken.doubtClock()
			err = s.makeGroups(ctx)
		}
		if err != nil && ctx.Err() == nil {
			stray = true // a reply that did not come may have had messages
			s.trouble(ctx, "reading", err)
			sleep(ctx, pause)
			pause = min(2*pause, time.Second)
		}
	}
}

// readOnce waits for messages if it is idle, else takes what is there, and
// reports whether there was nothing.
func (s *source) readOnce(ctx context.Context, w *waiting, idle bool) (nothing bool, err error) {
	if idle && !s.claimIsDue() {
		n, err := s.await(ctx, w)
		return n == 0, err
	}
	if idle && s.w.gate.rate.isBounded() {
		// Nothing is taken of the rate, which others may need, to find nothing.
		if may, err := s.mayClaim(ctx); err != nil || !may {
			return true, err
		}
	}
	n, err := s.leaves(ctx, s.most())
	if err != nil {
		return idle, nil //nolint:nilerr // it is to stop
	}
	defer func() { s.giveLeaves(ctx, n) }()
	if s.claimIsDue() {
		got, err := s.claim(ctx, n)
		n -= got
		if err != nil || n == 0 {
			return false, err
		}
	}
	if idle {
		return true, nil
	}
	got, err := s.take(ctx, n)
	n -= got
	return got == 0, err
}

// tidy gives back what came in replies that were never read.
func (s *source) tidy(ctx context.Context, stray bool) error {
	if !stray {
		return nil
	}
	return s.giveBackStray(ctx)
}

// most is how many slots a source takes at once: where there are several, its
// part of them, so that a node which stops to answer has no more.
func (s *source) most() int {
	n := len(s.w.sources)
	return max(1, min(readMost, (s.w.o.Concurrency+n-1)/n))
}

// leaves waits until at least one delivery may begin, and returns how many of
// n may. Each is a slot, a part of the room here, and a token of the rate.
func (s *source) leaves(ctx context.Context, n int) (int, error) {
	g := s.w.gate
	if err := s.room.acquire(ctx); err != nil {
		return 0, err
	}
	have := 1 + s.room.tryAcquire(n-1)
	for {
		if err := g.slots.acquire(ctx); err != nil {
			s.room.release(have)
			return 0, err
		}
		slots := 1 + g.slots.tryAcquire(have-1)
		may, wait := g.breaker.room(slots)
		if may > 0 {
			var err error
			if may, err = g.rate.take(ctx, s.w.client, may); err != nil {
				g.slots.release(slots)
				s.room.release(have)
				return 0, err
			}
			g.slots.release(slots - may)
			s.room.release(have - may)
			return may, nil
		}
		g.slots.release(slots)
		if !sleep(ctx, min(wait, restPoll)) {
			s.room.release(have)
			return 0, ctx.Err()
		}
	}
}

// giveLeaves gives back what was not used.
func (s *source) giveLeaves(ctx context.Context, n int) {
	if n > 0 {
		s.w.gate.rate.giveBack(ctx, s.w.client, n)
		s.w.gate.slots.release(n)
		s.room.release(n)
	}
}

// take reads up to n messages that are there, by the weights of their lanes, and
// begins their deliveries. It returns how many it has begun.
func (s *source) take(ctx context.Context, n int) (begun int, err error) {
	now := time.Now()
	for begun < n {
		shares := shareOut(n-begun, s.inlets, func(in *inlet) bool { return now.Sub(in.empty) > emptyFor })
		if len(shares) == 0 {
			return begun, nil
		}
		got, err := s.readShares(ctx, shares, now)
		begun += got
		if err != nil {
			return begun, err
		}
	}
	return begun, nil
}

// readShares reads as many messages of each lane as its share says.
func (s *source) readShares(ctx context.Context, shares map[*inlet]int, now time.Time) (begun int, err error) {
	pipe := s.p.client().Pipeline()
	cmds := make(map[*inlet]*redis.XStreamSliceCmd, len(shares))
	for in, count := range shares {
		cmds[in] = pipe.XReadGroup(s.p.with(ctx), &redis.XReadGroupArgs{
			Group: group, Consumer: s.name, Streams: []string{in.key, ">"}, Count: int64(count), Block: -1,
		})
	}
	_, _ = pipe.Exec(s.p.with(context.WithoutCancel(ctx))) // each command has its error
	for in, cmd := range cmds {
		if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) {
			err = errors.Join(err, e)
			continue
		}
		got := 0
		for _, stream := range cmd.Val() {
			got += len(stream.Messages)
			for _, m := range stream.Messages {
				if s.begins(in, m, 1) {
					begun++
				}
			}
		}
		in.empty = time.Time{}
		if got < shares[in] {
			in.empty = now
		}
	}
	return begun, err
}

// begins begins the delivery of an entry for which there is leave, unless it is
// held already.
func (s *source) begins(in *inlet, m redis.XMessage, count int) bool {
	h := &held{entryKey: entryKey{in, m.ID}, values: m.Values, count: count, since: time.Now()}
	if !s.hold(h) {
		return false
	}
	s.start(h)
	return true
}

func (s *source) start(h *held) {
	s.w.underWay.Add(1)
	s.w.deliveries.Go(func() { s.handle(h) })
}

// await waits at the node for a message, and begins its delivery. It returns how
// many came (one of each lane at most).
func (s *source) await(ctx context.Context, w *waiting) (came int, err error) {
	// Nobody waits at the node who could not deliver what comes.
	if err := s.w.gate.slots.acquire(ctx); err != nil {
		return 0, nil //nolint:nilerr // it is to stop
	}
	s.w.gate.slots.release(1)
	if may, wait := s.w.gate.breaker.room(1); may == 0 {
		sleep(ctx, min(wait, restPoll))
		return 0, nil
	}
	streams, err := w.read(ctx)
	if err != nil {
		return 0, err
	}
	patience, cancel := context.WithTimeout(ctx, inHand)
	defer cancel()
	for _, stream := range streams {
		for _, in := range s.inlets {
			if in.key != stream.Stream {
				continue
			}
			in.empty = time.Time{}
			for _, m := range stream.Messages {
				came++
				err = errors.Join(err, s.beginsInHand(patience, in, m))
			}
		}
	}
	return came, err
}

// beginsInHand begins the delivery of an entry for which there is no leave yet,
// or gives it back.
func (s *source) beginsInHand(ctx context.Context, in *inlet, m redis.XMessage) error {
	h := &held{entryKey: entryKey{in, m.ID}, values: m.Values, count: 1, since: time.Now()}
	if !s.hold(h) {
		return nil
	}
	if _, err := s.leaves(ctx, 1); err != nil {
		s.forgetUncounted(h)
		return s.giveBack(context.WithoutCancel(ctx), in, []string{m.ID}, false)
	}
	s.start(h)
	return nil
}
