package fluster

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// queueWitness sees what happens to the messages of a worker: it counts, logs,
// and tells Caddy's events app. Of the methods of queue.Observer none blocks.
type queueWitness struct {
	queue  *liveQueue
	logger *zap.Logger

	events chan map[string]any // dead letters, of which an event is to tell
	wg     sync.WaitGroup

	mu     sync.Mutex // guards all below
	warned map[string]time.Time
}

// warnEvery is how often trouble with one node is a warning.
const warnEvery = 30 * time.Second

// maxEvents is how many events may wait for slow subscribers. What is beyond is
// logged and counted, but no event tells of it.
const maxEvents = 1024

func newQueueWitness(q *liveQueue, logger *zap.Logger) *queueWitness {
	return &queueWitness{queue: q, logger: logger, events: make(chan map[string]any, maxEvents), warned: map[string]time.Time{}}
}

// start begins to emit events.
func (w *queueWitness) start() {
	w.wg.Go(func() {
		for data := range w.events {
			w.queue.app.emit("queue_dead_letter", data)
		}
	})
}

// stop emits what is left. The worker has ended.
func (w *queueWitness) stop() {
	close(w.events)
	w.wg.Wait()
}

// Ended notes the end of a delivery.
func (w *queueWitness) Ended(d *queue.Delivery, r queue.Result, took time.Duration, state string) {
	m, count := queueMetrics, w.queue.count
	switch state {
	case "done":
		count.of(m.delivered, d)
		count.took(d)
	case "delayed":
		if r.Outcome == queue.Release { // it came to its turn before it was due
			break
		}
		count.of(m.retried, d)
	case "dead":
		count.of(m.dead, d)
		w.dead(d, r)
	case "ready":
		count.of(m.released, d)
	}
	if c := w.queue.logger.Check(zap.DebugLevel, "delivery recorded"); c != nil {
		c.Write(toOf(d), zap.String("id", d.ID), zap.Int("attempt", d.Attempt), zap.String("node", d.Node),
			zap.String("state", state), zap.Duration("duration", took), zap.Duration("after", r.After))
	}
}

// toOf is the field that names the destination of d, if it has a name. It may be another
// than the worker's, which is in w.logger: one that is in no configuration.
func toOf(d *queue.Delivery) zap.Field {
	if d.Destination == "" {
		return zap.Skip()
	}
	return zap.String("destination", d.Destination)
}

// dead tells that a message became a dead letter.
func (w *queueWitness) dead(d *queue.Delivery, r queue.Result) {
	w.queue.logger.Warn("a message became a dead letter", toOf(d), zap.String("id", d.ID), zap.Int("attempts", d.Attempt),
		zap.Int("status", r.Status), zap.String("reason", r.Reason), zap.String("node", d.Node))
	data := map[string]any{
		"queue": w.queue.name, "pool": w.queue.definition().Pool, "destination": d.Destination, "id": d.ID,
		"attempts": d.Attempt, "status": r.Status, "reason": r.Reason, "node": d.Node,
		"method": d.Header[headerMethod], "host": d.Header[headerHost], "uri": d.Header[headerURI],
	}
	select {
	case w.events <- data:
	default:
	}
}

// Lost notes that another worker has the message.
func (w *queueWitness) Lost(d *queue.Delivery) {
	w.queue.count.of(queueMetrics.duplicates, d)
	w.queue.logger.Warn("another worker has taken the message; it may be delivered twice",
		toOf(d), zap.String("id", d.ID), zap.Int("attempt", d.Attempt), zap.String("node", d.Node))
}

// Abandoned notes that messages wait for a deliver block that the configuration does not have.
func (w *queueWitness) Abandoned(node, destination string, messages int64) {
	w.queue.logger.Warn("messages wait for a deliver block that is not in the configuration; without it they become dead letters",
		zap.String("destination", destination), zap.Int64("messages", messages), zap.String("node", node))
}

// Trouble notes that something failed at a node, which is tried again.
func (w *queueWitness) Trouble(node, doing string, err error) {
	level := zap.DebugLevel
	if w.isNews(node, time.Now()) {
		level = zap.WarnLevel
	}
	if c := w.logger.Check(level, "trouble with a node of the queue"); c != nil {
		c.Write(zap.String("node", node), zap.String("doing", doing), zap.Error(err))
	}
}

// isNews reports whether the trouble with a node is worth a warning.
func (w *queueWitness) isNews(node string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.warned[node]) < warnEvery {
		return false
	}
	w.warned[node] = now
	return true
}

// Interface guards
var _ queue.Observer = (*queueWitness)(nil)
