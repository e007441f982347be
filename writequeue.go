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

// keptWrites is how many writes an empty queue has memory for.
const keptWrites = 256

// writeQueue is what waits to be stored on one node, bounded by number and bytes. It
// takes the memory of what waits there: nodes may be many, and most of them idle.
type writeQueue struct {
	ready chan struct{} // holds a token when something may wait

	mu      sync.Mutex // guards all below
	bytes   int64
	closed  bool
	waiting []write // in order, from next on
	next    int
}

func newWriteQueue() *writeQueue { return &writeQueue{ready: make(chan struct{}, 1)} }

// push adds w, or drops it when the queue is full or closed; it never waits.
func (q *writeQueue) push(w write) {
	w.queued, w.bytes = time.Now(), w.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.lenLocked()
	if q.closed || n == maxWrites || n > 0 && q.bytes+w.bytes > maxWriteBytes {
		w.dropped()
		return
	}
	if len(q.waiting) == cap(q.waiting) && q.next > n { // there is more room before them
		copy(q.waiting, q.waiting[q.next:])
		clear(q.waiting[n:])
		q.waiting, q.next = q.waiting[:n], 0
	}
	q.waiting = append(q.waiting, w)
	q.bytes += w.bytes
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *writeQueue) lenLocked() int { return len(q.waiting) - q.next }

// len returns how many writes wait.
func (q *writeQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lenLocked()
}

// pop returns the next write; false when ctx has ended. One goroutine does so.
func (q *writeQueue) pop(ctx context.Context) (write, bool) {
	for ctx.Err() == nil {
		if w, ok := q.take(); ok {
			return w, true
		}
		select {
		case <-ctx.Done():
		case <-q.ready:
		}
	}
	return write{}, false
}

// take returns the next write; false when there is none.
func (q *writeQueue) take() (write, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.takeLocked()
}

func (q *writeQueue) takeLocked() (write, bool) {
	if q.lenLocked() == 0 {
		return write{}, false
	}
	w := q.waiting[q.next]
	q.waiting[q.next] = write{}
	q.next++
	q.bytes -= w.bytes
	if q.lenLocked() == 0 {
		q.waiting, q.next = q.waiting[:0], 0
		if cap(q.waiting) > keptWrites {
			q.waiting = nil
		}
	}
	return w, true
}

// close drops what waits and what may yet come: requests of a configuration that a
// reload has ended may outlive the writer.
func (q *writeQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for w, ok := q.takeLocked(); ok; w, ok = q.takeLocked() {
		w.dropped()
	}
	q.waiting = nil
}
