package fluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// liveQueue is one queue as one configuration has it. Handlers of several sites
// share it: one of them defines it (or several do, in the same words, as a site
// on two listeners does), the others only name it.
//
//	provision  joinQueue registers it, nothing is sent
//	start      it is opened, its workers begin to take messages
//	stop       its workers take no more; what is under way ends in its own time,
//	           while those of the next configuration take messages already
//	exit       the same, but Stop waits for what is under way, for a while
type liveQueue struct {
	app     *App
	name    string
	defined *Queue // by a handler with options; nil: none yet
	bare    *Queue // a handler that only names it; nil: none yet
	words   []byte // the definition, as JSON
	logger  *zap.Logger

	count  *queueCounts
	depths depthCache
	once   sync.Once
	opened *openedQueue
	err    error // why it could not be opened

	mu      sync.Mutex // guards running
	running []*queueWorker
}

// joinQueue registers a handler's queue. Its routes are loaded here, so what is
// wrong with them is an error of the configuration.
func (a *App) joinQueue(ctx caddy.Context, h *Queue) (*liveQueue, error) {
	if a.queues == nil {
		a.queues = map[string]*liveQueue{}
	}
	q := a.queues[h.Name]
	if q == nil {
		q = &liveQueue{app: a, name: h.Name, logger: ctx.Logger().With(zap.String("queue", h.Name))}
		a.queues[h.Name] = q
	}
	if h.bare {
		if q.bare == nil {
			q.bare = h
			return q, h.provisionDelivery(ctx)
		}
		return q, nil
	}
	words, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", h.Name, err)
	}
	if q.defined != nil {
		if !bytes.Equal(words, q.words) {
			return nil, fmt.Errorf("queue %s is defined twice, in different words: give its options at one place, and write just `fluster_queue %s` at the others", h.Name, h.Name)
		}
		return q, nil
	}
	q.defined, q.words = h, words
	if err := h.provisionDelivery(ctx); err != nil {
		return nil, fmt.Errorf("queue %s: %w", h.Name, err)
	}
	return q, nil
}

// liveQueues are the queues in the order of their names.
func (a *App) liveQueues() (out []*liveQueue) {
	for _, name := range slices.Sorted(maps.Keys(a.queues)) {
		out = append(out, a.queues[name])
	}
	return out
}

// definition returns the handler that says what the queue is like. It is known
// when all handlers are provisioned.
func (q *liveQueue) definition() *Queue {
	if q.defined != nil {
		return q.defined
	}
	return q.bare
}

// open opens the queue, once: when the app starts, or when a request comes that
// is earlier.
func (q *liveQueue) open() (*openedQueue, error) {
	q.once.Do(func() {
		def := q.definition()
		q.count = &queueCounts{pool: def.Pool, queue: q.name}
		p, err := q.app.pool(def.Pool)
		if err != nil {
			q.err = err
			return
		}
		q.opened, q.err = p.openQueue(def.options)
	})
	return q.opened, q.err
}

// use opens the queue for a request, which calls leave when it is done. One that
// comes to a configuration that was cleaned up already opens it for itself.
func (q *liveQueue) use() (*openedQueue, error) {
	opened, err := q.open()
	if err != nil || opened.enter() {
		return opened, err
	}
	p, err := q.app.pool(q.definition().Pool)
	if err != nil {
		return nil, err
	}
	if opened, err = p.openQueue(q.definition().options); err != nil {
		return nil, err
	}
	opened.enter()
	opened.close() // by leave
	return opened, nil
}

// startQueues opens all queues and starts their workers. Where one cannot, none does.
func (a *App) startQueues() error {
	err := a.checkTold()
	for _, q := range a.liveQueues() {
		if _, openErr := q.open(); openErr != nil {
			err = errors.Join(err, fmt.Errorf("queue %s: %w", q.name, openErr))
		}
	}
	if err == nil {
		err = a.checkDurability()
	}
	if err != nil {
		return err
	}
	for _, q := range a.liveQueues() {
		if err := q.start(); err != nil {
			a.stopQueues()
			return fmt.Errorf("queue %s: %w", q.name, err)
		}
	}
	return nil
}

// checkTold checks that the queues that are told of others are there, and that
// none is told of itself in the end: that would never end.
func (a *App) checkTold() error {
	for _, q := range a.liveQueues() {
		def := q.definition()
		for option, to := range map[string]string{"callback": def.Callback, "dead_letter_to": def.DeadLetterTo} {
			if to != "" && a.queues[to] == nil {
				return fmt.Errorf("queue %s: %s: there is no queue %s; some handler must name it: fluster_queue %s", q.name, option, to, to)
			}
		}
		if path := a.tellsItself(q.name, nil); path != nil {
			return fmt.Errorf("queue %s: callback and dead_letter_to lead back to it: %v", q.name, path)
		}
	}
	return nil
}

// tellsItself returns the way from the last queue of path, over those that it
// tells, back to the first one; nil where there is none.
func (a *App) tellsItself(name string, path []string) []string {
	if slices.Contains(path, name) {
		return append(path, name)
	}
	q := a.queues[name]
	if q == nil {
		return nil
	}
	path = append(slices.Clip(path), name)
	for _, to := range []string{q.definition().Callback, q.definition().DeadLetterTo} {
		if to == "" {
			continue
		}
		if found := a.tellsItself(to, path); found != nil {
			return found
		}
	}
	return nil
}

// checkDurability asks the nodes of all queues at the same time whether they can
// give what `ack` asks for.
func (a *App) checkDurability() error {
	ctx, cancel := context.WithTimeout(a.ctx, askFor)
	defer cancel()
	queues := a.liveQueues()
	errs := make([]error, len(queues))
	var wg sync.WaitGroup
	for i, q := range queues {
		wg.Go(func() {
			if err := q.opened.client.Check(ctx); err != nil {
				errs[i] = fmt.Errorf("queue %s: ack: %w", q.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// start starts a worker for each destination.
func (q *liveQueue) start() error {
	def := q.definition()
	if def.Wait > 0 {
		q.opened.receiveReplies() // before the first request waits for one
	}
	if len(def.Deliver) == 0 { // as it may be; but a misspelt name is a queue of its own
		q.logger.Info("the queue has no deliver block in this configuration: others are to deliver it")
	}
	for _, dest := range def.Deliver {
		w, err := q.newWorker(def, dest)
		if err != nil {
			return err
		}
		q.add(w)
		go w.run(q.hold(), q.logger) // waited for by end
	}
	return nil
}

func (q *liveQueue) add(w *queueWorker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = append(q.running, w)
}

// workers are those that were started.
func (q *liveQueue) workers() []*queueWorker {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.running)
}

// end makes the workers take no more messages, and returns when what was under
// way has ended, or patience has. It may be called again, with less patience.
func (q *liveQueue) end(patience context.Context) {
	var wg sync.WaitGroup
	for _, w := range q.workers() {
		wg.Go(func() {
			w.Drain(patience)
			<-w.ended // which tells what Run returned
		})
	}
	wg.Wait()
}

// close lets go of the nodes; workers that still end keep them for that long.
func (q *liveQueue) close() {
	q.once.Do(func() { q.err = errQueueClosed })
	if q.opened != nil {
		q.opened.close()
	}
}

var errQueueClosed = errors.New("the configuration is not in force any more")

// closeQueues lets go of what outlives a configuration, also after half a Provision.
func (a *App) closeQueues() {
	for _, q := range a.liveQueues() {
		q.close()
	}
}

// ending are the queues of configurations that were stopped, while something of
// theirs is under way.
var ending = struct {
	sync.Mutex // guards set
	set        map[*liveQueue]bool
}{set: map[*liveQueue]bool{}}

// exitPatience is how long an exit waits for deliveries under way where the http
// app has no grace_period.
const exitPatience = 10 * time.Second

// stopQueues ends the workers. On a reload they end in the background, within the
// http app's grace_period, or in their own time without one. When the process
// exits it waits for them, and for those of earlier configurations.
func (a *App) stopQueues() {
	patience := a.gracePeriod()
	if patience == 0 && caddy.Exiting() {
		patience = exitPatience
	}
	ctx, cancel := context.WithCancel(context.Background())
	if patience > 0 {
		ctx, cancel = context.WithTimeout(ctx, patience)
	}
	var own sync.WaitGroup
	for _, q := range a.liveQueues() {
		setEnding(q, true)
		own.Go(func() {
			q.end(ctx)
			setEnding(q, false)
		})
	}
	if !caddy.Exiting() {
		go func() { // ends with the last worker
			own.Wait()
			cancel()
		}()
		return
	}
	defer cancel()
	for _, q := range endingQueues() {
		own.Go(func() { q.end(ctx) })
	}
	own.Wait()
}

func setEnding(q *liveQueue, is bool) {
	ending.Lock()
	defer ending.Unlock()
	if is {
		ending.set[q] = true
	} else {
		delete(ending.set, q)
	}
}

func endingQueues() []*liveQueue {
	ending.Lock()
	defer ending.Unlock()
	return slices.Collect(maps.Keys(ending.set))
}

// gracePeriod is how long the http app lets requests end, or 0.
func (a *App) gracePeriod() time.Duration {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return 0
	}
	return time.Duration(app.(*caddyhttp.App).GracePeriod)
}
