package fluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

const (
	// inlineBody is the longest body that lies in one value with its header.
	// Longer ones lie in chunks, which are read by a client of their own, so that
	// no small reply waits behind a large one.
	inlineBody = 64 << 10
	// chunkSize is the length of a chunk.
	chunkSize = 256 << 10
)

// place is where the responses of one key lie, and the stamp that a fill for it
// is to carry. Without a node they lie in the near cache alone.
type place struct {
	node  *node
	stamp journal.Stamp
	ok    bool // the node was proven when the stamp was taken
	learn uint64
	lock  *lock // on the forward, with `collapse cluster`

	sent, came uint64 // of the entry that is made of the response
}

// placeFor returns the place of a fill that begins now.
func (p *pool) placeFor(n *node, now time.Time) place {
	// The learn number first: a record that is learnt between the two reads is
	// then held against the fill, not forgotten.
	pl := place{node: n, learn: p.book.Learnt(), sent: p.asks.Add(1)}
	if n != nil {
		pl.stamp, pl.ok = n.view.Stamp(now)
	}
	return pl
}

// pick returns the node of a key that is in use, or nil.
func (p *pool) pick(key string) *node {
	sn, err := p.ring.Pick(key)
	if err != nil {
		return nil
	}
	return p.byShard[sn]
}

// keepOnNode stores a response, which has the fill's stamp, on the node, if that was
// proven when the fill began and is still in use.
func (p *pool) keepOnNode(pl place, resp *stored.Response) {
	if pl.node == nil || !pl.ok || !pl.node.inUse() {
		return
	}
	w := encodeWrite(pl.node.journal.bucket, resp.Key, resp, keepFor(&resp.Terms, time.Now()))
	w.key, w.received = resp.Key, resp.Terms.Received
	w.lock = pl.lock.hand()
	pl.node.writes.push(w)
}

// keepVariants puts the list of a URL's variants where its responses lie.
// received is when the response was that has made it anew.
func (p *pool) keepVariants(pl place, list *entry, received int64, ttl time.Duration) {
	v := list.variants
	p.near.Load().Set(v.Key, list)
	if pl.node == nil || !pl.ok || !pl.node.inUse() {
		return
	}
	pl.node.writes.push(write{values: []value{{key: pl.node.journal.bucket.entry(v.Key), data: stored.AppendEncodeVariants(nil, v)}}, ttl: ttl, short: true, key: v.Key, received: received})
}

// value is a Redis key and what is to lie there: data, or resp once it is encoded.
type value struct {
	key  string
	data []byte
	resp *stored.Response // read only; it is encoded when it is written
}

// size returns about how many bytes of memory it takes until it is written.
func (v value) size() int64 {
	n := len(v.key) + len(v.data)
	if v.resp != nil {
		n += v.resp.Size()
	}
	return int64(n)
}

// write is one thing to be done on a node: values to be stored, in this order,
// maybe for others that are there already, or keys to be forgotten.
type write struct {
	renew  []string // keys that are to live for ttl from now on; if one is gone, nothing is stored
	values []value
	ttl    time.Duration
	forget []string
	short  bool  // it is one value that lies in one piece, and may go in a batch
	lock   *lock // let go of when it is done

	key      string // the cache key of a response, or of a URL whose variants are listed
	received int64  // when the response was
	queued   time.Time
	bytes    int64 // what it takes of the queue's bound
}

// isLate reports whether w has waited for so long that others may have stored
// what is newer, and have forgotten it. To forget is never too late.
func (w write) isLate() bool { return len(w.forget) == 0 && time.Since(w.queued) > storeWithin }

// dropped notes that w is not done.
func (w write) dropped() {
	w.lock.letGo(isLost)
	if len(w.forget) == 0 {
		metrics.stores.WithLabelValues("dropped").Inc()
	}
}

func (w write) size() int64 {
	var n int64
	for _, v := range w.values {
		n += v.size()
	}
	n += 64 * int64(len(w.renew)+len(w.forget))
	return n + 256
}

// encodeWrite makes the values of a response: one, or its chunks and then, when
// they all lie there, the manifest.
func encodeWrite(b bucket, key string, r *stored.Response, ttl time.Duration) write {
	w := write{ttl: ttl}
	if len(r.Body) <= inlineBody {
		w.values = []value{{key: b.entry(key), resp: r}}
		w.short = true
		return w
	}
	manifest := *r
	c := &stored.Chunks{Token: rand.Uint64(), Size: chunkSize}
	for off := 0; off < len(r.Body); off += chunkSize {
		part := r.Body[off:min(off+chunkSize, len(r.Body))]
		w.values = append(w.values, value{key: b.chunk(c.Token, c.Count), data: part})
		c.Sums = append(c.Sums, xxhash.Sum64(part))
		c.Count++
	}
	manifest.Body, manifest.Chunks, manifest.BodySize = nil, c, int64(len(r.Body))
	w.values = append(w.values, value{key: b.entry(key), data: stored.AppendEncode(nil, &manifest)})
	return w
}

// encodeRenewal makes the manifest of a response whose chunks lie there, and are
// to live as long as it.
func encodeRenewal(b bucket, r *stored.Response, ttl time.Duration) write {
	w := write{ttl: ttl, values: []value{{key: b.entry(r.Key), data: stored.AppendEncode(nil, r)}}}
	for i := range r.Chunks.Count {
		w.renew = append(w.renew, b.chunk(r.Chunks.Token, i))
	}
	return w
}

// write is the writer: it stores on the node what the requests have put in its
// queue, so that no request waits for that.
func (n *node) write(ctx context.Context) {
	defer n.writes.close()
	var room []write
	for {
		clear(room)
		w, ok := n.writes.pop(ctx)
		if !ok {
			return
		}
		room = n.writes.popMore(append(room[:0], w))
		batch := slices.DeleteFunc(room, func(w write) bool {
			drop := !n.inUse() || w.isLate()
			if drop {
				w.dropped()
			}
			return drop
		})
		switch len(batch) {
		case 0:
		case 1:
			n.stored(batch[0], n.perform(ctx, batch[0]))
		default:
			n.performAll(ctx, batch)
		}
		n.writes.gather(ctx, len(batch))
	}
}

// stored takes note of how a write has ended.
func (n *node) stored(w write, err error) {
	if len(w.forget) > 0 {
		return // nothing was to be stored
	}
	if err == nil {
		w.lock.letGo(wasStored)
		metrics.storesDone.Inc()
		if w.key != "" {
			n.state.newest.stored(w.key, w.received, time.Now())
		}
		return
	}
	w.lock.letGo(isLost)
	metrics.stores.WithLabelValues("failed").Inc()
	if c := n.state.log().Check(zap.DebugLevel, "storing on a node"); c != nil {
		c.Write(zap.String("node", n.Name()), zap.Error(err))
	}
}

// perform does one write.
func (n *node) perform(ctx context.Context, w write) error {
	ctx = n.With(ctx)
	if len(w.forget) > 0 {
		return n.Bulk().Unlink(ctx, w.forget...).Err()
	}
	if err := n.renew(ctx, w); err != nil {
		return err
	}
	buf := encodings.Get().(*[]byte)
	defer encodings.Put(buf)
	*buf = (*buf)[:0]
	for i, v := range w.values {
		ttl := w.ttl
		if i < len(w.values)-1 {
			ttl += time.Minute // no manifest may outlive its chunks
		}
		if err := n.Bulk().Set(ctx, v.key, v.appendTo(buf), ttl).Err(); err != nil {
			return err
		}
	}
	return nil
}

// errNotKept ends a store that is of no use any more.
var errNotKept = errors.New("fluster: what was to be stored has no use, or no place")

// renew lets keys live on.
func (n *node) renew(ctx context.Context, w write) error {
	for keys := range slices.Chunk(w.renew, forgetBatch) {
		cmds, err := n.Bulk().Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.PExpire(ctx, key, w.ttl+time.Minute)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, cmd := range cmds {
			if there, ok := cmd.(*redis.BoolCmd); ok && !there.Val() {
				return errNotKept
			}
		}
	}
	return nil
}
