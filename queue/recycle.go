package queue

import "sync"

// frameBuffers hold frames while their messages are on the way. What Enqueue
// takes of memory is mostly that.
var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxFrameBuffer is the largest buffer that is kept for other frames.
const maxFrameBuffer = 64 << 10

// recycle gives the buffer of a parcel's frame back, when nobody can still read
// it: what is in, by one command at the first try, was sent whole and answered. In
// all other cases somebody may be sending it, who was left alone with it, and the
// buffer is the garbage collector's.
func (c *Client) recycle(p *parcel) {
	if p.receipt.Err != nil || !p.plain || len(p.tried) > 0 || c.asksMore() || cap(p.frame) > maxFrameBuffer {
		return
	}
	*p.buffer = p.frame
	p.frame = nil
	frameBuffers.Put(p.buffer)
}
