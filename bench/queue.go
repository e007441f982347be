package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/queue"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// queueCases measure the queue. Ours and asynq run in this process, in turns,
// each with a Redis server of the same kind.
func queueCases() []Case {
	return []Case{
		{"queue process", processing},
		{"queue enqueue", enqueuing},
		{"queue accept", accepting},
		{"queue latency", delivering},
		{"queue idle", idling},
	}
}

const (
	queueCallers  = 64 // who put in at once, and how many deliveries may be under way
	queueBatch    = 1000
	queuePatience = time.Minute
)

// queueBody is what a message has.
var queueBody = make([]byte, 1024)

// goQueue is a queue by its Go API.
type goQueue struct {
	server *Process
	node   *shard.Node
	client *queue.Client
}

func (l *Lab) startQueue() (*goQueue, error) {
	server, err := l.startRedis("redis-queue")
	if err != nil {
		return nil, err
	}
	address, err := shard.ParseAddress(server.redis.URL())
	if err != nil {
		return nil, err
	}
	node, err := shard.NewNode(address, shard.Options{Timeout: 3 * time.Second}, nil) // as patient as the peer's client
	if err != nil {
		return nil, err
	}
	client, err := queue.NewClient(queue.Options{Name: "bench", Partitions: queue.OnNodes(node)})
	return &goQueue{server, node, client}, err
}

// enqueue puts n messages in; n < 0: until ctx ends.
func (q *goQueue) enqueue(ctx context.Context, n int64) (int64, error) {
	return callers(ctx, n, func() error {
		_, err := q.client.Enqueue(context.Background(), &queue.Message{Body: queueBody})
		return err
	})
}

// enqueueBatches puts n messages in, rounded up to batches, or until ctx ends.
func (q *goQueue) enqueueBatches(ctx context.Context, n int64) (done int64, err error) {
	messages := make([]*queue.Message, queueBatch)
	for i := range messages {
		messages[i] = &queue.Message{Body: queueBody}
	}
	for (n < 0 || done < n) && ctx.Err() == nil {
		if _, err := q.client.EnqueueBatch(context.Background(), messages); err != nil {
			return done, err
		}
		done += queueBatch
	}
	return done, nil
}

// process lets a worker take n messages, and returns how long it took until all
// of them were recorded as done.
func (q *goQueue) process(n int64) (time.Duration, error) {
	var calls atomic.Int64
	all := make(chan struct{})
	w, err := queue.NewWorker(q.client, queue.WorkerOptions{Concurrency: queueCallers}, func(context.Context, *queue.Delivery) queue.Result {
		if calls.Add(1) == n {
			close(all)
		}
		return queue.Result{Outcome: queue.Done}
	})
	if err != nil {
		return 0, err
	}
	ctx, end := context.WithTimeout(context.Background(), queuePatience)
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	wg.Go(func() { w.Run(ctx) }) //nolint:errcheck // that all were delivered is what counts
	select {
	case <-all:
	case <-ctx.Done():
		return 0, errors.New("the worker does not come to the end")
	}
	w.Drain(ctx)
	return time.Since(began), nil
}

// callers calls do from 64 goroutines, n times in all or until ctx ends, and
// returns how often it did.
func callers(ctx context.Context, n int64, do func() error) (int64, error) {
	var begun, done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, queueCallers)
	for range queueCallers {
		wg.Go(func() {
			for ctx.Err() == nil && (begun.Add(1) <= n || n < 0) {
				if err := do(); err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return done.Load(), nil
	}
}

// empty forgets what lies on a server.
func (p *Process) empty() error {
	client := redis.NewClient(&redis.Options{Addr: p.redis.Addr(), ReadTimeout: 10 * time.Second})
	defer client.Close() //nolint:errcheck // nothing is under way
	return client.FlushAll(context.Background()).Err()
}

// ownCPU returns the CPU time that this process and a server have taken.
func ownCPU(server *Process) time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) //nolint:errcheck // it knows itself
	return time.Duration(u.Utime.Nano()+u.Stime.Nano()) + server.cpu()
}

// processing compares how many messages a second a function gets that does nothing.
func processing(l *Lab, r *Report) error {
	ours, theirs, err := l.startBoth()
	if err != nil {
		return err
	}
	defer ours.node.Close()     //nolint:errcheck // nothing is under way
	defer theirs.client.Close() //nolint:errcheck // nor here
	c, err := l.compare(
		Side{Name: "queue.Worker", Measure: takes(ours.server, 60_000, ours.enqueueBatches, ours.process)},
		Side{Name: "asynq.Server", Measure: takes(theirs.server, 12_000, theirs.enqueue, theirs.process)})
	if err != nil {
		return err
	}
	r.addRatio("queue, Go API: 1 KB processed, no-op, 64 at a time", Side{}, Side{Name: "asynq.Server"}, c, 3)
	return nil
}

// takes returns a measurement of process, with so many messages for each second
// that it is to take.
func takes(server *Process, perSecond int64, fill func(context.Context, int64) (int64, error), process func(int64) (time.Duration, error)) func(time.Duration) (Run, error) {
	return func(length time.Duration) (Run, error) {
		n, err := fill(context.Background(), perSecond*int64(length/time.Second))
		if err != nil {
			return Run{}, fmt.Errorf("filling the queue: %w", err)
		}
		before := ownCPU(server)
		took, err := process(n)
		if err != nil {
			return Run{}, err
		}
		return runOf(n, took, ownCPU(server)-before), server.empty()
	}
}

func runOf(n int64, took, cpu time.Duration) Run {
	return Run{Requests: int(n), PerSecond: float64(n) / took.Seconds(), CPU: float64(cpu) / 1e3 / float64(n)}
}

// enqueuing compares how many messages a second 64 callers put in.
func enqueuing(l *Lab, r *Report) error {
	ours, theirs, err := l.startBoth()
	if err != nil {
		return err
	}
	defer ours.node.Close()     //nolint:errcheck // nothing is under way
	defer theirs.client.Close() //nolint:errcheck // nor here
	asynqs := Side{Name: "asynq.Client, 64 callers", Measure: puts(theirs.server, theirs.enqueue)}
	for _, way := range []struct {
		name string
		put  func(context.Context, int64) (int64, error)
	}{
		{"Enqueue, 64 callers", ours.enqueue},
		{"EnqueueBatch of 1000, one caller", ours.enqueueBatches},
	} {
		c, err := l.compare(Side{Name: way.name, Measure: puts(ours.server, way.put)}, asynqs)
		if err != nil {
			return err
		}
		r.addRatio("queue, Go API: 1 KB put in, "+way.name, Side{}, asynqs, c, 2)
	}
	return nil
}

// puts returns a measurement of put, which is called until ctx ends.
func puts(server *Process, put func(context.Context, int64) (int64, error)) func(time.Duration) (Run, error) {
	return func(length time.Duration) (Run, error) {
		ctx, end := context.WithTimeout(context.Background(), length)
		defer end()
		before, began := ownCPU(server), time.Now()
		n, err := put(ctx, -1)
		if err != nil {
			return Run{}, err
		}
		return runOf(n, time.Since(began), ownCPU(server)-before), server.empty()
	}
}

func (l *Lab) startBoth() (*goQueue, *asynqPeer, error) {
	ours, err := l.startQueue()
	if err != nil {
		return nil, nil, err
	}
	theirs, err := l.startAsynq()
	return ours, theirs, err
}
