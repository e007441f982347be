package fluster

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// errJournalMoves ends a sync that never reaches the head.
var errJournalMoves = errors.New("fluster: the journal could not be read to its head")

// A node whose journal is another one so many times in so long is of no use: each time
// the near cache is emptied, and the journal is loaded anew. Where several servers answer
// at its address (a name with two addresses, or one that leads elsewhere since some of the
// connections were made) that may be each time that it is looked at.
const (
	maxForks    = 5
	forksWithin = 30 * time.Second
)

// errForks is why such a node is out of use.
var errForks = errors.New("fluster: the journal is another one time and again: several servers may answer at the address, or it is evicted")

// sync does what has to be true before the node is used: it can be written and
// read, its journal was read to the head, and has the records that it was owed.
func (n *node) sync(ctx context.Context) error {
	if f := n.family.Load(); f != nil {
		select {
		case f.syncing <- struct{}{}:
			defer func() { <-f.syncing }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := n.journal.probe(ctx); err != nil {
		return err
	}
	return n.catchUp(ctx)
}

// catchUp reads the journal to its head, and appends what it is owed.
func (n *node) catchUp(ctx context.Context) error {
	if err := n.readToHead(ctx, 64); err != nil {
		return err
	}
	if err := n.relay(ctx); err != nil {
		return err
	}
	return n.readToHead(ctx, 64)
}

// readToHead reads what the journal has and the view lacks. tries is how many
// forks and gaps it puts up with.
func (n *node) readToHead(ctx context.Context, tries int) error {
	select {
	case n.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-n.reading }()
	for behind := 0; tries > 0 && behind < 10000; behind++ {
		sight, err := n.readPage(ctx)
		switch {
		case err != nil:
			return err
		case sight == journal.Proven:
			return nil
		case sight == journal.Forked:
			tries--
		}
	}
	// It never is what it was a moment ago: somebody removes entries, say.
	n.state.log().Warn("journal cannot be read and is begun anew", zap.String("node", n.Name()))
	if err := n.journal.reset(ctx); err != nil {
		return err
	}
	return errJournalMoves
}

func (n *node) readPage(ctx context.Context) (journal.Sight, error) {
	from, sent := n.view.From(), time.Now()
	if n.view.Replaced() {
		n.replaced(sent)
	}
	head, entries, ok, err := n.journal.read(ctx, from)
	if errors.Is(err, journal.ErrForeign) {
		n.state.log().Warn("journal holds foreign records and is begun anew", zap.String("node", n.Name()))
		return journal.Forked, n.journal.reset(ctx)
	}
	if err != nil {
		return journal.Forked, err
	}
	if !ok {
		n.view.Observe(head, false, sent)
		_, err := n.journal.appendRecords(ctx, nil)
		return journal.Forked, err
	}
	return n.view.Advance(from, head, entries, sent), nil
}

// replaced takes note of another journal than the one that was known.
func (n *node) replaced(now time.Time) {
	n.seat.doubt() // what lies there may be that of another time
	metrics.forks.WithLabelValues(n.state.name, n.Name()).Inc()
	n.forks = append(n.forks, now)
	if len(n.forks) < maxForks {
		return
	}
	if now.Sub(n.forks[0]) < forksWithin {
		n.seat.expel(errForks)
	}
	n.forks = n.forks[1:]
}

// relay appends to the journal what this process knows and the journal lacks.
func (n *node) relay(ctx context.Context) error {
	for range 1024 {
		owed := n.view.Owed(appendBatch)
		if len(owed) == 0 {
			return nil
		}
		if owed[0].Target.Kind == journal.Flush {
			n.state.log().Info("what lies on the node is given up", zap.String("node", n.Name()))
		}
		a, err := n.append(ctx, owed)
		if err != nil {
			return err
		}
		if err := n.readToHead(ctx, 8); err != nil {
			return err
		}
		n.view.Holds(a.head, a.known)
	}
	return nil
}

// append appends records, at most appendBatch, and takes note of those that are
// new at once.
func (n *node) append(ctx context.Context, records []journal.Record) (appended, error) {
	a, err := n.journal.appendRecords(ctx, records)
	if err != nil {
		return a, err
	}
	for _, e := range a.entries {
		if !n.view.Heard(a.head.Inc, e) {
			n.ask()
			break
		}
	}
	return a, nil
}
