package shard

import (
	"context"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// A reader reads the value of a key and, at the same time, that of another one
// that many reads have in common; "" is none. It returns within the node's
// time-out.
type reader interface {
	read(ctx context.Context, key, beside string) (value, other []byte, err error)
}

// A plainReader has a connection to itself while it reads. It serves where
// batches cannot: in a Redis Cluster one slow master would hold up a batch that
// goes to all of them.
type plainReader struct {
	client redis.UniversalClient
	node   *Node
}

func (r plainReader) read(ctx context.Context, key, beside string) (value, other []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.node.timeout)
	defer cancel()
	keys := []string{key, beside}
	if beside == "" {
		keys = keys[:1]
	}
	values, err := readAll(ctx, r.client, keys)
	switch {
	case err != nil:
		return nil, nil, err
	case beside == "":
		return values[0], nil, nil
	}
	return values[0], values[1], nil
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

// asBytes returns a value of an MGET: nil where there was none. The string must
// be the caller's alone, as those of a finished command are: go-redis read each
// into memory of its own, which now is the result's. (Copying them would cost
// 0.5 µs for 4 KiB and as much memory again.)
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
