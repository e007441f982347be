package queue

import (
	"errors"
	"time"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// Errors of Enqueue, EnqueueBatch and what looks after a queue.
var (
	// ErrNoNode: no node took the message.
	ErrNoNode = errors.New("queue: no node takes messages now")
	// ErrBacklog: the queue is as long as it may become.
	ErrBacklog = errors.New("queue: the backlog is full")
	// ErrMismatch: the same dedup key or id came with another body before.
	ErrMismatch = errors.New("queue: the same key was used with another body")
	// ErrTooLarge: the body is longer than Options.MaxBody.
	ErrTooLarge = errors.New("queue: the body is too large")
	// ErrDurability: no node could make the message as durable as Options ask.
	ErrDurability = errors.New("queue: the message could not be made as durable as asked")
	// ErrNotFound: there is no such message.
	ErrNotFound = errors.New("queue: no such message")
	// ErrMessage: the message itself is wrong, its id, a header or a time.
	ErrMessage = errors.New("queue: the message cannot be kept")
	// ErrTorn: of a body that lies in chunks a part is gone, and does not come back.
	ErrTorn = errors.New("queue: a chunk of the body is missing or has another length")
)

// Options are what clients and workers of one queue must agree on. The zero
// value of each field is its default.
type Options struct {
	// Name is the queue's: letters, digits, - _ and dots.
	Name string
	// Namespace is the prefix of all keys. Default: fluster.
	Namespace string
	// Partitions are where the queue lies. The client does not own their nodes.
	Partitions []Partition
	// Destinations are to whom each message is delivered, independently. Default: one, "".
	Destinations []string
	// Classes are the priorities beside "", with their weights, highest first.
	Classes []Class
	// PerKey is how many messages of one order key may be in flight. Default: 1.
	PerKey int
	// InlineBody is the longest body that lies in the message itself; longer ones lie
	// in chunks of 256 KiB beside it. Default: 64 KiB.
	InlineBody int64
	// MaxBody is the longest body that is taken. Default: 1 MiB.
	MaxBody int64
	// Backlog bounds the queue over all nodes. Zero fields bound nothing.
	Backlog Backlog
	// Ack is what must be true before Enqueue says that a message is in. Default: that
	// a node has it in memory.
	Ack Ack
	// Copies is on how many nodes a message lies, 1 or 2. Default: 1.
	Copies int
	// Visibility is how long a delivery hides its message unless it is renewed.
	// Default: 30 s.
	Visibility time.Duration
	// KeepResult is how long the result of a tracked message is kept. Default: 1 h.
	KeepResult time.Duration
	// DeadLetters and DeadLetterAge bound the dead letters of each partition. 0: unlimited.
	DeadLetters   int
	DeadLetterAge time.Duration
}

// A Partition is where a part of a queue lies: all keys share its number's tag.
type Partition struct {
	Node   *shard.Node
	Number int
}

// OnNodes returns one partition on each of several independent nodes.
func OnNodes(nodes ...*shard.Node) []Partition {
	var out []Partition
	for _, n := range nodes {
		out = append(out, Partition{Node: n})
	}
	return out
}

// OnCluster returns k partitions on one Redis Cluster, over whose masters their
// slots are spread.
func OnCluster(cluster *shard.Node, k int) []Partition {
	var out []Partition
	for i := range k {
		out = append(out, Partition{Node: cluster, Number: i})
	}
	return out
}

// A Class is a priority: with a weight of 3 it gets three times the deliveries of
// one with 1 while both have messages.
type Class struct {
	Name   string
	Weight int
}

// A Backlog is how long a queue may become. Zero fields bound nothing.
type Backlog struct {
	Messages int64
	Bytes    int64
	Age      time.Duration // of the oldest message that is ready
}

// Ack is what must be true of a message before it counts as accepted. What does
// not become true in time is not delivered either.
type Ack struct {
	// AOF: it is on the node's disk, by WAITAOF (Redis 7.2), which with appendfsync
	// everysec takes up to a second, or because the node has appendfsync always.
	AOF bool
	// Replicas that must have it. 0: none.
	Replicas int
}
