package fluster

import (
	"context"
	"sync"
	"time"
)

const (
	// maxWrites and maxWriteBytes bound what waits to be stored on one node. A
	// node that is too slow for more costs hits, not memory.
	maxWrites     = 4096
	maxWriteBytes = 8 << 20
)

// writeQueue is what waits to be stored on one node, bounded by number and bytes.
type writeQueue struct {
	mu     sync.Mutex // guards bytes and closed
	bytes  int64
	closed bool
	queue  chan write
}

func newWriteQueue() *writeQueue { return &writeQueue{queue: make(chan write, maxWrites)} }

// push adds w, or drops it when the queue is full or closed; it never waits.
func (q *writeQueue) push(w write) {
	w.queued, w.bytes = time.Now(), w.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.bytes+w.bytes > maxWriteBytes && q.bytes > 0 {
		w.dropped()
		return
	}
	select {
	case q.queue <- w:
		q.bytes += w.bytes
	default:
		w.dropped()
	}
}

// pop returns the next write; false when ctx has ended.
func (q *writeQueue) pop(ctx context.Context) (write, bool) {
	select {
	case <-ctx.Done():
		return write{}, false
	case w := <-q.queue:
		q.mu.Lock()
		q.bytes -= w.bytes
		q.mu.Unlock()
		return w, true
	}
}

// close drops what waits and what may yet come: requests of a configuration that a
// reload has ended may outlive the writer.
func (q *writeQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for {
		select {
		case w := <-q.queue:
			q.bytes -= w.bytes
			w.dropped()
		default:
			return
		}
	}
}
