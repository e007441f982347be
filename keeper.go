package fluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// pollEvery is how often a node is asked for the head of its journal.
const pollEvery = journal.Lease / 3

// keep is the keeper: it tries the node, puts it to use, watches its journal
// while it is in use, and waits out its penalties.
func (n *node) keep(ctx context.Context) {
	first := true
	for ctx.Err() == nil {
		err := n.sync(ctx)
		if err == nil {
			err = n.settleDoubt(ctx)
		}
		if err == nil && !n.view.Use() {
			err = errJournalMoves
		}
		if err == nil {
			n.returned(first)
		}
		if first {
			if err != nil {
				n.view.Penalize()
			}
			close(n.tried)
			first = false
		}
		if err == nil {
			err = n.watch(ctx)
		}
		if err != nil && ctx.Err() == nil {
			n.sitOut(ctx, err)
		}
	}
}

// returned puts the node to use and tells so.
func (n *node) returned(first bool) {
	if n.seat.available.Load() {
		return
	}
	now := time.Now()
	out := n.seat.release(now)
	metrics.nodeUp.WithLabelValues(n.state.name, n.Name()).Set(1)
	if first {
		return
	}
	metrics.away.WithLabelValues(n.state.name, n.Name()).Add(out.Seconds())
	if n.isPart() && n.family.Load().out.Add(-1) > 0 {
		return
	}
	n.history().add(change{At: now, State: "up", For: out.Seconds()})
	n.state.event("node_returned", map[string]any{"node": n.label, "after": out.Seconds()})
	n.state.log().Info("node returned", zap.String("node", n.label), zap.Duration("after", out))
}

// sitOut serves one penalty.
func (n *node) sitOut(ctx context.Context, err error) {
	starts := !n.seat.inPenalty()
	n.seat.doubt()
	d := n.state.box.penalize(n.seat, err, time.Now())
	n.view.Penalize()
	metrics.nodeUp.WithLabelValues(n.state.name, n.Name()).Set(0)
	if starts {
		n.tellPenalty(d, err)
		n.leave(ctx)
	}
	if c := n.state.log().Check(zap.DebugLevel, "node sits out"); c != nil {
		c.Write(zap.String("node", n.Name()), zap.Duration("for", d), zap.String("error", reasonOf(err)))
	}
	n.wait(ctx, d)
}

// tellPenalty tells that the node is out of use. The parts of a Redis Cluster
// fail together: of them, the first is told.
func (n *node) tellPenalty(d time.Duration, err error) {
	metrics.penalties.WithLabelValues(n.state.name, n.Name()).Inc()
	if n.isPart() && n.family.Load().out.Add(1) > 1 {
		return
	}
	reason := reasonOf(err)
	n.history().add(change{At: time.Now(), State: "penalty", Reason: reason, For: d.Seconds()})
	n.state.event("node_penalized", map[string]any{"node": n.label, "for": d.Seconds(), "reason": reason})
	n.state.log().Warn("node penalized", zap.String("node", n.label), zap.Duration("for", d), zap.String("error", reason))
}

// wait waits for d. An invalidation that is made meanwhile is tried on the node
// at once: it may be well, and others may be using it.
func (n *node) wait(ctx context.Context, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-n.wake:
		}
		if n.view.Owes() > 0 {
			n.catchUp(ctx) //nolint:errcheck // it is owed until it is there
			sleep(ctx, n.timeout)
		}
	}
}

// relayAfter is how long a process leaves it to the others to complete their
// invalidations before it does so itself; jitter is added.
const relayAfter = 200 * time.Millisecond

// watch keeps the node's journal proven while the node is in use. It returns
// why it is to be used no more.
func (n *node) watch(ctx context.Context) error {
	tick := time.NewTimer(pollEvery)
	defer tick.Stop()
	var owedSince time.Time
	for {
		look := n.look
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.seat.leave:
			_, reason, _ := n.seat.status()
			return fmt.Errorf("in use: %w", reason)
		case <-n.wake:
			look = n.lookNow
		case <-tick.C:
		}
		if err := look(ctx); err != nil && (!n.inUse() || errors.Is(err, errJournalMoves)) {
			return fmt.Errorf("in use: %w", err) // whose journal cannot be read stores and serves nothing
		} else if err != nil {
			tick.Reset(time.Millisecond) // once is no proof; ask again
			continue
		}
		tick.Reset(n.nextPoll())
		if err := errors.Join(n.settleDoubt(ctx), n.markMissing(ctx)); err != nil && !n.inUse() {
			return fmt.Errorf("in use: %w", err)
		}
		if n.view.Owes() == 0 {
			owedSince = time.Time{}
			continue
		}
		if owedSince.IsZero() {
			owedSince = time.Now().Add(rand.N(relayAfter / 4))
		}
		if wait := relayAfter - time.Since(owedSince); wait > 0 {
			tick.Reset(min(wait, pollEvery))
		} else if err := n.relay(ctx); err != nil {
			n.state.log().Debug("relaying invalidations", zap.String("node", n.Name()), zap.Error(err))
		}
	}
}

// nextPoll is how long it is to the next poll. The parts of a Redis Cluster poll at
// the same times, so that a processor wakes up once for all of them.
func (n *node) nextPoll() time.Duration {
	f := n.family.Load()
	if f == nil {
		return pollEvery
	}
	return pollEvery - time.Since(f.began)%pollEvery
}

// look sees the head as it was a moment ago, and reads what is behind it if it has
// moved.
func (n *node) look(ctx context.Context) error {
	f := n.family.Load()
	if f == nil {
		return n.lookNow(ctx)
	}
	head, ok, sent, err := f.head(ctx, n)
	return n.saw(ctx, head, ok, sent, err)
}

// lookNow is look for a head as it is now.
func (n *node) lookNow(ctx context.Context) error {
	sent := time.Now()
	head, ok, err := n.journal.seeHead(ctx)
	return n.saw(ctx, head, ok, sent, err)
}

func (n *node) saw(ctx context.Context, head journal.Head, ok bool, sent time.Time, err error) error {
	if err != nil {
		return err
	}
	if n.view.Observe(head, ok, sent) == journal.Proven {
		return nil
	}
	if err := n.readToHead(ctx, 64); err != nil {
		return err
	}
	n.view.Use()
	return nil
}
