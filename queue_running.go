package fluster

import (
	"context"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// queueWorker is the worker of one destination of one configuration.
type queueWorker struct {
	*queue.Worker
	destination string
	witness     *queueWitness
	slotsKey    string
	ended       chan struct{} // closed when Run has returned
}

// workerSlots are the slots of each destination of each queue, by pool, queue
// and destination, over config reloads.
var workerSlots = caddy.NewUsagePool() // string → *slots

// Destruct is called when no worker has slots of these any more.
func (s *slots) Destruct() error { return nil }

// newWorker returns the worker of a destination. Nothing is sent before it runs.
func (q *liveQueue) newWorker(def *Queue, dest *Destination) (*queueWorker, error) {
	logger := q.logger
	if dest.Name != "" {
		logger = logger.With(zap.String("destination", dest.Name))
	}
	w := &queueWorker{
		destination: dest.Name, witness: newQueueWitness(q, logger), ended: make(chan struct{}),
		slotsKey: def.Pool + "\x00" + q.name + "\x00" + dest.Name,
	}
	shared, _, err := workerSlots.LoadOrNew(w.slotsKey, func() (caddy.Destructor, error) { return new(slots), nil })
	if err != nil {
		return nil, err
	}
	shared.(*slots).setLimit(def.Concurrency)
	d := &deliverer{
		config: &def.QueueDelivery, destination: dest, queue: q.name, slots: shared.(*slots), count: q.count, logger: logger,
		callback: q.teller(def.Callback, dest.Name),
	}
	if w.Worker, err = queue.NewWorker(q.opened.client, q.workerOptions(def, w), d.deliver); err != nil {
		workerSlots.Delete(w.slotsKey) //nolint:errcheck // Destruct never fails
		return nil, err
	}
	return w, nil
}

func (q *liveQueue) workerOptions(def *Queue, w *queueWorker) queue.WorkerOptions {
	o := queue.WorkerOptions{
		Destination: w.destination, Attempts: def.Attempts, Concurrency: def.Concurrency, Rate: def.Rate,
		BackoffFirst: time.Duration(def.Backoff.First), BackoffLongest: time.Duration(def.Backoff.Longest),
		Observe: w.witness,
	}
	if def.Breaker != nil {
		o.BreakerFailures, o.BreakerRest = def.Breaker.Failures, time.Duration(def.Breaker.Rest)
	}
	if t := q.teller(def.DeadLetterTo, w.destination); t != nil {
		o.Bury = t.dead
	}
	return o
}

// hold keeps the nodes open that the workers use, those of the queues that are
// told too, until release is called.
func (q *liveQueue) hold() (release func()) {
	releases := []func(){q.opened.hold()}
	for _, to := range []string{q.definition().Callback, q.definition().DeadLetterTo} {
		if to != "" {
			releases = append(releases, q.app.queues[to].opened.hold())
		}
	}
	return func() {
		for _, release := range releases {
			release()
		}
	}
}

// teller returns who tells the queue with this name; nil if the name is empty.
func (q *liveQueue) teller(to, destination string) *teller {
	if to == "" {
		return nil
	}
	target := q.app.queues[to]
	return &teller{from: q.name, destination: destination, to: to, client: target.opened.client, count: target.count, logger: q.logger}
}

// run takes and delivers messages until the worker is told to stop. release lets
// go of the nodes.
func (w *queueWorker) run(release func(), logger *zap.Logger) {
	defer close(w.ended)
	defer release()
	defer workerSlots.Delete(w.slotsKey) //nolint:errcheck // Destruct never fails
	w.witness.start()
	defer w.witness.stop()
	if err := w.Run(context.Background()); err != nil {
		logger.Error("the worker has ended", zap.Error(err))
	}
}
