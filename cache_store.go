package fluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"
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
}

// placeFor returns the place of a fill that begins now.
func (p *pool) placeFor(n *node, now time.Time) place {
	// The learn number first: a record that is learnt between the two reads is
	// then held against the fill, not forgotten.
	pl := place{node: n, learn: p.book.Learnt()}
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

// lookupNode looks on the key's node, within the node's time-out, and returns
// the response that the request selects and the list of variants, if it read
// that. All trouble is a miss. After a fast failure one further node is asked.
// known, if not empty, is the key of the variant that is selected.
func (x *exchange) lookupNode(known string) (e, list *entry) {
	p := x.pool
	sn, err := p.ring.Pick(x.key)
	if err != nil {
		return nil, nil
	}
	deadline := time.Now().Add(time.Duration(p.config.Timeout))
	for range 2 {
		x.node = p.byShard[sn]
		e, list, err = x.lookupOn(deadline, known)
		if err == nil || !time.Now().Before(deadline) {
			return e, list
		}
		if sn, err = p.ring.PickNext(x.key, sn); err != nil {
			break
		}
	}
	return nil, nil
}

// lookupOn looks on x.node. The first read ends within the node's time-out; the
// deadline is for what has to be read beside it.
func (x *exchange) lookupOn(deadline time.Time, known string) (e, list *entry, err error) {
	ctx, cancel := context.WithDeadline(x.r.Context(), deadline)
	defer cancel()
	key := x.key
	if known != "" {
		key = known
	}
	e, err = x.read(x.r.Context(), ctx, key)
	if err != nil || e == nil || e.variants == nil {
		return e, nil, err
	}
	list = e
	v := list.selectVariant(x.r.Header, x.now.UnixMilli())
	if v == nil {
		return nil, list, nil
	}
	e, err = x.read(ctx, ctx, v.Key)
	if e != nil && e.resp == nil {
		e = nil // a list under a variant's key: not ours
	}
	return e, list, err
}

// read reads what lies under one key together with the head of the journal, in
// one round trip, and judges it. What is dead, foreign or torn is a miss. more
// is for what else has to be read.
func (x *exchange) read(ctx, more context.Context, key string) (*entry, error) {
	n, b := x.node, x.node.journal.bucket
	sent, learn := time.Now(), x.pool.book.Learnt()
	values, err := n.Read(ctx, b.entry(key), b.head())
	if err != nil {
		return nil, err
	}
	head, ok := journal.ParseHead(string(values[1]))
	switch n.view.Observe(head, ok, sent) {
	case journal.Behind:
		if err := n.readToHead(more, 2); err != nil {
			return nil, err
		}
	case journal.Forked:
		n.ask()
		return nil, nil
	}
	if values[0] == nil {
		return nil, nil
	}
	resp, variants, err := stored.Decode(values[0])
	switch {
	case errors.Is(err, stored.ErrVersion):
		metrics.garbage.WithLabelValues("version").Inc()
		return nil, nil
	case err != nil:
		metrics.garbage.WithLabelValues("format").Inc()
		n.writes.push(write{forget: []string{b.entry(key)}})
		return nil, nil
	case variants != nil && variants.Key == key:
		return newList(variants), nil
	case resp == nil || resp.Key != key:
		metrics.garbage.WithLabelValues("key").Inc()
		return nil, nil
	}
	return x.admit(more, newEntry(resp, learn))
}

// admit asks the journal about a response that was read, and fetches the rest
// of its body.
func (x *exchange) admit(ctx context.Context, e *entry) (*entry, error) {
	switch x.node.view.ValidNode(journal.Stamp(e.resp.Stamp), x.selectors(e)) {
	case journal.Dead:
		return nil, nil
	case journal.Stale:
		e.soft = true
	}
	if e.resp.Chunks != nil {
		body, err := readChunks(ctx, x.node, e.resp, x.maxBody)
		if err != nil || body == nil {
			return nil, err
		}
		e.resp.Body, e.resp.Chunks = body, nil
	}
	return e, nil
}

// readChunks reads a body of at most most bytes that lies in chunks; nil without
// an error means that it is not all there, or not what was stored.
func readChunks(ctx context.Context, n *node, r *stored.Response, most int64) ([]byte, error) {
	c := r.Chunks
	if r.BodySize > most || c.Size > 1<<20 {
		return nil, nil
	}
	body := make([]byte, 0, min(r.BodySize, int64(2*c.Size)))
	const atOnce = 4
	for i := 0; i < c.Count; i += atOnce {
		var keys []string
		for j := i; j < min(i+atOnce, c.Count); j++ {
			keys = append(keys, n.journal.bucket.chunk(c.Token, j))
		}
		values, err := n.ReadBulk(ctx, keys...)
		if err != nil {
			return nil, err
		}
		for j, v := range values {
			if v == nil || xxhash.Sum64(v) != c.Sums[i+j] {
				return nil, nil
			}
			body = append(body, v...)
		}
	}
	if int64(len(body)) != r.BodySize {
		return nil, nil
	}
	return body, nil
}

// keep puts an entry in the near cache and, where the fill's node was proven
// when it began and is still in use, on the node.
func (p *pool) keep(pl place, key string, resp *stored.Response, ttl time.Duration) {
	resp.Stamp = stored.Stamp(pl.stamp)
	p.near.Load().Set(key, newEntry(resp, pl.learn))
	if pl.node == nil || !pl.ok || !pl.node.inUse() {
		return
	}
	pl.node.writes.push(encodeWrite(pl.node.journal.bucket, key, resp, ttl))
}

// keepVariants puts the list of a URL's variants where its responses lie.
func (p *pool) keepVariants(pl place, list *entry, ttl time.Duration) {
	v := list.variants
	p.near.Load().Set(v.Key, list)
	if pl.node == nil || !pl.ok || !pl.node.inUse() {
		return
	}
	pl.node.writes.push(write{values: []value{{pl.node.journal.bucket.entry(v.Key), stored.AppendEncodeVariants(nil, v)}}, ttl: ttl})
}

// value is a Redis key and what is to lie there.
type value struct {
	key  string
	data []byte
}

// write is one thing to be done on a node: values to be stored, in this order,
// or keys to be forgotten.
type write struct {
	values []value
	ttl    time.Duration
	forget []string
}

func (w write) size() int64 {
	var n int64
	for _, v := range w.values {
		n += int64(len(v.data)) + int64(len(v.key))
	}
	return n + 256
}

// encodeWrite makes the values of a response: one, or its chunks and then, when
// they all lie there, the manifest.
func encodeWrite(b bucket, key string, r *stored.Response, ttl time.Duration) write {
	w := write{ttl: ttl}
	if len(r.Body) <= inlineBody {
		w.values = []value{{b.entry(key), stored.AppendEncode(make([]byte, 0, len(r.Body)+1024), r)}}
		return w
	}
	manifest := *r
	c := &stored.Chunks{Token: rand.Uint64(), Size: chunkSize}
	for off := 0; off < len(r.Body); off += chunkSize {
		part := r.Body[off:min(off+chunkSize, len(r.Body))]
		w.values = append(w.values, value{b.chunk(c.Token, c.Count), part})
		c.Sums = append(c.Sums, xxhash.Sum64(part))
		c.Count++
	}
	manifest.Body, manifest.Chunks, manifest.BodySize = nil, c, int64(len(r.Body))
	w.values = append(w.values, value{b.entry(key), stored.AppendEncode(nil, &manifest)})
	return w
}

// write is the writer: it stores on the node what the requests have put in its
// queue, so that no request waits for that.
func (n *node) write(ctx context.Context) {
	for {
		w, ok := n.writes.pop(ctx)
		if !ok {
			return
		}
		if !n.inUse() {
			metrics.stores.WithLabelValues("dropped").Inc()
			continue
		}
		if err := n.perform(ctx, w); err != nil {
			metrics.stores.WithLabelValues("failed").Inc()
			if c := n.state.log().Check(zap.DebugLevel, "storing on a node"); c != nil {
				c.Write(zap.String("node", n.Name()), zap.Error(err))
			}
			continue
		}
		metrics.stores.WithLabelValues("stored").Inc()
	}
}

// perform does one write.
func (n *node) perform(ctx context.Context, w write) error {
	ctx = n.With(ctx)
	if len(w.forget) > 0 {
		return n.Bulk().Unlink(ctx, w.forget...).Err()
	}
	for i, v := range w.values {
		ttl := w.ttl
		if i < len(w.values)-1 {
			ttl += time.Minute // no manifest may outlive its chunks
		}
		if err := n.Bulk().Set(ctx, v.key, v.data, ttl).Err(); err != nil {
			return err
		}
	}
	return nil
}
