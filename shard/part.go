package shard

import (
	"context"

	"github.com/redis/go-redis/v9"
)

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

type (
	partKey  struct{} // → *Node: the part that a command is about
	partsKey struct{} // → map[redis.Cmder]*Node: likewise, of several
)

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

// partOf returns the part that this command is about; nil if none is known.
func (n *Node) partOf(ctx context.Context, cmd redis.Cmder) *Node {
	if parts, ok := ctx.Value(partsKey{}).(map[redis.Cmder]*Node); ok {
		return parts[cmd]
	}
	if part := n.asked(ctx); part != n {
		return part
	}
	return nil
}

// A PartValue is what ReadParts read of one part: nil if there is no value.
type PartValue struct {
	Value []byte
	Err   error
}

// ReadParts reads one key of each of several parts of one cluster, in one round
// trip to each master. It ends within the node's time-out. The outcome is
// reported for each part by itself.
func ReadParts(ctx context.Context, parts []*Node, keys []string) []PartValue {
	whole := parts[0].whole
	bounded, cancel := context.WithTimeout(ctx, whole.timeout)
	defer cancel()
	pipe := whole.batched.Pipeline()
	cmds, about := make([]*redis.StringCmd, len(parts)), make(map[redis.Cmder]*Node, len(parts))
	for i, key := range keys {
		cmds[i] = pipe.Get(bounded, key)
		about[cmds[i]] = parts[i]
	}
	pipe.Exec(context.WithValue(bounded, partsKey{}, about)) //nolint:errcheck // each command has its own
	out := make([]PartValue, len(parts))
	for i, cmd := range cmds {
		err := cmd.Err()
		o := Classify(ctx, err)
		parts[i].report(o, err)
		if o == OK && err == nil {
			out[i].Value, out[i].Err = cmd.Bytes()
		} else if o != OK {
			out[i].Err = err
		}
	}
	return out
}
