package fluster

import (
	"context"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// run puts the chunks on the node, and the manifest behind them.
func (f *fill) run(ctx context.Context) {
	defer f.all.count.Add(-1)
	ctx = f.n.With(ctx)
	for {
		batch, ok := f.next(ctx)
		if !ok {
			break
		}
		if f.isAlive() {
			f.failIf(f.put(ctx, batch))
		}
		for _, chunk := range batch {
			f.release(chunk)
		}
	}
	if ctx.Err() != nil {
		f.kill() // nor is the rest, which may yet change, of any interest
	} else if f.last != nil {
		if f.isAlive() {
			f.failIf(f.put(ctx, [][]byte{f.last}))
		}
		f.release(f.last)
	}
	f.noMore()
	switch {
	case !f.isAlive():
	case f.manifest != nil:
		f.failIf(f.seal(ctx))
	default:
		f.lock.letGo(isLost)
		select {
		case <-f.dead:
		case <-ctx.Done():
		}
	}
	f.end()
}

// noMore notes that all chunks lie on the node that ever will.
func (f *fill) noMore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.changedLocked()
}

// next returns the chunks that go to the node in one round trip: what waits, up
// to chunkSize bytes. It returns false when there are no more.
func (f *fill) next(ctx context.Context) (batch [][]byte, ok bool) {
	select {
	case <-ctx.Done():
		return nil, false
	case chunk, ok := <-f.queue:
		if !ok {
			return nil, false
		}
		batch = append(batch, chunk)
	}
	for (len(batch)+1)*f.size <= chunkSize {
		select {
		case chunk, ok := <-f.queue:
			if !ok {
				return batch, true
			}
			batch = append(batch, chunk)
		default:
			return batch, true
		}
	}
	return batch, true
}

// put puts chunks on the node.
func (f *fill) put(ctx context.Context, batch [][]byte) error {
	sums := f.written()
	if len(sums)+len(batch) > maxChunks || !f.n.inUse() {
		return errNotKept
	}
	select {
	case f.n.filling <- struct{}{}:
		defer func() { <-f.n.filling }()
	case <-ctx.Done():
		return ctx.Err()
	case <-f.dead:
		return errNotKept
	}
	// No manifest may outlive its chunks.
	ttl := time.Until(f.until) + time.Minute
	_, err := f.n.Bulk().Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, chunk := range batch {
			p.Set(ctx, f.key(len(sums)+i), chunk, ttl)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, chunk := range batch {
		f.sums = append(f.sums, xxhash.Sum64(chunk))
	}
	f.changedLocked()
	return nil
}

// seal writes the manifest.
func (f *fill) seal(ctx context.Context) error {
	r := f.manifest
	now := time.Now()
	ttl := min(keepFor(&r.Terms, now), f.until.Sub(now))
	if ttl <= 0 || !f.n.inUse() {
		return errNotKept
	}
	sums := f.written()
	r.Chunks = &stored.Chunks{Token: f.token, Size: f.size, Count: len(sums), Sums: sums}
	if err := f.n.Bulk().Set(ctx, f.n.journal.bucket.entry(r.Key), stored.AppendEncode(nil, r), ttl).Err(); err != nil {
		return err
	}
	f.n.state.newest.stored(r.Key, r.Terms.Received, now)
	metrics.storesDone.Inc()
	return nil
}

// failIf ends a fill that the node has refused.
func (f *fill) failIf(err error) {
	if err == nil || !f.isAlive() {
		return
	}
	f.kill()
	metrics.stores.WithLabelValues("failed").Inc()
	if c := f.n.state.log().Check(zap.DebugLevel, "storing on a node"); c != nil {
		c.Write(zap.String("node", f.n.Name()), zap.Error(err))
	}
}

// end deletes the chunks of a fill that was given up. What the node does not
// delete now expires.
func (f *fill) end() {
	if f.isAlive() && f.manifest != nil {
		f.lock.letGo(wasStored)
		return
	}
	f.kill()
	f.lock.letGo(isLost)
	// What was sent last may lie there although it was not acknowledged.
	n := min(len(f.written())+chunkSize/f.size, maxChunks)
	for i := 0; i < n; i += forgetBatch {
		var keys []string
		for j := i; j < min(i+forgetBatch, n); j++ {
			keys = append(keys, f.key(j))
		}
		f.n.writes.push(write{forget: keys})
	}
}

// forgetBatch is how many keys are deleted by one command.
const forgetBatch = 512

// written returns the sums of the chunks that lie on the node.
func (f *fill) written() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sums
}
