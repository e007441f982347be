package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// findPage is how many entries one command reads in a search.
	findPage = 500
	// findRounds is how often a message is looked for that is not found.
	findRounds = 3
)

// Find returns what is known of a message, one Info for each destination that
// knows it, or ErrNotFound. A message that is not tracked is looked for in the
// whole queue. Where nothing was found and some partition did not answer, the
// error is ErrNoNode.
func (c *Client) Find(ctx context.Context, id string) ([]Info, error) {
	var out []Info
	err := ErrNotFound
	// It may move from where is still to be looked to where was looked already.
	for range findRounds {
		for _, find := range []func(context.Context, *partition, string) ([]Info, error){c.findRecords, c.search} {
			out, err = c.gather(func(p *partition) ([]Info, error) { return find(ctx, p, id) })
			if !errors.Is(err, ErrNotFound) {
				return out, err
			}
		}
	}
	return nil, err
}

// FindTracked is Find for tracked messages, and for those that are delayed or dead:
// it never looks through the queue.
func (c *Client) FindTracked(ctx context.Context, id string) ([]Info, error) {
	return c.gather(func(p *partition) ([]Info, error) { return c.findRecords(ctx, p, id) })
}

// gather collects what partitions find.
func (c *Client) gather(find func(p *partition) ([]Info, error)) (out []Info, err error) {
	var mu sync.Mutex
	err = c.onAll(func(p *partition) error {
		found, err := find(p)
		mu.Lock()
		defer mu.Unlock()
		out = append(out, found...)
		return err
	}, "looking for a message")
	switch {
	case len(out) > 0:
		return out, nil
	case err != nil:
		return nil, err
	}
	return nil, ErrNotFound
}

// findRecords looks for the records of a message.
func (c *Client) findRecords(ctx context.Context, p *partition, id string) (out []Info, err error) {
	var rids []string
	for _, d := range p.destinations() {
		rids = append(rids, recordID(id, d))
	}
	return c.recordsOf(ctx, p, rids)
}

// recordsOf returns what records say, of those that there are.
func (c *Client) recordsOf(ctx context.Context, p *partition, rids []string) (out []Info, err error) {
	pipe := p.client().Pipeline()
	type query struct {
		rid       string
		record    *redis.MapStringStringCmd
		due, died *redis.FloatCmd
	}
	var queries []query
	for _, rid := range rids {
		q := query{rid: rid}
		q.record = pipe.HGetAll(p.with(ctx), p.keys.record(q.rid))
		q.due = pipe.ZScore(p.with(ctx), p.keys.delayed(), q.rid)
		q.died = pipe.ZScore(p.with(ctx), p.keys.dead(), q.rid)
		queries = append(queries, q)
	}
	if err := readAll(p.with(ctx), pipe); err != nil {
		return nil, err
	}
	for _, q := range queries {
		if len(q.record.Val()) == 0 {
			continue
		}
		r, _ := parseRecord(q.record.Val())
		at := q.due.Val()
		if r.state == stateDead {
			at = q.died.Val()
		}
		i := p.infoOfRecord(q.rid, &r, time.UnixMilli(int64(at)))
		if r.state == stateReady {
			if err := c.whileReady(ctx, p, &r, &i); err != nil {
				return out, err
			}
		}
		out = append(out, i)
	}
	return out, nil
}

// whileReady fills in what the entry in the stream says of a tracked message.
func (c *Client) whileReady(ctx context.Context, p *partition, r *record, i *Info) error {
	if r.queued == "" {
		return nil // it waits for its order key
	}
	key := p.keys.stream(r.lane)
	ms, err := p.client().XRangeN(p.with(ctx), key, r.queued, r.queued, 1).Result()
	if err != nil || len(ms) == 0 {
		return err
	}
	pending, err := p.pendingCounts(ctx, key, r.queued, r.queued, 1)
	if err != nil {
		return err
	}
	*i = p.entryInfo(r.lane, ms[0])
	i.count(pending, r.queued)
	return nil
}

// search looks for a message in all streams and lists of a partition.
func (c *Client) search(ctx context.Context, p *partition, id string) (out []Info, err error) {
	if err := p.askLanes(ctx); err != nil {
		return nil, err
	}
	for _, name := range p.lanes() {
		key := p.laneStream(name)
		for from := "-"; ; {
			ms, err := p.client().XRangeN(p.with(ctx), key, from, "+", findPage).Result()
			if err != nil {
				return out, err
			}
			for _, m := range ms {
				// Most are others', which are not worth to be read whole.
				if got, ok := m.Values["i"].(string); ok && got != id {
					continue
				}
				if i := p.entryInfo(name, m); i.ID == id {
					pending, err := p.pendingCounts(ctx, key, m.ID, m.ID, 1)
					if err != nil {
						return out, err
					}
					i.count(pending, m.ID)
					out = append(out, i)
				}
			}
			if len(ms) < findPage {
				break
			}
			from = "(" + ms[len(ms)-1].ID
		}
	}
	waiting, err := c.searchWaiting(ctx, p, id)
	out = append(out, waiting...)
	if err != nil || len(out) > 0 {
		return out, err
	}
	others, err := c.otherRecordIDs(ctx, p, []string{id})
	if err != nil || len(others) == 0 {
		return nil, err
	}
	return c.recordsOf(ctx, p, others)
}

// searchWaiting looks for a message among those that wait for their order key.
func (c *Client) searchWaiting(ctx context.Context, p *partition, id string) (out []Info, err error) {
	hashes, err := p.client().HKeys(p.with(ctx), p.keys.orders()).Result()
	if err != nil {
		return nil, err
	}
	for _, hash := range hashes {
		found, err := p.waitingEntry(ctx, hash, id)
		if err != nil {
			return out, err
		}
		if len(found) > 0 {
			name, _ := found[0].(string)
			e, _ := parseEntry(pairs(found[1:]))
			destination, _ := splitLane(name)
			out = append(out, p.infoOf(name, recordID(e.id, destination), &e))
		}
	}
	return out, nil
}

// waitingEntry returns the entry of a message in the list of an order key, with its lane
// first; nil if it is not there. Of a long list it asks for some at a time, the last
// ones first: what comes meanwhile moves none out of sight then, nor does what goes.
func (p *partition) waitingEntry(ctx context.Context, hash, id string) (entry []any, err error) {
	for last := -1; ; last -= findPage {
		res, err := waitingScript.run(ctx, p, []string{p.keys.order(hash)}, id, last, findPage).Slice()
		if err != nil || len(res) == 0 {
			return nil, err
		}
		if n, _ := res[0].(int64); len(res) > 1 || n < findPage {
			return res[1:], nil
		}
	}
}

// recordIDsOf returns what the messages with these ids may be called on a
// partition, for all destinations.
func (c *Client) recordIDsOf(ids []string) []string {
	var out []string
	for _, id := range ids {
		for _, d := range c.o.Destinations {
			out = append(out, recordID(id, d))
		}
	}
	return out
}

// otherRecordIDs returns which dead letters of a partition are of these messages, and for
// destinations that the options do not have.
func (c *Client) otherRecordIDs(ctx context.Context, p *partition, ids []string) (out []string, err error) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	for cursor := uint64(0); ; {
		var page []string // members and scores
		page, cursor, err = p.client().ZScan(p.with(ctx), p.keys.dead(), cursor, "", findPage).Result()
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(page); i += 2 {
			rid := page[i]
			id, destination := splitRecordID(rid)
			if !wanted[id] && wanted[rid] { // an id may have the sign that separates
				id, destination = rid, ""
			}
			if wanted[id] && !slices.Contains(c.o.Destinations, destination) {
				out = append(out, rid)
			}
		}
		if cursor == 0 {
			slices.Sort(out)
			return slices.Compact(out), nil // a scan may return one twice
		}
	}
}

// waitingScript looks for the entry of a message in a part of the list of an order key.
//
//	KEYS[1] the list
//	ARGV[1] id
//	ARGV[2] where the part ends: -1 is the end of the list
//	ARGV[3] how long it is
//
// It returns how many it has looked at, and what the entry says if it is among them.
var waitingScript = newScript(luaUnpack + `
local page = redis.call('LRANGE', KEYS[1], ARGV[2] - ARGV[3] + 1, ARGV[2])
for _, packed in ipairs(page) do
  local e = unpacked(packed) or {}
  for i = 2, #e, 2 do
    if e[i] == 'i' and e[i+1] == ARGV[1] then return {#page, unpack(e)} end
  end
end
return {#page}
`)

// pairs returns names and values as a map.
func pairs(flat []any) map[string]any {
	out := make(map[string]any, len(flat)/2)
	for i := 0; i+1 < len(flat); i += 2 {
		if name, ok := flat[i].(string); ok {
			out[name] = flat[i+1]
		}
	}
	return out
}
