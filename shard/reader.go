package shard

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// A reader reads the value of a key and, at the same time, that of another one
// that many reads have in common; "" is none. It returns within the node's
// time-out.
type reader interface {
	read(ctx context.Context, key, beside string) (value Value, other []byte, err error)
}

// A plainReader has a connection to itself while it reads. It serves where
// batches cannot: in a Redis Cluster one slow master would hold up a batch that
// goes to all of them.
//
// Its caller does not wait for longer than the time-out, whatever redirects,
// dials and look-ups of who is master there are within the one command.
type plainReader struct {
	client redis.UniversalClient
	node   *Node
	reads  atomic.Int64 // under way
}

func (r *plainReader) read(ctx context.Context, key, beside string) (value Value, other []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.node.timeout)
	defer cancel()
	keys := []string{key, beside}
	if beside == "" {
		keys = keys[:1]
	}
	if r.reads.Add(1) > maxQueued {
		r.reads.Add(-1)
		return Value{}, nil, errQueueFull
	}
	type answer struct {
		values [][]byte
		err    error
	}
	answers := make(chan answer, 1)
	go func() { // it ends soon after ctx, or when the client is closed
		defer r.reads.Add(-1)
		values, err := readAll(ctx, r.client, keys)
		answers <- answer{values, err}
	}()
	select {
	case a := <-answers:
		switch {
		case a.err != nil:
			return Value{}, nil, a.err
		case beside == "":
			return Value{Bytes: a.values[0]}, nil, nil
		}
		return Value{Bytes: a.values[0]}, a.values[1], nil
	case <-ctx.Done():
		return Value{}, nil, ctx.Err()
	}
}

// readAll reads the values of keys by one MGET.
func readAll(ctx context.Context, client redis.UniversalClient, keys []string) ([][]byte, error) {
	values, err := client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(values))
	for i, v := range values {
		out[i] = asBytes(v)
	}
	return out, nil
}

// asBytes returns a value of an MGET, read only: nil where there was none. The
// string must be one of a finished command: go-redis read it into memory of its
// own, to which nobody writes any more. (Copying it would cost 0.5 µs for 4 KiB and
// as much memory again.)
func asBytes(v any) []byte {
	s, ok := v.(string)
	switch {
	case !ok:
		return nil
	case s == "":
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
