package queue

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// putSecondScript writes second copies: hidden until they are overdue.
//
//	KEYS[1]  seconds
//	KEYS[2]… for each its record; then the chunks, and how they are called when this is done
//	ARGV[1]  in how many ms they are overdue
//	ARGV[2]  what becomes of those that are there already: see thoseThere
//	ARGV[3]  for how many ms they may be delivered; 0: for ever
//	ARGV[4]  how many they are
//	ARGV[5]… for each: record id, lane, order hash or empty
//	…        names and values of the record that they have in common
//
// It returns how many were there already.
var putSecondScript = newWriteScript(luaNow + `
local n = tonumber(ARGV[4])
local is, there = {}, 0
for i = 1, n do
  is[i] = redis.call('EXISTS', KEYS[1+i])
  there = there + is[i]
end
if ARGV[2] == '1' and there > 0 then return there end
local chunks = (#KEYS - n - 1) / 2
for i = 2 + n, 1 + n + chunks do
  if redis.call('EXISTS', KEYS[i]) == 0 then return redis.error_reply('ERR a chunk of the body is gone') end
end
local t = now()
local function ms(n) return string.format('%.0f', n) end
for i = 1, n do
  local rid, lane, order = ARGV[2+3*i], ARGV[3+3*i], ARGV[4+3*i]
  if ARGV[2] == '0' or is[i] == 0 then
    if is[i] == 1 then -- Nothing stays of it, but what was promised.
      local promised = redis.call('HGET', KEYS[1+i], 'p')
      redis.call('HSET', KEYS[1+i], 'g', lane) -- a full node refuses that, and nothing is deleted
      redis.call('DEL', KEYS[1+i])
      if promised then redis.call('HSET', KEYS[1+i], 'p', promised) end
    end
    redis.call('HSET', KEYS[1+i], 'g', lane, 't', ms(t), unpack(ARGV, 5 + 3 * n))
    if order ~= '' then redis.call('HSET', KEYS[1+i], 'o', order) end
    if ARGV[3] ~= '0' then redis.call('HSET', KEYS[1+i], 'x', ms(t + ARGV[3])) end
    redis.call('ZADD', KEYS[1], ms(t + ARGV[1]), rid)
  end
end
for i = 2 + n, 1 + n + chunks do
  if KEYS[i] ~= KEYS[i+chunks] then redis.call('RENAME', KEYS[i], KEYS[i+chunks]) end
  redis.call('PERSIST', KEYS[i+chunks])
end
return there
`)

// thoseThere says what becomes of second copies that are there when they are to be
// written.
type thoseThere uint8

const (
	overwrite        thoseThere = iota // they become what is written
	asTheyAre                          // they stay, and nothing is written
	leaveWhatIsThere                   // they stay, and the others are written
)

// putSecond sees to it that another partition than the chosen one has a second
// copy, which knows that the first is there. It comes before the first: a second
// without a first is found out when it is overdue, a first without a second is not.
func (c *Client) putSecond(ctx context.Context, p *parcel) error {
	if c.o.Copies < 2 {
		return nil
	}
	if p.second != nil { // the first that it knows did not take it
		if c.writeSecond(ctx, p, p.second, carefulIf(p.secondWasThere)) == nil {
			return nil
		}
		c.dropSecond(ctx, p)
	}
	var tried []*partition
	machine := p.partition.machine(ctx)
	for ctx.Err() == nil && c.timeLeft(p) > 0 {
		second := c.pick(p.hash, func(other *partition) bool {
			return other == p.partition || p.triedAs(other) > answered || slices.Contains(tried, other) || other.machine(ctx) == machine
		})
		if second == nil {
			break
		}
		if c.writeSecond(ctx, p, second, carefulIf(p.m.ID != "")) == nil {
			return nil
		}
		tried = append(tried, second)
	}
	return fmt.Errorf("%w: no second node takes a copy", ErrDurability)
}

// carefulIf returns what is done where a copy of the same message may be there,
// which came before, and where none can be but the parcel's own.
func carefulIf(another bool) thoseThere {
	if another {
		return asTheyAre
	}
	return overwrite
}

// writeSecond writes the second copy.
func (c *Client) writeSecond(ctx context.Context, p *parcel, second *partition, there thoseThere) error {
	k, rids := second.keys, c.recordIDs(p.id)
	from := p.bodyID
	if there == overwrite {
		from = p.id // it is in, or that is the same
	}
	if err := c.copyBody(ctx, p, recordID(from, c.o.Destinations[0]), second); err != nil {
		return err
	}
	ctx, cancel := c.bound(ctx, p)
	defer cancel()
	keys := []string{k.seconds()}
	args := []any{c.o.overdueAfter(p.m.Delay).Milliseconds(), int(there), whole(p.m.Expire > 0, p.m.Expire), len(rids)}
	for i, destination := range c.o.Destinations {
		keys = append(keys, k.second(rids[i]))
		args = append(args, rids[i], lane(destination, c.class(p.m)), orderHash(destination, p.m.OrderKey))
	}
	keys = append(keys, c.chunkKeys(k, p)...)
	e := entry{id: p.id, counted: c.counted(p), size: p.size, tracked: p.tracked(), copy: p.partition.ref, frame: p.frame}
	args = e.fields(append(args, "u", firstOf(p.body, "-")))
	were, err := putSecondScript.run(ctx, second, keys, args...).Int()
	second.report(ctx, err)
	if err != nil {
		p.strayed(ctx, second, err)
		return fmt.Errorf("writing a second copy on node %q: %w", second.node.Name(), err)
	}
	p.second, p.secondWasThere = second, were > 0 && there == asTheyAre
	return nil
}

// copyBody writes the chunks of a body that lies in some on a second node. from is
// what they are called where they are.
func (c *Client) copyBody(ctx context.Context, p *parcel, from string, second *partition) error {
	if p.size == 0 {
		return nil
	}
	began := time.Now()
	defer func() { p.spent += time.Since(began) }()
	rids := c.recordIDs(p.bodyID)
	body := c.openChunks(p.written, from, p.size).(*chunkReader)
	defer body.Close() //nolint:errcheck // never fails
	for n := 0; body.size > 0; n++ {
		if err := body.next(); err != nil {
			return err
		}
		if err := second.setChunks(ctx, rids, n, body.piece); err != nil {
			return err
		}
	}
	return nil
}

// dropSecond removes the second copy of a parcel that is not in, or not there.
// One that cannot be reached is found out when it is overdue.
func (c *Client) dropSecond(ctx context.Context, p *parcel) {
	if p.second == nil || p.secondWasThere {
		return
	}
	p.strayed(ctx, p.second, c.dropSecondOn(ctx, p, p.second))
	p.second = nil
}

// dropSecondOn removes the second copy that a partition may have of a parcel.
func (c *Client) dropSecondOn(ctx context.Context, p *parcel, on *partition) error {
	k, rids := on.keys, c.recordIDs(p.id)
	keys, args, chunks := []string{k.seconds()}, []any{}, []string{}
	for _, rid := range rids {
		keys, args, chunks = append(keys, k.second(rid)), append(args, rid), append(chunks, k.chunks(rid, p.size)...)
	}
	err := dropSecondScript.run(ctx, on, append(keys, chunks...), args...).Err()
	on.report(ctx, err)
	return err
}

// strayed notes what the writing or the removal of a second copy ended with: where there
// was no answer, it may be there, and nobody tells it when the message is done. One
// with the id of a client's choice is safe from that: its record says for longer that it is done.
func (p *parcel) strayed(ctx context.Context, on *partition, err error) {
	if err == nil || connectionError(err) == nil || judge(ctx, err) == broken || p.m.ID != "" || slices.Contains(p.strays, on) {
		return
	}
	p.strays = append(p.strays, on)
}

// dropStray removes a second copy that may be where the message itself is to be. When
// that is done it would be taken for one whose first is lost, by then without its body.
func (c *Client) dropStray(ctx context.Context, p *parcel) error {
	if !slices.Contains(p.strays, p.partition) {
		return nil
	}
	ctx, cancel := c.bound(ctx, p)
	defer cancel()
	if err := c.dropSecondOn(ctx, p, p.partition); err != nil {
		return err
	}
	p.strays = slices.DeleteFunc(p.strays, func(on *partition) bool { return on == p.partition })
	return nil
}

// strayMark stands at the end of the ref of the partition that has a message's second copy,
// where another one may have one too, which asks when it is overdue.
const strayMark = "?"

// copyRef returns what a message is to know of its second copy; empty: it has none.
func (p *parcel) copyRef() string {
	switch {
	case p.second == nil:
		return ""
	case len(p.strays) > 0:
		return p.second.ref + strayMark
	}
	return p.second.ref
}
