package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Who is told of a message that is in already must be told the truth: with
// Options.Copies 2, that it is on two nodes. It may not be. An enqueuing whose
// first did not answer is refused in the end, and takes its second copy back; but
// the first may be there for all that, with its dedup key or its id.
//
//	1  A: second copy on b; first on a, which does not answer; nobody else takes it
//	2  A: 503, and the copy on b is dropped
//	3  a has the message. B: the same key, a: there is one
//	4  B: 202. What a loses now is lost
//
// So B sees to it, before it is told, that b has the copy, and notes there that
// it has been promised: A may come to its step 2 only then.

// promiseScript promises second copies, where they are.
//
//	KEYS second copies
//
// It returns a list of 1 for each that is there, 0 for each that is not.
var promiseScript = newScript(`
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = redis.call('EXISTS', key)
  if out[i] == 1 then redis.call('HSET', key, 'p', '1') end
end
return out
`)

// dropSecondScript deletes second copies, but for those that were promised.
//
//	KEYS[1]  seconds
//	KEYS[2]… the copies, then the chunks of each
//	ARGV[1]… record ids
var dropSecondScript = newScript(`
local chunks = (#KEYS - 1 - #ARGV) / #ARGV
for i, rid in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1+i], 'p') == 0 then
    redis.call('UNLINK', KEYS[1+i])
    redis.call('ZREM', KEYS[1], rid)
    for j = 1, chunks do redis.call('UNLINK', KEYS[1 + #ARGV + (i - 1) * chunks + j]) end
  end
end
return 1
`)

// errTakenOut: what was in already is in no more, as it could not be made durable.
var errTakenOut = fmt.Errorf("%w: the earlier one was taken out again", ErrDurability)

// promiseFirstScript promises a message that may be hidden, if it is there or done:
// whoever put it in does not take it out then.
//
//	KEYS[1]  the dedup key, or any
//	KEYS[2]… the records of its deliveries
//	ARGV[1]  id
//
// It returns 1 if it is promised, 0 if it is not there.
var promiseFirstScript = newScript(`
local there = 0
local dedup = redis.call('GET', KEYS[1]) or ''
if string.sub(dedup, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then
  there = 1
  if string.sub(dedup, -1) ~= '+' then redis.call('SET', KEYS[1], dedup .. '+', 'KEEPTTL') end
end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    there = 1
    redis.call('HSET', KEYS[i], 'p', '1')
  end
end
return there
`)

// promiseFirst sees to it that a message which is in already, and may be hidden, stays.
// Its node has said by now that it is durable. Promised before that, it would be
// delivered though all who have asked for it are refused.
func (c *Client) promiseFirst(ctx context.Context, p *parcel, s *sending, id string) error {
	if s.hidden == nil {
		return nil
	}
	if p.partition.resting() {
		return fmt.Errorf("%w: node %q rests", ErrDurability, p.partition.node.Name())
	}
	keys := []string{s.hidden[0].dedup}
	for _, rid := range c.recordIDs(id) {
		keys = append(keys, p.partition.keys.record(rid))
	}
	there, err := promiseFirstScript.run(ctx, p.partition, keys, id).Int()
	p.partition.report(ctx, err)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDurability, err)
	case there == 0:
		return errTakenOut
	}
	return nil
}

// promise sees to it that a message which is in already has its second copy, as
// long as it is not done.
func (c *Client) promise(ctx context.Context, p *parcel) error {
	if c.o.Copies < 2 {
		return nil
	}
	living, err := c.livingOf(ctx, p)
	for ref, rids := range living {
		if err == nil {
			err = c.promiseOn(ctx, p, c.byRef(ref), rids)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDurability, err)
	}
	return nil
}

// livingOf returns the record ids of a parcel's earlier message that are not done,
// by the partitions that have their second copies.
func (c *Client) livingOf(ctx context.Context, p *parcel) (map[string][]string, error) {
	rids := c.recordIDs(p.receipt.ID)
	fields, err := p.partition.recordFields(ctx, rids, "s", "c")
	p.partition.report(ctx, err)
	if err != nil {
		return nil, err
	}
	living := map[string][]string{}
	for i, f := range fields {
		if state, ref := f[0], f[1]; ref != "" && state != stateDone {
			ref = strings.TrimSuffix(ref, strayMark)
			living[ref] = append(living[ref], rids[i])
		}
	}
	return living, nil
}

// promiseOn promises second copies on a partition. Those that are not there are
// written again.
func (c *Client) promiseOn(ctx context.Context, p *parcel, second *partition, rids []string) error {
	if second == nil {
		return fmt.Errorf("%w: the node of the second copy is not configured any more", ErrNoNode)
	}
	for range 2 {
		missing, err := second.promise(ctx, rids)
		if err != nil || len(missing) == 0 {
			return err
		}
		if err := c.writeAgain(ctx, p, second, missing); err != nil {
			return err
		}
		// What was done meanwhile has told the copy that was not there yet.
		living, err := c.livingOf(ctx, p)
		if err != nil {
			return err
		}
		rids = living[second.ref]
	}
	return fmt.Errorf("%w: node %q does not keep a second copy", errAnswer, second.node.Name())
}

// promise promises second copies, and returns those that are not there.
func (p *partition) promise(ctx context.Context, rids []string) (missing []string, err error) {
	if len(rids) == 0 {
		return nil, nil
	}
	if p.resting() {
		return nil, fmt.Errorf("%w: node %q rests", ErrNoNode, p.node.Name())
	}
	keys := make([]string, len(rids))
	for i, rid := range rids {
		keys[i] = p.keys.second(rid)
	}
	there, err := promiseScript.run(ctx, p, keys).Int64Slice()
	p.report(ctx, err)
	for i, n := range there {
		if n == 0 {
			missing = append(missing, rids[i])
		}
	}
	return missing, err
}

// writeAgain writes the second copies that are missing, of what a parcel has in
// common with its earlier message: all but the id. Those of what is done by now
// are taken back.
func (c *Client) writeAgain(ctx context.Context, p *parcel, second *partition, missing []string) error {
	again := *p
	again.id, again.second, again.secondWasThere = p.receipt.ID, nil, false
	if err := c.makeFrame(&again); err != nil {
		return err
	}
	if err := c.writeSecond(ctx, &again, second, leaveWhatIsThere); err != nil {
		return err
	}
	living, err := c.livingOf(ctx, p)
	if err != nil {
		return err
	}
	var gone []goneCopy
	for _, rid := range c.recordIDs(again.id) {
		if !slices.Contains(living[second.ref], rid) {
			gone = append(gone, goneCopy{rid, p.size})
		}
	}
	if len(gone) == 0 {
		return nil
	}
	err = runEach(ctx, second, []*call{second.deleteCopiesCall(gone...)})
	second.report(ctx, err)
	return err
}
