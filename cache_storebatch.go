package fluster

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Short writes that wait at the same time go to the node in one round trip: a
// write alone costs this process 11 µs and the server 8 µs, in a batch of
// sixteen 4 µs and 5 µs.
const (
	batchWrites = 64
	// batchBytes is what a node has to take within its time-out, and how long
	// another writer of the same process has to wait for the connection.
	batchBytes = 256 << 10
)

// popMore returns w and the short writes that wait behind it, as many as go in
// one batch; w alone if it is not short.
func (q *writeQueue) popMore(w write) []write {
	batch, bytes := []write{w}, w.size()
	for w.short && len(batch) < batchWrites && bytes < batchBytes {
		select {
		case w = <-q.queue:
			q.mu.Lock()
			q.bytes -= w.size()
			q.mu.Unlock()
			batch, bytes = append(batch, w), bytes+w.size()
		default:
			return batch
		}
	}
	return batch
}

// performAll does writes in their order: those that are short together, and a
// last one that is not.
func (n *node) performAll(ctx context.Context, batch []write) {
	last := batch[len(batch)-1]
	if !last.short {
		batch = batch[:len(batch)-1]
		defer func() { n.stored(last, n.perform(ctx, last)) }()
	}
	ctx = n.With(ctx)
	cmds, _ := n.Bulk().Pipelined(ctx, func(p redis.Pipeliner) error { // each has its own error
		for _, w := range batch {
			p.Set(ctx, w.values[0].key, w.values[0].data, w.ttl)
		}
		return nil
	})
	for i, cmd := range cmds {
		n.stored(batch[i], cmd.Err())
	}
}
