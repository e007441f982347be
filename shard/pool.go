// Package shard spreads keys over several independent Redis servers, any of
// which may be away.
//
// A [Node] is one server with its go-redis clients (or one whole Redis Cluster,
// or one master that sentinels watch over). A [Pool] is all of them. Each key
// has an order of the nodes that depends on nothing but the nodes' names, their
// weights and the key; [Pool.Pick] gives the first node of that order that is
// available. Whoever lists the same nodes, in whatever order, picks the same
// one, and a node that leaves or returns moves only its own keys.
//
//	node, err := pool.Pick("user:42")
//	if err != nil {
//		return err // no node is available
//	}
//	name, err := node.Client().Get(ctx, "user:42").Result()
//
// Which nodes are available is not decided here: the caller implements
// [Availability], which is asked before a node is used and told how each command
// ended. The root package's penalty box is one.
//
// An operation on a node takes no longer than the node's time-out, whatever the
// server, the network or a dial does.
//
// What it is not: it keeps no copies and no health checks, moves no data between
// nodes, retries nothing, logs nothing, and starts no goroutine except in
// [Pool.Each], which waits for it, and one for each node while small values are
// read from it, for which [Node.Close] waits. (go-redis has its own: those that
// dial.)
//
//	address.go   what a node's URL says
//	options.go   Options, and what they mean to go-redis
//	dial.go      connecting, so that failures cost nothing later
//	conns.go     connections that lead to who is no master any more
//	outcome.go   how a command ended: OK, Refused, Slow, Nobody
//	hook.go      bounds each command and reports its outcome
//	part.go      parts of a Redis Cluster
//	succession.go  noticing that a replica was made master
//	redirect.go  pipelines while the slots of a cluster move
//	node.go      one server
//	reader.go    reading small values
//	batch.go     many callers' reads in few round trips
//	reply.go     their values, in memory that is used again
//	ring.go      the order of the nodes for a key
//	pool.go      Pick, Each
//	merge.go     a sorted set that lies on all nodes
package shard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// ErrNoNode means that the pool has no node, or none that is available.
var ErrNoNode = errors.New("shard: no node available")

// A Pool is the nodes over which keys are spread. It does not own them: closing
// them is the caller's. It is immutable, and safe for concurrent use.
type Pool struct {
	nodes        []*Node // by name
	ring         *ring   // over the indices of nodes
	availability Availability
}

// NewPool returns a pool of nodes, whose names must differ. A pool without
// nodes is fine, and picks none. With a nil Availability every node is always
// available.
func NewPool(nodes []*Node, availability Availability) (*Pool, error) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b *Node) int { return strings.Compare(a.Name(), b.Name()) })
	names, weights := make([]string, len(nodes)), make([]float64, len(nodes))
	for i, n := range nodes {
		names[i], weights[i] = n.Name(), n.Weight()
		if i > 0 && names[i] == names[i-1] {
			return nil, fmt.Errorf("shard: two nodes have the name %q", names[i])
		}
	}
	return &Pool{nodes: nodes, ring: newRing(names, weights), availability: availability}, nil
}

// Pick returns the available node that comes first in key's order, or ErrNoNode.
func (p *Pool) Pick(key string) (*Node, error) {
	s := slotOf(key)
	return p.availableFrom(s, p.ring.first(s))
}

// PickNext returns the available node that comes next after the given one in
// key's order, or ErrNoNode. It is for the one further try after a fast
// failure. With a nil node, or one that is not of this pool, it is Pick.
func (p *Pool) PickNext(key string, after *Node) (*Node, error) {
	s := slotOf(key)
	return p.availableFrom(s, p.ring.next(s, p.index(after)))
}

// availableFrom returns node i, or the first available one behind it in the
// order of the slot.
func (p *Pool) availableFrom(s slot, i int) (*Node, error) {
	for ; i != nobody; i = p.ring.next(s, i) {
		if n := p.nodes[i]; p.available(n) {
			return n, nil
		}
	}
	return nil, ErrNoNode
}

// Order returns all nodes, available or not, in key's order, best first.
func (p *Pool) Order(key string) iter.Seq[*Node] {
	s := slotOf(key)
	return func(yield func(*Node) bool) {
		for i := p.ring.first(s); i != nobody; i = p.ring.next(s, i) {
			if !yield(p.nodes[i]) {
				return
			}
		}
	}
}

// Each calls fn once for every available node, all at the same time, and waits
// for all of them. It returns the errors joined, each with its node's name, or
// ErrNoNode when no node is available. ctx goes to fn as it is.
func (p *Pool) Each(ctx context.Context, fn func(ctx context.Context, n *Node) error) error {
	errs := make([]error, len(p.nodes))
	called := false
	var wg sync.WaitGroup
	for i, n := range p.nodes {
		if !p.available(n) {
			continue
		}
		called = true
		wg.Go(func() {
			if err := fn(ctx, n); err != nil {
				errs[i] = fmt.Errorf("node %q: %w", n.Name(), err)
			}
		})
	}
	wg.Wait()
	if !called {
		return ErrNoNode
	}
	return errors.Join(errs...)
}

// Nodes returns all nodes, by name. The slice is the caller's.
func (p *Pool) Nodes() []*Node { return slices.Clone(p.nodes) }

func (p *Pool) available(n *Node) bool {
	return p.availability == nil || p.availability.Available(n)
}

// index returns n's place in nodes, or nobody. It goes by the name, so that a
// node of another pool (before a config reload) means its successor in this one.
func (p *Pool) index(n *Node) int {
	if n == nil {
		return nobody
	}
	i, found := slices.BinarySearchFunc(p.nodes, n.Name(), func(n *Node, name string) int {
		return strings.Compare(n.Name(), name)
	})
	if !found {
		return nobody
	}
	return i
}
