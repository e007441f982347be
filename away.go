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
	mu    sync.Mutex // guards since
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

func (a *away) set(n *node, h journal.Head) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == nil {
		a.since = map[*node]journal.Head{}
	}
	a.since[n] = h
}

func (a *away) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since = nil
}

// takesKeys reports whether the node has the keys that are its own: it is in
// use, and was not taken out of the configuration.
func (n *node) takesKeys() bool { return n.inUse() && !n.gone.Load() }

// leave notes that the node goes out of use: in the journals of the others.
// Until that is done, whatever stands in for it is validated.
func (n *node) leave(ctx context.Context) {
	n.away.clear()
	mark := []journal.Record{n.state.book.NewRecord(journal.Target{Kind: journal.Mark})}
	var wg sync.WaitGroup
	for _, other := range n.state.others(n) {
		if !other.inUse() {
			continue // it gets a position when it is back
		}
		wg.Go(func() {
			if a, err := other.append(ctx, mark); err == nil {
				n.away.set(other, a.head)
			}
		})
	}
	wg.Wait()
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
	r := n.state.book.NewRecord(journal.Target{Kind: journal.Return})
	a, err := n.append(ctx, []journal.Record{r})
	if err != nil {
		return err
	}
	for _, other := range n.state.others(n) {
		if !other.takesKeys() {
			other.away.set(n, a.head) // for those who are away, it begins here
		}
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
		if !n.gone.Swap(true) {
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
	for sn := range o.ring.Order(key) {
		before := o.byShard[sn]
		if before == n {
			return false
		}
		since, ok := before.away.on(n)
		if before.takesKeys() || !ok || since.Inc == s.Inc && s.Seq < since.Seq {
			return true
		}
	}
	return false
}
