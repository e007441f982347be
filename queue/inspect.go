package queue

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Count is how many messages a partition has.
type Count struct {
	Node      string
	Partition int
	Ready     int64
	InFlight  int64
	Delayed   int64
	Dead      int64
	Oldest    time.Duration    // age of the oldest message that is ready; 0: none
	Abandoned map[string]int64 // how many of them are ready or in flight for destinations that the options do not have
	Err       error            // why the node does not tell
}

// An Info is what is known of a message.
type Info struct {
	ID          string
	Destination string
	Class       string
	State       string // ready, in_flight, delayed, done, dead
	Node        string
	Attempts    int
	LastStatus  int
	LastError   string
	Reason      string // why it is a dead letter
	AcceptedAt  time.Time
	DiedAt      time.Time // zero unless dead
	DueAt       time.Time // zero unless delayed
	Header      map[string]string
	Body        []byte // as much as lies in the message itself
	Size        int64
	Response    *Response // of a done one, while it is kept

	ref, recordID string // where it lies
	chunked       int64  // bytes of its body in chunks
}

// countsScript counts all that a partition has.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  counters
//	KEYS[3]  dead letters
//	KEYS[4]… streams of all lanes
//	ARGV[1]  group
//	ARGV[2]  the consumer that stands for nobody: what it has is ready
//
// It returns how many are ready or in flight, in flight, delayed, and dead, and the age of the oldest that is ready, in ms.
var countsScript = newScript(luaNow + luaCount + `
local streams, pending = {}, 0
for i = 4, #KEYS do
  streams[i-3] = KEYS[i]
  local p = redis.pcall('XPENDING', KEYS[i], ARGV[1])
  if not p.err and p[1] > 0 then
    pending = pending + p[1]
    for _, c in ipairs(p[4]) do
      if c[1] == ARGV[2] then pending = pending - c[2] end
    end
  end
end
local all, _, age = count(KEYS[1], KEYS[2], streams, #streams, ARGV[1], now())
local delayed = redis.call('ZCARD', KEYS[1])
return {all - delayed, pending, delayed, redis.call('ZCARD', KEYS[3]), age}
`)

// Counts asks each partition how many messages it has. Partitions that cannot
// tell have Err set.
func (c *Client) Counts(ctx context.Context) []Count {
	out := make([]Count, len(c.partitions))
	for i, p := range c.partitions {
		out[i] = Count{Node: p.node.Name(), Partition: p.number}
	}
	_ = c.onAll(func(p *partition) error {
		n := &out[p.index]
		if err := p.askLanes(ctx); err != nil {
			p.report(ctx, err)
			n.Err = err
			return err
		}
		keys := append([]string{p.keys.delayed(), p.keys.counters(), p.keys.dead()}, p.laneStreams(p.lanes())...)
		res, err := countsScript.run(ctx, p, keys, group, nobodyName).Int64Slice()
		p.report(ctx, err)
		if err == nil && len(res) != 5 {
			err = errors.New("queue: the script answers something else")
		}
		if err != nil {
			n.Err = err
			return err
		}
		// What is pending and gone from the stream is no message.
		n.InFlight = min(res[1], res[0])
		n.Ready, n.Delayed, n.Dead = res[0]-n.InFlight, res[2], res[3]
		n.Oldest = time.Duration(res[4]) * time.Millisecond
		n.Abandoned, n.Err = p.abandoned(ctx)
		return n.Err
	}, "counting")
	return out
}

// infoOf returns what an entry of a lane, or a record, says.
func (p *partition) infoOf(laneName, rid string, e *entry) Info {
	i := Info{
		ID: e.id, State: stateReady, Node: p.node.Name(), Attempts: e.attempts,
		LastStatus: e.lastStatus, LastError: e.lastError, AcceptedAt: time.UnixMilli(e.accepted),
		ref: p.ref, recordID: rid, chunked: e.size,
	}
	i.Destination, i.Class = splitLane(laneName)
	header, body, err := parseFrame(e.frame)
	if err != nil {
		header, body = nil, e.frame
	}
	i.Header, i.Body, i.Size = header, body, int64(len(body))
	if e.size > 0 {
		i.Body, i.Size = nil, e.size
	}
	return i
}

// infoOfRecord returns what a record says; at is when it died, or is due.
func (p *partition) infoOfRecord(rid string, r *record, at time.Time) Info {
	i := p.infoOf(r.lane, rid, &r.entry)
	i.State, i.Reason = r.state, r.reason
	if i.ID == "" {
		i.ID, _ = splitRecordID(rid)
	}
	switch r.state {
	case stateDead:
		i.DiedAt = at
	case stateDelayed:
		i.DueAt = at
	}
	if r.response != nil {
		if header, body, err := parseFrame(r.response); err == nil {
			i.Response = &Response{Header: header, Body: body}
		}
	}
	return i
}

// entryInfo returns what an entry of a stream says, whatever it is.
func (p *partition) entryInfo(laneName string, m redis.XMessage) Info {
	e, err := parseEntry(m.Values)
	if err != nil && e.frame == nil {
		raw, _ := m.Values[dataField].(string)
		e.frame = []byte(raw)
	}
	p.nameEntry(&e, laneName, m.ID)
	destination, _ := splitLane(laneName)
	return p.infoOf(laneName, recordID(e.id, destination), &e)
}

// nameEntry fills in what the producer of an entry left out: its id, and when
// it came.
func (p *partition) nameEntry(e *entry, laneName, entryID string) {
	if e.id == "" {
		// That of the entry is its own on this lane alone.
		e.id = entryID + "-" + digest(p.ref, laneName)[:6]
	}
	if e.accepted == 0 {
		e.accepted = entryMillis(entryID)
	}
}

// Peek returns up to n messages that are ready or in flight, the oldest first.
func (c *Client) Peek(ctx context.Context, n int) ([]Info, error) {
	found := make([][]Info, len(c.partitions))
	err := c.onAll(func(p *partition) (err error) {
		found[p.index], err = c.peekOn(ctx, p, n)
		return err
	}, "peeking")
	all := slices.Concat(found...)
	slices.SortStableFunc(all, func(a, b Info) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return all[:min(n, len(all))], err
}

func (c *Client) peekOn(ctx context.Context, p *partition, n int) (out []Info, err error) {
	if err := p.askLanes(ctx); err != nil {
		return nil, err
	}
	for _, name := range p.lanes() {
		key := p.laneStream(name)
		ms, err := p.client().XRangeN(p.with(ctx), key, "-", "+", int64(n)).Result()
		if err != nil {
			return out, err
		}
		if len(ms) == 0 {
			continue
		}
		inFlight, err := p.pendingCounts(ctx, key, ms[0].ID, ms[len(ms)-1].ID, len(ms))
		if err != nil {
			return out, err
		}
		for _, m := range ms {
			i := p.entryInfo(name, m)
			i.count(inFlight, m.ID)
			out = append(out, i)
		}
	}
	return out, nil
}

// count fills in what is known of an entry by its being pending.
func (i *Info) count(pending map[string]redis.XPendingExt, entryID string) {
	if p, ok := pending[entryID]; ok && p.Consumer != nobodyName {
		i.State = stateInFlight
		i.Attempts += int(p.RetryCount)
	} else if ok {
		i.Attempts += int(p.RetryCount)
	}
}

// pendingCounts returns what is pending between two entries, by entry.
func (p *partition) pendingCounts(ctx context.Context, key, first, last string, n int) (map[string]redis.XPendingExt, error) {
	pending, err := p.client().XPendingExt(p.with(ctx), &redis.XPendingExtArgs{
		Stream: key, Group: group, Start: first, End: last, Count: int64(n),
	}).Result()
	if err != nil && !isNoGroup(err) && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	out := make(map[string]redis.XPendingExt, len(pending))
	for _, x := range pending {
		out[x.ID] = x
	}
	return out, nil
}

// Open returns the body of a dead letter or other message that Find, Peek or Dead
// returned.
func (c *Client) Open(ctx context.Context, i Info) io.ReadCloser {
	p := c.byRef(i.ref)
	if i.chunked == 0 || p == nil {
		return io.NopCloser(strings.NewReader(string(i.Body)))
	}
	return c.openChunks(p, i.recordID, i.chunked)
}

// oldestFirst orders by when a message died, then by where it lies.
func oldestFirst(a, b Info) int {
	return cmp.Or(a.DiedAt.Compare(b.DiedAt), strings.Compare(a.ref, b.ref), strings.Compare(a.recordID, b.recordID))
}
