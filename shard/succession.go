package shard

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// A Succession is an Availability that also wants to know when another server
// than before answers for a node: a replica that was made master of a Redis
// Cluster's slot, or by sentinels. Replication is asynchronous, so it may lack
// what its master had last.
type Succession interface {
	// Succeeded is told before the caller has the first answer of the other
	// server. It must not block.
	Succeeded(node *Node)
}

// answeredBy notes which server answers for the node.
func (n *Node) answeredBy(addr string) {
	if before := n.server.Load(); before != nil && *before == addr {
		return
	}
	before := n.server.Swap(&addr)
	if s, ok := n.availability.(Succession); ok && before != nil && *before != addr {
		s.Succeeded(n)
	}
}

// A server is the address of the one that answers for a node; nil until one did.
type server = atomic.Pointer[string]

// A dialHook sees where the master is that sentinels name.
type dialHook struct{ node *Node }

// DialHook notes to whom a connection was made. It is told before the first
// command is sent.
func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return conn, err
		}
		if _, failed := conn.(undialed); !failed {
			h.node.answeredBy(conn.RemoteAddr().String())
		}
		return conn, nil
	}
}

// ProcessHook changes nothing.
func (h dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook changes nothing.
func (h dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A memberHook is on the client of one member of a cluster, and sees which parts
// it answers for. What is asked while a slot moves (ASK) says nothing of who has
// it: both have.
type memberHook struct {
	whole *Node
	addr  string
}

// DialHook changes nothing.
func (h memberHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook notes who answered.
func (h memberHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		h.answered(ctx, cmd, err) // cmd has its error only after the hooks
		return err
	}
}

// ProcessPipelineHook notes who answered.
func (h memberHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		setErrors(cmds, err)
		if len(cmds) == 0 || cmds[0].Name() == "asking" {
			return err
		}
		for _, cmd := range cmds {
			h.answered(ctx, cmd, cmd.Err())
		}
		return err
	}
}

func (h memberHook) answered(ctx context.Context, cmd redis.Cmder, err error) {
	if Classify(ctx, err) != OK || isHandshake(cmd) {
		return
	}
	switch cmd.Name() {
	case "cluster", "command", "wait": // any member may be asked for these
		return
	}
	if part := h.whole.partOf(ctx, cmd); part != nil {
		part.answeredBy(h.addr)
	}
}

// Confirm sends commands, all about the master of key, in one pipeline, and then
// waits there until a replica has what they did, for half of the node's time-out
// at most. It returns how many have it, and the first error of the commands; that
// none has it in time is no error. A Redis Cluster may answer that the key has
// moved (MOVED, ASK): that is not followed.
func (n *Node) Confirm(ctx context.Context, key string, send func(redis.Pipeliner)) (replicas int64, err error) {
	bounded, cancel := context.WithTimeout(n.With(ctx), n.timeout)
	defer cancel()
	client, err := n.master(bounded, key)
	if err != nil {
		n.report(Classify(ctx, err), err)
		return 0, err
	}
	conn := client.Conn() // WAIT is about what its own connection has written
	defer conn.Close()    //nolint:errcheck // it goes back to its pool
	pipe := conn.Pipeline()
	send(pipe)
	_, err = pipe.Exec(bounded)
	n.report(Classify(ctx, err), err)
	if err != nil {
		return 0, err
	}
	// By itself, as without its answer, which may be late, a pipeline has failed.
	// Whoever may not wait has no replicas.
	replicas, _ = conn.Do(bounded, "wait", 1, max(1, n.timeout.Milliseconds()/2)).Int64()
	return replicas, nil
}

// master returns the client of the server that has the key.
func (n *Node) master(ctx context.Context, key string) (*redis.Client, error) {
	switch c := n.batched.(type) {
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, key)
	case *redis.Client:
		return c, nil
	}
	return nil, errors.New("shard: no client of one server")
}
