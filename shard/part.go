package shard

import "context"

// Part returns a node that stands for a part of a cluster: it has the cluster's
// clients, and a name and an availability of its own. What the parts are is the
// caller's business: keys that share a hash tag, usually, so that losing one
// master makes some parts unavailable and leaves the others. The cluster is
// closed with the last of its parts.
//
// Commands that are sent through Client or Bulk are reported to the part if
// their context is one of With.
func (n *Node) Part(name string, availability Availability) *Node {
	n.parts.Add(1)
	return &Node{
		name: name, address: n.address, weight: n.weight, timeout: n.timeout, availability: availability,
		client: n.client, bulk: n.bulk, batched: n.batched, small: n.small,
		whole: n,
	}
}

type partKey struct{}

// With returns a context whose commands are reported to n, if n is a part of a
// cluster; else it returns ctx.
func (n *Node) With(ctx context.Context) context.Context {
	if n.whole == nil {
		return ctx
	}
	return context.WithValue(ctx, partKey{}, n)
}

// asked returns the part that a command with this context is about, or n.
func (n *Node) asked(ctx context.Context) *Node {
	if part, ok := ctx.Value(partKey{}).(*Node); ok && part.whole == n {
		return part
	}
	return n
}
