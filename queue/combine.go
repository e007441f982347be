package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxFlying is how many pipelines of enqueuing may be under way on one
	// partition. Those that wait until they are durable are more.
	maxFlying        = 2
	maxFlyingDurable = 8
	// spread is how long after one pipeline the next one goes while that is still
	// under way. A server that is near has answered by then, and what came
	// meanwhile goes together: half as many system calls, here and there. One that
	// is far, or stalls, holds nobody up for longer.
	spread = time.Millisecond
	// A pipeline takes no more than this.
	maxPipeline      = 256
	maxPipelineBytes = 512 << 10
	// largeSending goes alone, on connections that are for such.
	largeSending = 128 << 10
)

var (
	// errNotSent: nothing of it has left this process.
	errNotSent = errors.New("queue: not sent")
	// errLeft: the caller left while it was under way, so nobody can know.
	errLeft = errors.New("queue: left while it was under way")
)

// A sending is the commands of one caller, on the way to a partition.
type sending struct {
	cmds   []redis.Cmder
	bytes  int
	plain  bool     // a plain XADD, which makes no stream: then its reply is redis.Nil
	large  bool     // goes on the connections for such
	hidden []hidden // what is to be shown once it is durable

	// The command and the arguments of a plain one.
	cmd  [1]redis.Cmder
	args [8]any

	// What came of it, once it is done; each command has its own error besides.
	durable bool

	lead, sent, left bool // guarded by the combiner's mu
	wake             chan bool
}

// isAnswered reports whether a command was done: not refused, as a script is that the
// server does not know.
func (s *sending) isAnswered() bool {
	return slices.ContainsFunc(s.cmds, func(cmd redis.Cmder) bool { return cmd.Err() == nil })
}

// A once is a command that a cluster's client must not send again by itself: it
// does so even where it may have been done, and one that was not enough to
// be told so would be done twice.
type once struct{ *redis.Cmd }

// NoRetry says so.
func (once) NoRetry() bool { return true }

// A combiner sends what many callers want to send at once in common pipelines.
//
// There is no goroutine behind it: a caller that finds no pipeline under way, or
// fewer than flying and none that began within spread, takes the lead, that is,
// sends its own commands and those of all who wait, and, when they are answered,
// leaves the lead to the first of those who came meanwhile. What always holds:
// while somebody waits, there is a leader, who is sending or was woken to; and the
// first who waits looks again every spread whether there may be another.
type combiner struct {
	partition *partition
	flying    int
	spread    time.Duration
	mu        sync.Mutex // guards what follows
	waiting   []*sending
	leaders   int
	began     time.Time // when the last pipeline did
}

// do sends s and waits until it is done. Its error is errNotSent, errLeft, or
// nil: then all commands have their own.
func (c *combiner) do(ctx context.Context, s *sending) error {
	if ctx.Err() != nil {
		return errNotSent
	}
	if s.large {
		c.partition.send(ctx, []*sending{s})
		return nil
	}
	s.wake = make(chan bool, 1)
	c.mu.Lock()
	first := len(c.waiting) == 0
	c.waiting = append(c.waiting, s)
	lead := c.takeLeadLocked(s)
	c.mu.Unlock()
	if lead {
		c.fly(ctx, s)
		return nil
	}
	return c.wait(ctx, s, first)
}

// takeLeadLocked makes s, which waits, a leader if there may be one more.
func (c *combiner) takeLeadLocked(s *sending) bool {
	s.lead = c.leaders == 0 || c.leaders < c.flying && time.Since(c.began) >= c.spread
	if s.lead {
		c.leaders++
	}
	return s.lead
}

// wait waits until s was sent by another, or is to lead.
func (c *combiner) wait(ctx context.Context, s *sending, first bool) error {
	var again <-chan time.Time
	if first && c.spread > 0 {
		t := time.NewTicker(c.spread)
		defer t.Stop()
		again = t.C
	}
	for {
		select {
		case lead := <-s.wake:
			return c.woken(ctx, s, lead)
		case <-ctx.Done():
			return c.leave(s)
		case <-again:
		}
		c.mu.Lock()
		lead := !s.lead && slices.Contains(c.waiting, s) && c.takeLeadLocked(s)
		c.mu.Unlock()
		if lead {
			c.fly(ctx, s)
			return nil
		}
	}
}

// woken goes on with a caller who was told that it leads, or that it is done.
func (c *combiner) woken(ctx context.Context, s *sending, lead bool) error {
	if lead {
		c.fly(ctx, s)
		return nil
	}
	if !s.sent { // no race: whoever wakes is done with it
		return errNotSent
	}
	return nil
}

// leave takes back what was not sent yet.
func (c *combiner) leave(s *sending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.left = true; s.sent {
		return errLeft
	}
	if i := slices.Index(c.waiting, s); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
	if s.lead {
		c.passOnLocked()
	}
	return errNotSent
}

// wasLeft reports whether a sending's caller left.
func (c *combiner) wasLeft(s *sending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.left
}

// fly sends s, which leads, and others with it.
func (c *combiner) fly(ctx context.Context, s *sending) {
	c.mu.Lock()
	batch := c.takeLocked(s)
	c.mu.Unlock()

	c.partition.send(ctx, batch)

	c.mu.Lock()
	if !c.partition.rest.takes() {
		c.turnAwayLocked()
	}
	c.passOnLocked()
	c.mu.Unlock()
	for _, other := range batch {
		if other != s {
			other.wake <- false
		}
	}
}

// takeLocked takes s, and as many of the others as fit, out of those who wait.
func (c *combiner) takeLocked(s *sending) []*sending {
	batch, cmds, bytes := []*sending{s}, len(s.cmds), s.bytes
	s.sent, c.began = true, time.Now()
	rest := c.waiting[:0]
	for _, other := range c.waiting {
		switch {
		case other == s:
		case other.lead, cmds+len(other.cmds) > maxPipeline, bytes+other.bytes > maxPipelineBytes:
			rest = append(rest, other)
		default:
			other.sent = true
			batch, cmds, bytes = append(batch, other), cmds+len(other.cmds), bytes+other.bytes
		}
	}
	clear(c.waiting[len(rest):])
	c.waiting = rest
	return batch
}

// turnAwayLocked tells those who wait that the partition takes nothing now: they
// have not been sent, and may go elsewhere at once.
func (c *combiner) turnAwayLocked() {
	rest := c.waiting[:0]
	for _, s := range c.waiting {
		if s.lead {
			rest = append(rest, s)
			continue
		}
		s.wake <- false
	}
	clear(c.waiting[len(rest):])
	c.waiting = rest
}

// passOnLocked gives the lead to the first who waits, or to nobody: also where
// another leads, whose pipeline has just begun.
func (c *combiner) passOnLocked() {
	if c.leaders > 1 && time.Since(c.began) < c.spread {
		c.leaders--
		return
	}
	for _, s := range c.waiting {
		if !s.lead {
			s.lead = true
			s.wake <- true
			return
		}
	}
	c.leaders--
}

// send sends a batch, and reports to the partition what came of it. It does not
// end with ctx, which is but one caller's: the node's time-out bounds it.
func (p *partition) send(ctx context.Context, batch []*sending) {
	ctx = context.WithoutCancel(ctx)
	if p.durability.asked() {
		p.sendDurably(ctx, batch)
		return
	}
	p.pipeline(ctx, batch)
}

// pipeline sends the commands of a batch, with others behind them.
func (p *partition) pipeline(ctx context.Context, batch []*sending, behind ...redis.Cmder) {
	client := p.client()
	if batch[0].large {
		client = p.bulk()
	}
	pipe := client.Pipeline()
	for _, s := range batch {
		_ = pipe.BatchProcess(ctx, s.cmds...)
	}
	_ = pipe.BatchProcess(ctx, behind...)
	cmds, err := pipe.Exec(p.with(ctx))
	p.reportAll(ctx, cmds, err)
}

// reportAll reports the worst of what a pipeline ended with.
func (p *partition) reportAll(ctx context.Context, cmds []redis.Cmder, err error) {
	worst := judge(ctx, err)
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			worst = max(worst, judge(ctx, err))
		}
	}
	p.rest.report(time.Now(), worst)
}
