package fluster

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// No travel back in time (C4). A response may be older than what a process has
// served already, although it is fresh, in three cases:
//
//   - It lay on a node that was away. When the node is back, or is new to the
//     configuration, its journal gets a Return record, and all that was stored
//     before it is validated before it is used.
//   - It lies on a node that stands in for another one that is away, since an
//     earlier time that this one was away. So when a node goes out of use, the
//     journals of the others get a Mark, and of what stands in for the node only
//     what was stored after the mark is used without being validated.
//   - It lies on a node that gets the keys of one that was taken out of the
//     configuration. Such a node counts as one that is away.

// away is since which positions of the other nodes' journals a node is out of use.
type away struct {
	mu    sync.Mutex // guards all below
	time  int        // how often it went out of use
	since map[*node]journal.Head
}

// on returns since which position of n's journal the node is out of use; ok is
// false while that is not known.
func (a *away) on(n *node) (h journal.Head, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok = a.since[n]
	return h, ok
}

// begin forgets what was the last time. It comes before anybody can see that the
// node is out of use: what stands for it since the last time may be from then.
func (a *away) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.time++
	a.since = nil
}

// set notes a position, unless another time has begun.
func (a *away) set(time int, n *node, h journal.Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.time != time {
		return
	}
	if a.since == nil {
		a.since = map[*node]journal.Head{}
	}
	a.since[n] = h
}

// now returns which time this is.
func (a *away) now() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.time
}

// takesKeys reports whether the node has the keys that are its own: it is in
// use, and was not taken out of the configuration.
func (n *node) takesKeys() bool { return n.inUse() && !n.gone.Load() }

// leave notes that the node has gone out of use: in the journals of the others.
// Until that is done, whatever stands in for it is validated.
func (n *node) leave(ctx context.Context) {
	l := leaver{n, n.seat.away.now()}
	if f := n.family.Load(); f != nil {
		f.leave(ctx, l)
		return
	}
	n.state.markAway(ctx, []leaver{l})
}

// leaver is a node that goes out of use, and for which time.
type leaver struct {
	node *node
	time int
}

// markAway puts a mark into the journals of all nodes but those that leave.
func (s *poolState) markAway(ctx context.Context, leavers []leaver) {
	mark := []journal.Record{s.book.NewRecord(journal.Target{Kind: journal.Mark})}
	var wg sync.WaitGroup
	for _, other := range s.others(nil) {
		if slices.ContainsFunc(leavers, func(l leaver) bool { return l.node == other }) {
			continue
		}
		if !other.inUse() {
			other.unmarked.Store(true) // it may have begun to return before they left
			continue
		}
		wg.Go(func() {
			a, err := other.append(ctx, mark)
			if err != nil {
				other.unmarked.Store(true)
				return
			}
			for _, l := range leavers {
				l.node.seat.away.set(l.time, other, a.head)
			}
		})
	}
	wg.Wait()
}

// markMissing puts a mark into the node's journal for those that are away and have
// no position in it: it was slow when they left, or not yet in use. Without one,
// all that stands in for them here would be validated until they are back.
func (n *node) markMissing(ctx context.Context) error {
	if !n.unmarked.Swap(false) {
		return nil
	}
	var missing []leaver
	for _, other := range n.state.others(n) {
		if other.takesKeys() {
			continue
		}
		time := other.seat.away.now()
		if _, ok := other.seat.away.on(n); !ok {
			missing = append(missing, leaver{other, time})
		}
	}
	if len(missing) == 0 {
		return nil
	}
	a, err := n.append(ctx, []journal.Record{n.state.book.NewRecord(journal.Target{Kind: journal.Mark})})
	if err != nil {
		n.unmarked.Store(true)
		return err
	}
	for _, l := range missing {
		l.node.seat.away.set(l.time, n, a.head)
	}
	return nil
}

// settleDoubt writes into the node's journal that what lies there is to be
// validated before it is used as fresh, if that is in doubt.
func (n *node) settleDoubt(ctx context.Context) error {
	upTo, doubtful := n.seat.doubtful()
	if !doubtful {
		return nil
	}
	if err := n.doubt(ctx); err != nil {
		return err
	}
	n.seat.settle(upTo)
	return nil
}

// doubtAll makes what lies on all nodes be validated before it is used as fresh.
func (s *poolState) doubtAll() {
	for _, n := range s.others(nil) {
		n.seat.doubt()
	}
}

// doubt writes into the node's journal that what lies there is to be validated.
func (n *node) doubt(ctx context.Context) error {
	var away []leaver
	for _, other := range n.state.others(n) {
		if !other.takesKeys() {
			away = append(away, leaver{other, other.seat.away.now()})
		}
	}
	r := n.state.book.NewRecord(journal.Target{Kind: journal.Return})
	a, err := n.append(ctx, []journal.Record{r})
	if err != nil {
		return err
	}
	for _, l := range away {
		l.node.seat.away.set(l.time, n, a.head) // for those who are away, it begins here
	}
	return n.readToHead(ctx, 8)
}

// maxGone is how many nodes that were taken out are remembered.
const maxGone = 16

// order is in which order keys go to the nodes, those that were taken out among
// them.
type order struct {
	ring    *shard.Pool
	byShard map[*shard.Node]*node
}

// orderWith notes which nodes were taken out, in the journals of those that stay.
func (p *pool) orderWith(gone []*node) {
	if len(gone) == 0 {
		return
	}
	o := &order{byShard: maps.Clone(p.byShard)}
	all := p.ring.Nodes()
	for _, n := range gone {
		if !n.gone.Load() {
			n.seat.away.begin()
			n.gone.Store(true)
			n.leave(context.Background())
		}
		o.byShard[n.Node] = n
		all = append(all, n.Node)
	}
	var err error
	if o.ring, err = shard.NewPool(all, p.box); err == nil {
		p.order.Store(o)
	}
}

// doubts reports whether a response with this stamp, on a node that stands in
// for others that are away, may be from before they were.
func (p *pool) doubts(key string, n *node, s journal.Stamp) bool {
	o := p.order.Load()
	if o == nil {
		if !slices.ContainsFunc(p.nodes, func(n *node) bool { return !n.inUse() }) {
			return false
		}
		o = &order{p.ring, p.byShard}
	}
	return o.doubts(key, n, s)
}

// doubts is the pool's, in this order.
func (o *order) doubts(key string, n *node, s journal.Stamp) bool {
	for sn := range o.ring.Order(key) {
		before := o.byShard[sn]
		if before == n {
			return false
		}
		if before.takesKeys() {
			return true
		}
		if since, ok := before.seat.away.on(n); !ok || since.Inc == s.Inc && s.Seq < since.Seq {
			return true
		}
	}
	return false
}
