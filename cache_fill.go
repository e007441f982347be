package fluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-fluster/caddy-fluster/stored"
)

// A fill puts a long body on a node in chunks while it comes from the origin,
// and behind them the manifest that tells of them.
//
//   - The manifest is written last, when every chunk was acknowledged. Whatever
//     breaks off before that leaves nothing that anybody would read.
//   - The names of the chunks hold a token that is random for each fill, so that
//     two fills of one key never mix.
//   - No chunk expires before its manifest.
//   - The bytes that all fills hold are at most maxFilling.
//   - The client waits for the node for at most the node's time-out in all. When
//     that is used up, the fill is given up and its chunks are deleted.
//
// add, finish, stop and giveUp belong to the goroutine of the forward, and when it
// is over to the flight; run has one of its own; those who follow the forward read.
type fill struct {
	all      *fills
	n        *node
	token    uint64
	lock     *lock         // on the forward, let go of when the body is stored or not
	size     int           // of a chunk
	until    time.Time     // when the response is of no use any more
	patience time.Duration // how long the forward may yet be held up
	buf      []byte        // the chunk that is being filled
	queue    chan []byte   // chunks for run; closed behind the last
	closed   bool
	manifest *stored.Response // set before queue is closed, if the body is whole
	last     []byte           // likewise: the chunk that ends it

	letGo func() // lets go of n, when nobody reads from there any more

	dead chan struct{} // closed when nothing will come of it
	die  sync.Once

	mu      sync.Mutex    // guards all below
	sums    []uint64      // of the chunks that lie on the node, in order
	over    bool          // no more will
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// fills are what all fills of a pool share.
type fills struct {
	room  *semaphore.Weighted
	count atomic.Int64 // fills under way

	mu    sync.Mutex       // guards all below
	spare map[int][][]byte // buffers for the next chunks, by size
	idle  int              // bytes of them
}

const (
	// maxFilling is how many bytes all fills of a pool hold together.
	maxFilling = 4 << 20
	// maxSpare is how many bytes of buffers are kept for the next chunks. (A
	// sync.Pool keeps as many again as are in use, until they were unused for two
	// collections.)
	maxSpare = 1 << 20
	// minChunk is the length of a chunk where many bodies come at one time.
	minChunk = 32 << 10
	// maxChunk is the longest chunk that is written, or believed.
	maxChunk = 1 << 20
	// maxChunks bounds the manifest, which has a sum for each chunk.
	maxChunks = 1 << 16
	// fillers is how many fills write to one node at one time, each chunkSize. If it
	// were all of them, each would take as much longer, and many bodies that come at
	// one time would have a node penalized that is only busy with them.
	fillers = 4
	// queued is how many chunks of one fill may wait for the node.
	queued = 4
)

func newFills() *fills {
	return &fills{room: semaphore.NewWeighted(maxFilling), spare: map[int][][]byte{}}
}

// chunkFor returns the length of the chunks of the n-th fill under way, so that
// each can hold some, for a body of this length, −1 if it is not known.
func chunkFor(n, length int64) int {
	size := int64(chunkSize)
	for size > minChunk && n*size > maxFilling/6 {
		size /= 2
	}
	for size < maxChunk && length/size >= maxChunks {
		size *= 2
	}
	return int(size)
}

// startFill begins to put a body on the node of the exchange's place; nil if it
// cannot be put there. length is −1 if it is not known.
func (x *exchange) startFill(ttl time.Duration, length int64) *fill {
	if !x.canFill() {
		return nil
	}
	n, all := x.place.node, x.pool.fills
	f := &fill{
		all: all, n: n, token: rand.Uint64(), until: time.Now().Add(ttl), patience: n.timeout,
		lock: x.place.lock.hand(), queue: make(chan []byte, queued), dead: make(chan struct{}), letGo: sync.OnceFunc(n.Hold()),
	}
	f.size = chunkFor(all.count.Add(1), length)
	if !x.pool.goLater(f.run) {
		all.count.Add(-1)
		f.letGo()
		f.lock.letGo(isLost)
		return nil
	}
	return f
}

// canFill reports whether there is a node to put a body on.
func (x *exchange) canFill() bool {
	return x.place.node != nil && x.place.ok && x.place.node.inUse()
}

// add takes the next part of the body. It returns false when nothing comes of
// the fill.
func (f *fill) add(p []byte) bool {
	for len(p) > 0 && f.isAlive() {
		if f.buf == nil && !f.begin() {
			return false
		}
		n := min(len(p), f.size-len(f.buf))
		f.buf = append(f.buf, p[:n]...)
		p = p[n:]
		if len(f.buf) == f.size && !f.handOver() {
			return false
		}
	}
	return f.isAlive()
}

// begin begins a chunk, when there is room for it.
func (f *fill) begin() bool {
	if !f.all.room.TryAcquire(int64(f.size)) {
		ctx, cancel := context.WithTimeout(context.Background(), f.patience)
		defer cancel()
		start := time.Now()
		err := f.all.room.Acquire(ctx, int64(f.size))
		f.patience -= time.Since(start)
		if err != nil {
			f.drop()
			return false
		}
	}
	f.buf = f.all.buffer(f.size)
	return true
}

// handOver gives a chunk to run.
func (f *fill) handOver() bool {
	select {
	case f.queue <- f.buf:
		f.buf = nil
		return true
	default:
	}
	start, timeout := time.Now(), time.NewTimer(f.patience)
	defer timeout.Stop()
	select {
	case f.queue <- f.buf:
		f.buf = nil
		f.patience -= time.Since(start)
		return true
	case <-f.dead:
	case <-timeout.C:
		f.drop()
	}
	return false
}

// drop gives the fill up as the node is too slow for it.
func (f *fill) drop() {
	metrics.stores.WithLabelValues("dropped").Inc()
	f.giveUp()
}

// finish ends a body that is whole. The response is what the manifest says,
// but for the chunks.
func (f *fill) finish(r *stored.Response) {
	if f.closed {
		return
	}
	f.manifest, f.last, f.buf = r, f.buf, nil
	f.stop()
}

// stop notes that no more of the body comes. What lies on the node stays there
// for those who read it, until giveUp.
func (f *fill) stop() {
	if f == nil || f.closed {
		return
	}
	f.closed = true
	if f.buf != nil {
		f.release(f.buf)
		f.buf = nil
	}
	close(f.queue)
}

// giveUp ends a body that is not stored. It may be called again, and after finish.
func (f *fill) giveUp() {
	if f == nil || f.manifest != nil {
		return
	}
	f.kill()
	f.stop()
}

// letNodeGo notes that nobody reads from the node any more what lies there.
func (f *fill) letNodeGo() {
	if f != nil {
		f.letGo()
	}
}

func (f *fill) kill() { f.die.Do(func() { close(f.dead) }) }

// isAlive reports whether the body may yet be stored, or is.
func (f *fill) isAlive() bool {
	if f == nil {
		return false
	}
	select {
	case <-f.dead:
		return false
	default:
		return true
	}
}

// read returns what the node has of the body from off on, to the end of a chunk.
// It waits for the chunk while it is on its way. It returns false when it is not
// to be had.
func (f *fill) read(ctx context.Context, off int64) ([]byte, bool) {
	if f == nil {
		return nil, false
	}
	i, at := int(off/int64(f.size)), int(off%int64(f.size))
	sum, ok := f.await(ctx, i)
	if !ok {
		return nil, false
	}
	values, err := f.n.readChunks(ctx, f.key(i))
	if err != nil && ctx.Err() == nil {
		values, err = f.n.readChunks(ctx, f.key(i)) // it may have been slow for once
	}
	if err != nil || values[0] == nil || len(values[0]) <= at || xxhash.Sum64(values[0]) != sum {
		return nil, false
	}
	return values[0][at:], true
}

// await waits until the node has chunk i, and returns its sum.
func (f *fill) await(ctx context.Context, i int) (sum uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i >= len(f.sums) {
		if f.over || ctx.Err() != nil || !f.isAlive() {
			return 0, false
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-f.dead:
		case <-ctx.Done():
		}
		f.mu.Lock()
	}
	return f.sums[i], true
}

func (f *fill) changedLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

func (f *fill) key(i int) string { return f.n.journal.bucket.chunk(f.token, i) }

// buffer returns an empty buffer for a chunk of this size. Where there is none,
// those of other sizes are of no use any more either.
func (a *fills) buffer(size int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.spare[size]
	if len(list) == 0 {
		clear(a.spare)
		a.idle = 0
		return make([]byte, 0, size)
	}
	last := len(list) - 1
	buf := list[last]
	list[last], a.spare[size] = nil, list[:last]
	a.idle -= size
	return buf
}

// release gives back the room of a chunk that nobody needs any more.
func (f *fill) release(chunk []byte) {
	a := f.all
	a.mu.Lock()
	if a.idle+f.size <= maxSpare {
		a.spare[f.size] = append(a.spare[f.size], chunk[:0])
		a.idle += f.size
	}
	a.mu.Unlock()
	a.room.Release(int64(f.size))
}
