package fluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// The node bounds each command by its time-out itself, and tells the penalty box
// how it ended. A context with a deadline of its own is for what must not take
// longer as a whole; a time-out by it says nothing about the node.

// node is one node with all that belongs to it in this process: its clients,
// its journal as far as it was read, its place in the penalty box, and three
// goroutines: the keeper, the listener and the writer. It is shared by all
// configurations that name it.
type node struct {
	*shard.Node
	state    *poolState
	seat     *seat
	view     *journal.View
	journal  journalOn
	headKey  string // of the journal's head
	channel  string // where users publish
	forwards string // where processes tell of forwards that others wait for
	timeout  time.Duration
	writes   *writeQueue
	away     away        // while it is out of use
	own      history     // of an independent node
	gone     atomic.Bool // it was taken out of the configuration
	unmarked atomic.Bool // its journal may lack the mark of some that are away

	label  string                 // what users call it: its name, or that of its cluster
	family atomic.Pointer[family] // of a part of a cluster: all its parts
	known  sync.Once              // to the book
	once   sync.Once
	key    string
	wake   chan struct{} // asks the keeper to read the journal now
	tried  chan struct{} // closed when the keeper has tried the node for the first time
	end    context.CancelFunc
	wg     sync.WaitGroup

	filling chan struct{} // holds a token for each fill that writes
	reading chan struct{} // holds a token while somebody reads the journal
}

// newNode returns the node of bucket number n; an independent node has bucket 0.
func newNode(sn *shard.Node, n int, key string, state *poolState, c *PoolConfig) *node {
	label, length := sn.Name(), lengthFor(len(c.Nodes))
	if len(c.Cluster) > 0 {
		length = lengthFor(clusterParts)
		label = strings.TrimSuffix(label, "/"+strconv.Itoa(n))
	}
	j := journalOn{node: sn, bucket: newBucket(c.Namespace, n), number: n, channel: c.Namespace + ":journal", length: length}
	if len(c.Cluster) > 0 || c.Sentinel != nil {
		j.replicas = new(replicas)
	}
	return &node{
		Node: sn, label: label, key: key, state: state, seat: state.box.admit(sn), journal: j, headKey: j.bucket.head(),
		channel: c.Channel, forwards: c.Namespace + ":forwards", timeout: time.Duration(c.Timeout),
		writes: newWriteQueue(),
		wake:   make(chan struct{}, 1), tried: make(chan struct{}),
		filling: make(chan struct{}, fillers), reading: make(chan struct{}, 1),
	}
}

// introduce makes the node known to the book, once. It comes before the start of any
// of its siblings, whose listener hears for them all.
func (n *node) introduce() {
	n.known.Do(func() { n.view = n.state.book.AddNode(n.key) })
}

// start starts the node's goroutines, once, when it was introduced.
func (n *node) start() {
	n.once.Do(func() {
		ctx, end := context.WithCancel(context.Background())
		n.end = end
		n.wg.Go(func() { n.keep(ctx) })
		if n.journal.number == 0 {
			n.wg.Go(func() { n.listen(ctx) }) // for its siblings too
		}
		n.wg.Go(func() { n.write(ctx) })
	})
}

// Destruct ends the goroutines and closes the clients.
func (n *node) Destruct() error {
	n.once.Do(func() {}) // never started: never to be
	if n.end != nil {
		n.end()
	}
	err := n.Close()
	n.wg.Wait()
	n.state.box.dismiss(n.Node)
	n.state.book.RemoveNode(n.key)
	return err
}

// inUse reports whether the node may be read from and written to.
func (n *node) inUse() bool { return n.seat.available.Load() }

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

// isPart reports whether the node is a part of a Redis Cluster.
func (n *node) isPart() bool { return n.label != n.Name() }

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
		if owed := n.view.Owed(appendBatch); len(owed) > 0 {
			n.append(ctx, owed) //nolint:errcheck // it is owed until it is there
			sleep(ctx, n.timeout)
		}
	}
}

// errJournalMoves ends a sync that never reaches the head.
var errJournalMoves = errors.New("fluster: the journal could not be read to its head")

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
		known := n.view.From() > 0
		sight, err := n.readPage(ctx)
		switch {
		case err != nil:
			return err
		case sight == journal.Proven:
			return nil
		case sight == journal.Forked:
			if tries--; known {
				n.seat.doubt() // what lies there may be that of another time
				metrics.forks.WithLabelValues(n.state.name, n.Name()).Inc()
			}
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

// relay appends to the journal what this process knows and the journal lacks.
func (n *node) relay(ctx context.Context) error {
	for range 1024 {
		owed := n.view.Owed(appendBatch)
		if len(owed) == 0 {
			return nil
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
		if err := look(ctx); err != nil && !n.inUse() {
			return err
		} else if err != nil {
			tick.Reset(time.Millisecond) // once is no proof; ask again
			continue
		}
		tick.Reset(n.nextPoll())
		if err := errors.Join(n.settleDoubt(ctx), n.markMissing(ctx)); err != nil && !n.inUse() {
			return err
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

// ask wakes the keeper.
func (n *node) ask() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
