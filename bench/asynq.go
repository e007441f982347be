package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqPeer is a queue for Go that many use, on a Redis server of its own.
type asynqPeer struct {
	server *Process
	at     asynq.RedisClientOpt
	client *asynq.Client
}

func (l *Lab) startAsynq() (*asynqPeer, error) {
	server, err := l.startRedis("redis-asynq")
	if err != nil {
		return nil, err
	}
	at := asynq.RedisClientOpt{Addr: server.redis.Addr(), PoolSize: queueCallers}
	return &asynqPeer{server, at, asynq.NewClient(at)}, nil
}

// enqueue puts n messages in; n < 0: until ctx ends.
func (p *asynqPeer) enqueue(ctx context.Context, n int64) (int64, error) {
	return callers(ctx, n, func() error {
		_, err := p.client.Enqueue(asynq.NewTask("bench", queueBody))
		return err
	})
}

// process lets a server take n messages, and returns how long it took until the
// handler was called for the last of them. That it was recorded as done comes later.
func (p *asynqPeer) process(n int64) (time.Duration, error) {
	var calls atomic.Int64
	all := make(chan struct{})
	server := asynq.NewServer(p.at, asynq.Config{Concurrency: queueCallers, LogLevel: asynq.FatalLevel})
	began := time.Now()
	err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if calls.Add(1) == n {
			close(all)
		}
		return nil
	}))
	if err != nil {
		return 0, err
	}
	defer server.Shutdown()
	select {
	case <-all:
		return time.Since(began), nil
	case <-time.After(queuePatience):
		return 0, errors.New("asynq does not come to the end")
	}
}
