package fluster

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
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
//     configuration. Then the nodes that stay get a Return record.

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

// doubt makes what lies on the node be validated before it is used as fresh.
func (n *node) doubt(ctx context.Context) error {
	r := n.state.book.NewRecord(journal.Target{Kind: journal.Return})
	a, err := n.append(ctx, []journal.Record{r})
	if err != nil {
		return err
	}
	for _, other := range n.state.others(n) {
		if !other.inUse() {
			other.away.set(n, a.head) // for those who are away, it begins here
		}
	}
	return n.readToHead(ctx, 8)
}

// others returns the nodes of the newest configuration but n.
func (s *poolState) others(n *node) (out []*node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.nodes {
		if other != n {
			out = append(out, other)
		}
	}
	return out
}

// replaceNodes takes note of the nodes of a new configuration. It returns those
// that stay, if any was taken out: they get its keys.
func (s *poolState) replaceNodes(nodes []*node) (stay []*node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := false
	is := map[*node]bool{}
	for _, n := range nodes {
		is[n] = true
	}
	for _, n := range s.nodes {
		if is[n] {
			stay = append(stay, n)
		} else {
			gone = true
		}
	}
	s.nodes = nodes
	if !gone {
		return nil
	}
	return stay
}

// doubtAll makes all nodes be doubted at once; a node for which that fails is
// doubted by its keeper.
func (p *pool) doubtAll(nodes []*node) {
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			if err := n.doubt(context.Background()); err != nil {
				n.seat.expel(err)
				p.logger.Debug("doubting node", zap.String("node", n.Name()), zap.Error(err))
			}
		})
	}
	wg.Wait()
}

// doubts reports whether a response with this stamp, on a node that stands in
// for others that are away, may be from before they were.
func (p *pool) doubts(key string, n *node, s journal.Stamp) bool {
	if !slices.ContainsFunc(p.nodes, func(n *node) bool { return !n.inUse() }) {
		return false
	}
	for sn := range p.ring.Order(key) {
		before := p.byShard[sn]
		if before == n {
			return false
		}
		since, ok := before.away.on(n)
		if before.inUse() || !ok || since.Inc == s.Inc && s.Seq < since.Seq {
			return true
		}
	}
	return false
}
