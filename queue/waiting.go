package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// waiting is the connection on which a source waits at its node: one of its own,
// so that the wait can be ended from elsewhere.
type waiting struct {
	s    *source
	conn *redis.Conn
	from *redis.Client
	id   int64 // of the connection; 0: unknown
}

// open opens the connection.
func (w *waiting) open(ctx context.Context) error {
	switch c := w.s.p.client().(type) {
	case *redis.Client:
		w.from = c
	case *redis.ClusterClient:
		master, err := c.MasterForKey(ctx, w.s.inlets[0].key)
		if err != nil {
			return err
		}
		w.from = master
	default:
		return errors.New("queue: a client of an unknown kind")
	}
	w.conn = w.from.Conn()
	w.id, _ = w.conn.ClientID(ctx).Result() // without it, the wait ends by itself
	return nil
}

func (w *waiting) close() {
	if w.conn != nil {
		w.conn.Close() //nolint:errcheck // it is given up
		w.conn = nil
	}
}

// read waits for one message of each lane, until there is one, or for blockFor, or until
// ctx ends.
//
// The connection is not closed to end the wait: what the node has sent by then
// would be pending to this consumer, and nobody would know of it.
func (w *waiting) read(ctx context.Context) ([]redis.XStream, error) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), blockFor+probeTime)
	defer cancel()
	if w.conn == nil {
		if err := w.open(bounded); err != nil {
			return nil, err
		}
	}
	returned, ended := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		w.unblock(returned)
	})
	args := &redis.XReadGroupArgs{Group: group, Consumer: w.s.name, Count: 1, Block: blockFor}
	args.Streams = w.s.streams()
	for range w.s.inlets {
		args.Streams = append(args.Streams, ">")
	}
	streams, err := w.conn.XReadGroup(w.s.p.with(bounded), args).Result()
	close(returned)
	if !stop() {
		<-ended
	}
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil && !isNoGroup(err):
		w.close()
		if c, ok := w.s.p.client().(*redis.ClusterClient); ok {
			c.ReloadState(ctx) // the slot may have moved
		}
	}
	return streams, err
}

// unblock ends the wait at the node, which may begin only now.
func (w *waiting) unblock(returned <-chan struct{}) {
	for w.id != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), probeTime)
		w.from.ClientUnblock(ctx, w.id)
		cancel()
		select {
		case <-returned:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
