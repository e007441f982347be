package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// enqueueTime is within what a message is in, or refused.
	enqueueTime = 900 * time.Millisecond
	// cleanTime is how long it may take to clean up behind a message that is refused.
	cleanTime = 100 * time.Millisecond
	// shortWait is how long it waits to see whether a partition is back.
	shortWait = 15 * time.Millisecond
)

// Enqueue puts a message in. It returns within a second, whatever the nodes do
// (plus the time to read Message.Reader, and to write a body that lies in chunks;
// with Options.Ack.AOF on servers without appendfsync always, plus 1.2 s).
//
// Where ctx ends before that, the message may be in or not.
func (c *Client) Enqueue(ctx context.Context, m *Message) (Receipt, error) {
	p, err := c.pack(m)
	if err == nil {
		err = c.put(ctx, p)
	}
	p.receipt.Err = err
	c.recycle(p)
	return p.receipt, err
}

// put tries one partition after another until one has the message, or says that
// it must not be had.
//
// A partition that did not answer may have it nevertheless. Another one gets it
// under the same id then: a duplicate is better than a loss.
func (c *Client) put(ctx context.Context, p *parcel) error {
	p.began = time.Now()
	for {
		over, err := c.putOnce(ctx, p)
		if over {
			return c.finish(p, err)
		}
	}
}

// putOnce tries the next partition, as try does. When none is left, or the time
// is over, it is over.
func (c *Client) putOnce(ctx context.Context, p *parcel) (over bool, err error) {
	bounded, cancel := c.bound(ctx, p)
	defer cancel()
	if err := c.choose(bounded, p); err != nil {
		return true, p.refusal(ctx)
	}
	over, err = c.try(ctx, p)
	switch {
	case errors.Is(err, errLeft):
		p.unknown = true
		return true, p.refusal(ctx)
	case over:
		return true, err
	}
	p.fail(ctx, err)
	return ctx.Err() != nil || c.timeLeft(p) <= 0, p.refusal(ctx)
}

// bound returns ctx with what is left of the time in which a message is in, or
// refused.
func (c *Client) bound(ctx context.Context, p *parcel) (context.Context, context.CancelFunc) {
	if p.plain && len(p.tried) == 0 { // one XADD is bounded by the node's time-out
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeLeft(p))
}

// timeLeft returns how much time is left. What a body's chunks take does not
// count: they may be many, and come slowly.
func (c *Client) timeLeft(p *parcel) time.Duration {
	return c.enqueueTime() + p.spent - time.Since(p.began)
}

// enqueueTime returns within what a message is in, or refused.
func (c *Client) enqueueTime() time.Duration {
	if c.o.Ack.AOF {
		return enqueueTime + aofTime
	}
	return enqueueTime
}

// choose picks the next partition, or none if none is left.
func (c *Client) choose(ctx context.Context, p *parcel) error {
	for {
		p.partition = c.pick(p.hash, func(other *partition) bool { return p.leavesOut(ctx, other) })
		if p.partition == nil {
			p.partition = c.pick(p.hash, p.mayNotRepeat)
		}
		if p.partition != nil {
			return nil
		}
		if !c.backSoon(p) || !sleep(ctx, shortWait) {
			return ErrNoNode
		}
	}
}

// backSoon reports whether it is worth while to wait for some partition.
func (c *Client) backSoon(p *parcel) bool {
	now := time.Now()
	for _, other := range c.partitions {
		if again := !p.mayNotRepeat(other); other != p.second && (again || p.triedAs(other) == nothing) && other.rest.briefly(now) {
			return true
		}
	}
	return false
}

// A trial is a partition that was tried, and what it said.
type trial struct {
	*partition
	verdict verdict
	mayHave bool // the message may be there
}

// triedAs returns what a partition has said last; nothing: it was not tried.
func (p *parcel) triedAs(other *partition) verdict {
	for i := len(p.tried) - 1; i >= 0; i-- {
		if p.tried[i].partition == other {
			return p.tried[i].verdict
		}
	}
	return nothing
}

// leavesOut reports whether a partition has had its chance, or would fail just as
// another one did: in a Redis Cluster several are on one server.
func (p *parcel) leavesOut(ctx context.Context, other *partition) bool {
	if other == p.second || p.triedAs(other) != nothing {
		return true
	}
	for _, t := range p.tried {
		if t.verdict == silent && t.machine(ctx) == other.machine(ctx) {
			return true
		}
	}
	return false
}

// mayNotRepeat reports whether a partition must not have the message again, where
// no other takes it: all but those whose connection broke or that did not answer,
// which may have been nothing but that. Of a body in chunks there is one on a
// partition: were the message there twice, the first that is done would take it along.
func (p *parcel) mayNotRepeat(other *partition) bool {
	if other == p.second || p.triedAs(other) < ended || p.more != nil {
		return true
	}
	return p.size > 0 && slices.ContainsFunc(p.tried, func(t trial) bool { return t.partition == other && t.mayHave })
}

// try puts the message into the partition that was chosen. over says that it is
// decided, by err; else err is why the partition does not have it.
func (c *Client) try(ctx context.Context, p *parcel) (over bool, err error) {
	if err := c.dropStray(ctx, p); err != nil {
		return false, err
	}
	if over, err := c.putBody(ctx, p); err != nil {
		return over, err
	}
	if err := c.putSecond(ctx, p); err != nil {
		return false, err
	}
	ctx, cancel := c.bound(ctx, p)
	defer cancel()
	for {
		room, leave, err := c.enter(ctx, p)
		if err != nil {
			return true, err
		}
		over, err = c.send(ctx, p, room)
		leave()
		if p.alone || !errors.Is(err, ErrBacklog) {
			return over, err
		}
		p.alone = true // others may have made room elsewhere
	}
}

// send sends the message to the partition that was chosen, as try does.
func (c *Client) send(ctx context.Context, p *parcel, room room) (over bool, err error) {
	for reload := false; ; reload = true {
		s := c.sending(ctx, p, room, reload)
		p.asked = p.partition
		if err := p.partition.combiner.do(ctx, s); err != nil {
			return errors.Is(err, errLeft), err
		}
		if s.plain && errors.Is(s.cmds[0].Err(), redis.Nil) {
			p.plain = false // there is no stream: the script makes one, and notes the lane
			continue
		}
		if !s.plain && !reload && redis.HasErrorPrefix(s.cmds[0].Err(), "NOSCRIPT") {
			continue
		}
		return c.settle(ctx, p, s, room)
	}
}

// settle takes what came of a sending, as try does.
func (c *Client) settle(ctx context.Context, p *parcel, s *sending, room room) (over bool, err error) {
	if err := s.cmds[0].Err(); err != nil {
		return false, err
	}
	e := enqueued{what: "in", id: p.id, messages: -1, bytes: -1, ageMS: -1}
	if !s.plain {
		if e, err = parseEnqueued(s.cmds[0].(once).Cmd); err != nil {
			return false, err
		}
	}
	c.counts(p, e, room)
	switch e.what {
	case "in":
	case "replayed":
		// It may be this one: what was tried here before without an answer.
		replayed := e.id != p.id || p.m.ID != "" && p.triedAs(p.partition) == nothing
		if c.asksMore() && !s.durable {
			return replayed, ErrDurability // what is in here already is put nowhere else
		}
		if err := c.promiseFirst(ctx, p, s, e.id); err != nil {
			return !errors.Is(err, errTakenOut), err
		}
		p.receipt.Replayed, p.receipt.ID = replayed, e.id
		if err := c.promise(ctx, p); err != nil {
			return true, err
		}
		c.dropSecond(ctx, p) // that has been promised is not this one, or stays
	case "mismatch":
		return true, ErrMismatch
	case "full":
		return true, ErrBacklog
	default:
		p.written = nil
		return false, fmt.Errorf("%w: the chunks of the body are gone from node %q", errAnswer, p.partition.node.Name())
	}
	if c.asksMore() && !s.durable {
		return false, ErrDurability
	}
	if p.secondWasThere && e.what == "in" {
		// It was of an earlier message of this name, which is gone.
		if err := c.writeSecond(ctx, p, p.second, overwrite); err != nil {
			return false, fmt.Errorf("%w: %w: %w", ErrDurability, errNotReplaced, err)
		}
	}
	p.receipt.Node = p.partition.node.Name()
	p.receipt.FailedOver = p.failedOver()
	if p.m.Delay > 0 {
		p.partition.taken.dueIn(p.m.Delay)
	}
	return true, nil
}

// counts takes what a script has counted for the backlog.
func (c *Client) counts(p *parcel, e enqueued, room room) {
	if e.messages < 0 {
		return
	}
	n := int64(len(c.o.Destinations))
	if e.what == "in" {
		c.backlog.countIn(n)
	}
	c.tell(p.partition, load{e.messages, e.bytes}, time.Duration(e.ageMS)*time.Millisecond, load{n, n * c.counted(p)}, room.told)
}

// failedOver returns the name of the node that was tried first, if that is not the one
// that has the message.
func (p *parcel) failedOver() string {
	if len(p.tried) == 0 || p.tried[0].partition == p.partition {
		return ""
	}
	return p.tried[0].node.Name()
}

// fail keeps in mind why a partition does not have the message.
func (p *parcel) fail(ctx context.Context, err error) {
	p.err = err
	p.undurable = p.undurable || errors.Is(err, ErrDurability)
	v := max(judge(ctx, err), answered)
	switch {
	case errors.Is(err, errNotSent):
		v = ended // it may be tried again
	case errors.Is(err, ErrDurability), errors.Is(err, errAnswer):
		v = answered
	}
	if p.written == p.partition && v >= ended && !errors.Is(err, errNotSent) {
		p.unknown = true
	}
	p.tried = append(p.tried, trial{p.partition, v, p.asked == p.partition && v >= ended && !errors.Is(err, errNotSent)})
	if errors.Is(err, errNotReplaced) { // what is there stays, and the message has its copy elsewhere
		p.tried = append(p.tried, trial{p.second, noWrites, false})
		p.second = nil
	}
}

// errNotReplaced says that a second copy could not take the place of an earlier message's.
var errNotReplaced = errors.New("queue: the second copy of an earlier message stays")

// refusal returns why no partition has the message.
func (p *parcel) refusal(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("queue: enqueuing: %w", context.Cause(ctx))
	case p.undurable, p.second != nil: // one node had it, and no second one
		return ErrDurability
	case p.err != nil:
		return fmt.Errorf("%w: %w", ErrNoNode, p.err)
	}
	return ErrNoNode
}

// finish cleans up behind a parcel that was decided.
func (c *Client) finish(p *parcel, err error) error {
	if err != nil || p.receipt.Replayed {
		ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
		defer cancel()
		c.dropSecond(ctx, p)
		c.unlinkBody(ctx, p)
	}
	return err
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
