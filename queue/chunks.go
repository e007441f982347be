package queue

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// chunkSize is how much of a body lies in one key.
	chunkSize = 256 << 10
	// maxChunked is the longest body that an entry is believed to have.
	maxChunked = 1 << 34
	// chunkTries is how often it is tried to read one.
	chunkTries = 3
	// chunkTTL is for how long a chunk lies on a node before its message is in.
	chunkTTL = 10 * time.Minute
)

// A bodySum adds up the digest of a body that comes in pieces.
type bodySum struct{ hash.Hash }

func newBodySum() bodySum { return bodySum{sha256.New()} }

// String returns the digest.
func (s bodySum) String() string { return encodeDigest(s.Sum(nil)) }

// putBody writes a body that does not lie in the frame where the message is to
// be. It says as try does whether that decides it.
func (c *Client) putBody(ctx context.Context, p *parcel) (over bool, err error) {
	if p.size == 0 || p.written == p.partition {
		return false, nil
	}
	began := time.Now()
	defer func() { p.spent += time.Since(began) }()
	c.unlinkBody(ctx, p) // what lies where the message is not to be
	if p.streamed {
		return true, fmt.Errorf("%w: a node failed in the middle of a long body", ErrNoNode)
	}
	p.written, p.unknown = p.partition, false
	n, size := 0, int64(0)
	for b := p.kept; len(b) > 0; n++ {
		piece := b[:min(chunkSize, len(b))]
		if p.more != nil && len(piece) < chunkSize {
			break // the rest comes with what follows
		}
		if err := c.putChunk(ctx, p, n, piece); err != nil {
			return false, err
		}
		b, size = b[len(piece):], size+int64(len(piece))
	}
	if p.more == nil {
		return false, nil
	}
	return c.stream(ctx, p, n, size)
}

// stream writes the rest of a body that was not kept, from chunk n on.
func (c *Client) stream(ctx context.Context, p *parcel, n int, size int64) (over bool, err error) {
	p.streamed = true
	first := p.kept[size:]
	piece := make([]byte, chunkSize)
	copied := copy(piece, first)
	for end := false; !end; n++ {
		var read int
		if read, end, err = readFull(piece[copied:], p.more); err != nil {
			return true, fmt.Errorf("queue: reading the body: %w", err)
		}
		if p.sum.Hash != nil {
			p.sum.Write(piece[copied : copied+read])
		}
		b := piece[:copied+read]
		copied = 0
		if size += int64(len(b)); size > c.o.MaxBody {
			return true, ErrTooLarge
		}
		if len(b) == 0 {
			break
		}
		p.size = size
		if err := c.putChunk(ctx, p, n, b); err != nil {
			return false, err
		}
	}
	p.size = size
	if p.sum.Hash != nil {
		p.body = p.sum.String()
	}
	return false, nil
}

// readFull reads until b is full, or r is at its end. io.ReadFull does not do: it says
// io.ErrUnexpectedEOF of a good end, as a connection that breaks off does of a bad one.
func readFull(b []byte, r io.Reader) (n int, end bool, err error) {
	for n < len(b) {
		read, err := r.Read(b[n:])
		n += read
		if err == io.EOF { //nolint:errorlint // as io.Reader has it: an error that wraps it is another one
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// putChunk writes a chunk, for each destination, where the message is to be.
func (c *Client) putChunk(ctx context.Context, p *parcel, n int, piece []byte) error {
	return p.partition.setChunks(ctx, c.recordIDs(p.bodyID), n, piece)
}

// setChunks writes the n-th chunk of several records.
func (p *partition) setChunks(ctx context.Context, rids []string, n int, piece []byte) error {
	ctx = context.WithoutCancel(ctx) // a torn connection would be taken for the node's
	pipe := p.bulk().Pipeline()
	for _, rid := range rids {
		pipe.Set(ctx, p.keys.chunk(rid, n), piece, chunkTTL)
	}
	cmds, err := pipe.Exec(p.with(ctx))
	p.reportAll(ctx, cmds, err)
	if err != nil {
		return fmt.Errorf("writing a chunk on node %q: %w", p.node.Name(), err)
	}
	return nil
}

// recordIDs returns the names of a message's deliveries.
func (c *Client) recordIDs(id string) []string {
	out := make([]string, len(c.o.Destinations))
	for i, destination := range c.o.Destinations {
		out[i] = recordID(id, destination)
	}
	return out
}

// chunkKeys returns the keys of all chunks of a parcel: as they are written, and
// then as they are called when it is in. Those are other names where the client
// chose the message's id, as that may be there already, with a body of its own.
func (c *Client) chunkKeys(k keys, p *parcel) (out []string) {
	for _, id := range []string{p.bodyID, p.id} {
		for _, rid := range c.recordIDs(id) {
			out = append(out, k.chunks(rid, p.size)...)
		}
	}
	return out
}

// unlinkBody removes the chunks that were written, unless they may belong to a
// message that is in. Those that it cannot reach go in time.
func (c *Client) unlinkBody(ctx context.Context, p *parcel) {
	if p.written == nil || p.unknown || !p.written.rest.takes() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	keys := c.chunkKeys(p.written.keys, p)
	pipe := p.written.bulk().Pipeline()
	for _, key := range keys[:len(keys)/2] { // one by one: they may be many
		pipe.Unlink(ctx, key)
	}
	cmds, err := pipe.Exec(p.written.with(ctx))
	p.written.reportAll(ctx, cmds, err)
	p.written = nil
}

// A chunkReader reads a body that lies in chunks. It holds one at a time. It may be
// closed while it is read: a transport still sends what an upstream has answered
// already. So Close ends ctx, and all else is the reader's.
type chunkReader struct {
	ctx       context.Context // ends when it is closed
	end       context.CancelFunc
	partition *partition
	rid       string
	size      int64 // that is still to come
	n         int   // the chunk that comes next
	piece     []byte
	err       error
}

// openChunks returns the body of a message that lies in chunks. What is missing
// is an error of Read.
func (c *Client) openChunks(p *partition, rid string, size int64) io.ReadCloser {
	ctx, cancel := context.WithCancel(context.Background())
	return &chunkReader{ctx: ctx, end: cancel, partition: p, rid: rid, size: size}
}

// Read reads as io.Reader does.
func (r *chunkReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, io.ErrClosedPipe
	}
	for len(r.piece) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.size == 0 {
			return 0, io.EOF
		}
		r.err = r.next()
	}
	n := copy(b, r.piece)
	r.piece = r.piece[n:]
	return n, nil
}

// next reads the next chunk. A node that is slow for a moment is asked again: of
// a long body there are many, and one that is late would make all of them vain.
func (r *chunkReader) next() error {
	p := r.partition
	var values [][]byte
	var err error
	for range chunkTries {
		values, err = p.node.ReadBulk(r.ctx, p.keys.chunk(r.rid, r.n))
		if p.report(r.ctx, err); err == nil || r.ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if len(values[0]) != int(min(r.size, chunkSize)) {
		return ErrTorn
	}
	r.piece = values[0]
	r.size -= int64(len(r.piece))
	r.n++
	return nil
}

// Close ends the reading.
func (r *chunkReader) Close() error {
	r.end()
	return nil
}

// Interface guards
var (
	_ io.ReadCloser = (*chunkReader)(nil)
	_ redis.Cmder   = once{}
)
