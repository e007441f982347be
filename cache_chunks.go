package fluster

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// A long body lies on a node in chunks. What of it is to be sent first is read
// before the head of the response is sent, so that a chunk that is missing or
// torn by then is a miss and no more. The rest is read while it is sent, one step
// ahead. A chunk that is missing then is the origin's to send
// (cache_continue.go): what the client gets is whole, or visibly broken off.

// readAhead is how many bytes of a body are read at one time, and before the
// first is sent.
const readAhead = 512 << 10

// opened is the beginning of what is sent of a body in chunks.
type opened struct {
	entry *entry
	from  int // number of the first chunk
	data  [][]byte
}

// open makes sure that what the request is answered with first is at hand. It
// returns false when it is not: the response is as good as not stored.
func (x *exchange) open(f *found) bool {
	if f.resp.Chunks == nil || x.r.Method == http.MethodHead || x.isBackground() {
		return true
	}
	header := f.header()
	if x.isConditional() && httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, f.resp.Status, header, x.now) {
		return true
	}
	if f.resp.Status != http.StatusOK || x.r.Header["Range"] == nil || !mayDivide(&f.resp.Terms) {
		return x.openAt(f, httpcache.Range{Length: f.resp.BodySize})
	}
	switch answer, ranges := httpcache.SelectRanges(x.r.Method, x.r.Header, header, f.resp.BodySize); answer {
	case httpcache.Unsatisfiable:
		return true
	case httpcache.PartialRanges:
		return x.openAt(f, ranges[0])
	}
	return x.openAt(f, httpcache.Range{Length: f.resp.BodySize})
}

// openAt reads the beginning of a part of the body.
func (x *exchange) openAt(f *found, r httpcache.Range) bool {
	if f.resp.Chunks == nil || r.Length == 0 {
		return true
	}
	if x.opened != nil && x.opened.entry == f.entry {
		return true
	}
	// As much as may be in memory at one time: what is sent, and what is read.
	if f.resp.BodySize > x.maxBody || f.resp.Chunks.Size > maxChunk || !x.hold(min(r.Length, 2*max(readAhead, int64(f.resp.Chunks.Size)))) {
		return false
	}
	c := f.chunks(r)
	x.keepOpen(c.node)
	data, err := x.readPatiently(c)
	if err == nil && data == nil {
		x.forgetTorn(f.entry)
	}
	if data == nil {
		x.seen = false // it may be there again, and is older than what comes now
		return false
	}
	x.opened = &opened{entry: f.entry, from: c.first, data: data}
	return true
}

// keepOpen keeps a node open for the request, also when a reload takes it out: what
// was begun is sent to its end.
func (x *exchange) keepOpen(n *node) {
	if x.reads == n {
		return
	}
	x.letNodeGo()
	x.reads, x.release = n, n.Hold()
}

func (x *exchange) letNodeGo() {
	if x.reads != nil {
		x.release()
		x.reads, x.release = nil, nil
	}
}

// readPatiently reads the next chunks, and gives up when nodes have cost the request
// what they may. The read goes on then until the node's own time-out: a node that
// does not answer is to blame for it.
func (x *exchange) readPatiently(c *chunkRun) ([][]byte, error) {
	if x.patience <= 0 {
		return nil, context.DeadlineExceeded
	}
	start := time.Now()
	defer func() { x.patience -= time.Since(start) }()
	type answer struct {
		data [][]byte
		err  error
	}
	answers := make(chan answer, 1)
	ctx := context.WithoutCancel(x.r.Context())
	if !x.pool.goLater(func(context.Context) {
		data, err := c.read(ctx)
		answers <- answer{data, err}
	}) {
		return nil, context.Canceled
	}
	timer := time.NewTimer(x.patience)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.data, a.err
	case <-timer.C:
		return nil, context.DeadlineExceeded
	case <-x.r.Context().Done():
		return nil, x.r.Context().Err()
	}
}

// forgetTorn deletes the manifest of a body that is not all there.
func (x *exchange) forgetTorn(e *entry) {
	metrics.garbage.WithLabelValues("chunk").Inc()
	e.node.writes.push(write{forget: []string{e.node.journal.bucket.entry(e.resp.Key)}})
}

// chunkRun is a run of chunks that is read in steps.
type chunkRun struct {
	node       *node
	resp       *stored.Response
	first, end int // numbers of the next chunk to be read, and of the one behind the last
}

// chunks returns the chunks that a part of the body lies in.
func (e *entry) chunks(r httpcache.Range) *chunkRun {
	size := int64(e.resp.Chunks.Size)
	return &chunkRun{node: e.node, resp: e.resp, first: int(r.Start / size), end: int((r.End()-1)/size) + 1}
}

// read reads the next chunks. Neither them nor an error means that one of them is
// missing or torn. The caller moves first on.
func (c *chunkRun) read(ctx context.Context) ([][]byte, error) {
	chunks := c.resp.Chunks
	var keys []string
	for i := c.first; i < min(c.first+max(1, readAhead/chunks.Size), c.end); i++ {
		keys = append(keys, c.node.journal.bucket.chunk(chunks.Token, i))
	}
	data, err := c.node.readChunks(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for i, chunk := range data {
		if chunk == nil || len(chunk) != c.lengthOf(c.first+i) || xxhash.Sum64(chunk) != chunks.Sums[c.first+i] {
			return nil, nil
		}
	}
	return data, nil
}

// readChunks reads chunks, which do not change once they are there. Who wants the same
// at the same time shares one read: a hundred who do would keep the node from all else.
func (n *node) readChunks(ctx context.Context, keys ...string) ([][]byte, error) {
	data, err, _ := n.reads.Do(strings.Join(keys, " "), func() (any, error) {
		return n.ReadBulk(context.WithoutCancel(ctx), keys...) // whoever begins it may go away
	})
	if err != nil {
		return nil, err
	}
	return data.([][]byte), ctx.Err()
}

// lengthOf returns the length of chunk i.
func (c *chunkRun) lengthOf(i int) int {
	size := c.resp.Chunks.Size
	return int(min(int64(size), c.resp.BodySize-int64(i)*int64(size)))
}

// send writes a part of a stored body to the client.
func (x *exchange) send(f *found, r httpcache.Range) {
	if r.Length == 0 || x.isBackground() {
		return
	}
	if f.resp.Chunks == nil {
		sending := x.sending
		x.sending = true
		x.corkFor(r.Length).hold()
		if _, err := x.w.Write(f.resp.Body[r.Start:r.End()]); err == nil { // a client that went away is nobody's fault
			x.sending = sending
		}
		return
	}
	if done := x.sendChunks(f.entry, r); done < r.Length {
		x.continueFrom(f.entry, httpcache.Range{Start: r.Start + done, Length: r.Length - done})
	}
}

// sendChunks sends a part of a body in chunks, and returns how much of it could
// be had; all of it if the client has gone.
func (x *exchange) sendChunks(e *entry, r httpcache.Range) (done int64) {
	c := e.chunks(r)
	x.keepOpen(c.node)
	var collected []byte
	if r.Length == e.resp.BodySize && x.mayCollect(e) {
		collected = make([]byte, 0, r.Length)
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	at := r.Start % int64(e.resp.Chunks.Size)
	for step := range x.steps(ctx, c) {
		for _, chunk := range step {
			part := chunk[at:]
			part = part[:min(int64(len(part)), r.Length-done)]
			at = 0
			if _, err := x.w.Write(part); err != nil {
				return r.Length
			}
			done += int64(len(part))
			if collected != nil {
				collected = append(collected, part...)
			}
		}
	}
	switch {
	case done < r.Length && x.r.Context().Err() != nil:
		return r.Length
	case done < r.Length:
		x.forgetTorn(e)
	case collected != nil:
		x.collect(e, collected)
	}
	return done
}

// steps yields the chunks of a run, each step read while the one before is
// sent. It ends early where one cannot be had.
func (x *exchange) steps(ctx context.Context, c *chunkRun) func(yield func([][]byte) bool) {
	return func(yield func([][]byte) bool) {
		var step [][]byte
		if o := x.opened; o != nil && o.entry.resp.Chunks.Token == c.resp.Chunks.Token && o.from <= c.first && c.first < o.from+len(o.data) {
			step = o.data[c.first-o.from:]
			step = step[:min(len(step), c.end-c.first)]
			c.first += len(step)
			x.opened = nil // it is needed once, and large
		}
		if c.first >= c.end {
			yield(step)
			return
		}
		next := make(chan [][]byte)
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(ctx)
		defer func() { cancel(); <-done }()
		go func() { // it ends before the range over steps does
			defer close(done)
			defer close(next)
			for c.first < c.end {
				data := c.readAgain(ctx)
				if data == nil {
					return
				}
				c.first += len(data)
				select {
				case next <- data:
				case <-ctx.Done():
					return
				}
			}
		}()
		for ok := true; ok; step, ok = <-next {
			if !yield(step) {
				return
			}
		}
	}
}

// readAgain is read for what the client waits for: a node that is slow for once
// is asked a second time.
func (c *chunkRun) readAgain(ctx context.Context) [][]byte {
	for range 2 {
		data, err := c.read(ctx)
		if err == nil || ctx.Err() != nil {
			return data
		}
	}
	return nil
}

// mayCollect reports whether a body that is read from the node for this client
// is to be kept in the near cache.
func (x *exchange) mayCollect(e *entry) bool {
	largest := x.pool.near.Load().Largest()
	return !e.soft && !e.doubted && !e.forOne && uint64(e.resp.BodySize) <= largest && x.hold(e.resp.BodySize)
}

// collect puts a response whose body was read whole into the near cache.
func (x *exchange) collect(e *entry, body []byte) {
	if x.overtaken(e) {
		return
	}
	resp := *e.resp
	resp.Body, resp.Chunks = slices.Clip(body), nil
	x.pool.near.Load().Set(resp.Key, e.as(&resp))
}

// load reads a whole body of at most most bytes into memory, and returns the
// entry that has it.
func (x *exchange) load(e *entry, most int64) (*entry, bool) {
	if e.resp.Chunks == nil {
		return e, true
	}
	if e.resp.BodySize > most || e.resp.Chunks.Size > maxChunk || !x.hold(e.resp.BodySize) {
		return nil, false
	}
	body := make([]byte, 0, min(e.resp.BodySize, readAhead)) // the rest when it has come
	c := e.chunks(httpcache.Range{Length: e.resp.BodySize})
	if o := x.opened; o != nil && o.entry.resp.Chunks == e.resp.Chunks && o.from == 0 {
		for _, p := range o.data {
			body = append(body, p...)
		}
		c.first = len(o.data)
	}
	for c.first < c.end {
		data, err := x.readPatiently(c)
		if err == nil && data == nil {
			x.forgetTorn(e)
		}
		if data == nil {
			return nil, false
		}
		for _, chunk := range data {
			body = append(body, chunk...)
		}
		c.first += len(data)
	}
	x.opened = nil
	resp := *e.resp
	resp.Body, resp.Chunks = body, nil
	return e.as(&resp), true
}
