package queue

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

const (
	// maxID is the longest id that a client may choose.
	maxID = 512
	// maxKept is how much of a body is kept in memory until it is in, so that
	// another node can take it should the first one fail. What is longer has one try.
	maxKept = 8 << 20
)

// A parcel is a message on its way in.
type parcel struct {
	m  *Message
	id string
	// bodyID is what its chunks are called until it is in: no other message has it.
	bodyID string
	frame  []byte  // with the body, or where that lies in chunks, without
	buffer *[]byte // that the frame is in
	body   string  // digest of the body, where one is asked for
	size   int64   // bytes of the body, if it lies in chunks
	plain  bool    // a plain XADD is all that it needs
	hash   uint64  // its order of the partitions

	kept    []byte    // the body, or as much of it as was read
	more    io.Reader // the rest of a body that is too long to be kept; nil: there is none
	sum     bodySum
	receipt Receipt

	partition      *partition    // where it is being put
	second         *partition    // that has its second copy
	secondWasThere bool          // of an earlier message with the same id
	strays         []*partition  // that did not say whether they have a second copy of it
	written        *partition    // where its chunks are
	asked          *partition    // that was last told to take it
	streamed       bool          // more was read: there is no second try
	unknown        bool          // the message may be where its chunks are
	began          time.Time     // when it was first tried
	spent          time.Duration // on chunks since then
	alone          bool          // goes in alone, as the backlog may be full
	tried          []trial
	err            error // why the last of them did not take it
	undurable      bool  // one took it, and could not make it durable
}

// pack reads the body and makes a parcel of m.
func (c *Client) pack(m *Message) (*parcel, error) {
	p := &parcel{m: m, id: m.ID, bodyID: newID()}
	if p.id == "" {
		p.id = p.bodyID
	}
	p.receipt.ID = p.id
	if len(m.ID) > maxID || !utf8.ValidString(m.ID) {
		return p, fmt.Errorf("%w: an id of %d bytes, or no UTF-8", ErrMessage, len(m.ID))
	}
	if m.Delay < 0 || m.Expire < 0 || m.DedupWindow < 0 {
		return p, fmt.Errorf("%w: a negative time", ErrMessage)
	}
	if err := c.readBody(p); err != nil {
		return p, err
	}
	if err := c.makeFrame(p); err != nil {
		return p, err
	}
	// What has an order goes where the others of its key are, whatever else tells it
	// apart: only there is known which of them are in flight.
	p.hash = c.hashOf(firstOf(m.OrderKey, m.DedupKey, m.ID))
	p.plain = m.ID == "" && m.DedupKey == "" && m.OrderKey == "" && m.Delay == 0 && m.Expire == 0 && !m.Track &&
		p.size == 0 && len(c.o.Destinations) == 1 && !c.backlog.bounded() && c.o.Copies == 1
	return p, nil
}

// firstOf returns the first that is not empty.
func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// readBody reads the body as far as it is kept.
func (c *Client) readBody(p *parcel) error {
	p.kept = p.m.Body
	if p.m.Reader != nil {
		limit := max(c.o.InlineBody, min(c.o.MaxBody, maxKept))
		kept, err := io.ReadAll(io.LimitReader(p.m.Reader, limit+1))
		if err != nil {
			return fmt.Errorf("queue: reading the body: %w", err)
		}
		p.kept = kept
		if int64(len(kept)) > limit {
			p.more = p.m.Reader
		}
	}
	if int64(len(p.kept)) > c.o.MaxBody {
		return ErrTooLarge
	}
	if p.needsDigest() {
		p.sum = newBodySum()
		p.sum.Write(p.kept)
		p.body = p.sum.String()
	}
	if int64(len(p.kept)) > c.o.InlineBody {
		p.size = int64(len(p.kept))
	}
	return nil
}

// tracked reports whether a record is kept of the message.
func (p *parcel) tracked() bool { return p.m.Track || p.m.ID != "" }

// needsDigest reports whether the body may have to be compared with another's.
func (p *parcel) needsDigest() bool { return p.m.ID != "" || p.m.DedupKey != "" }

// makeFrame makes the frame.
func (c *Client) makeFrame(p *parcel) (err error) {
	var inline []byte
	if p.size == 0 {
		inline = p.kept
	}
	p.buffer = frameBuffers.Get().(*[]byte)
	p.frame, err = appendNamedFrame((*p.buffer)[:0], p.id, p.m.Header, inline)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// length returns how many bytes it counts for.
func (p *parcel) length() int64 { return int64(len(p.frame)) + p.size }

// class returns the class that its lane has.
func (c *Client) class(m *Message) string {
	if slices.ContainsFunc(c.o.Classes, func(class Class) bool { return class.Name == m.Class }) {
		return m.Class
	}
	return ""
}

// sending returns the command that puts a parcel where it is being put.
// room is how much of the backlog may be there then. reload sends the whole script.
func (c *Client) sending(ctx context.Context, p *parcel, room room, reload bool) *sending {
	hide := c.hideFor(p)
	s := &sending{bytes: len(p.frame) + 256, plain: p.plain && hide == 0}
	s.large = s.bytes > largeSending
	if s.plain {
		s.args = [...]any{"xadd", p.partition.streams[lane(c.o.Destinations[0], c.class(p.m))], "nomkstream", "*", "i", p.id, dataField, p.frame}
		s.cmd[0] = once{redis.NewCmd(ctx, s.args[:]...)}
		s.cmds = s.cmd[:]
		return s
	}
	args := []any{"evalsha", enqueueScript.Hash()}
	if reload {
		args = []any{"eval", enqueueSource}
	}
	s.cmds = []redis.Cmder{once{redis.NewCmd(ctx, c.scriptArgs(args, p, room, hide)...)}}
	if hide > 0 {
		s.hidden = c.hiddenOf(p)
	}
	return s
}

// scriptArgs appends the number of keys, the keys and the arguments of
// enqueueScript.
func (c *Client) scriptArgs(dst []any, p *parcel, room room, hide time.Duration) []any {
	k, m := p.partition.keys, p.m
	keys := []any{k.delayed(), k.counters(), k.orders(), k.dedup(m.DedupKey)}
	all := p.partition.lanes()
	lanes, names := p.partition.laneKeys(all)
	for _, key := range lanes {
		keys = append(keys, key)
	}
	args := []any{p.id, firstOf(p.body, "-")}
	args = append(args, whole(m.DedupKey != "", m.DedupWindow), m.Delay.Milliseconds(), whole(m.Expire > 0, m.Expire), flag(p.tracked()))
	args = append(args, c.o.PerKey, room.messages, room.bytes, room.ageMS, c.counted(p), hide.Milliseconds(), p.size)
	args = append(args, p.copyRef(), group, p.partition.aged(all), p.frame)
	args = append(args, names...)
	for _, destination := range c.o.Destinations {
		rid, order := recordID(p.id, destination), orderHash(destination, m.OrderKey)
		keys = append(keys, k.record(rid), k.order(order))
		args = append(args, rid, lane(destination, c.class(m)), order)
	}
	for _, key := range c.chunkKeys(k, p) {
		keys = append(keys, key)
	}
	dst = append(dst, len(keys))
	dst = append(dst, keys...)
	return append(dst, args...)
}

// counted returns the bytes that each delivery of a parcel counts for.
func (c *Client) counted(p *parcel) int64 {
	if c.o.Backlog.Bytes == 0 {
		return 0
	}
	return p.length()
}

// whole returns d in milliseconds, at least one, or 0 if it is not on.
func whole(on bool, d time.Duration) int64 {
	if !on {
		return 0
	}
	return max(d.Milliseconds(), 1)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
