package queue

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// batchWorkers is how many messages of a batch go in one by one at the same time.
const batchWorkers = 64

// EnqueueBatch puts messages in, in one round trip a node (a few, if they are
// many); receipt i is of message i. The error is the first of the receipts'. Each
// message is in or not by itself.
//
// What needs more than that (a body in chunks, a second copy, a queue that is
// nearly full, a node that fails) goes in one by one after the others.
func (c *Client) EnqueueBatch(ctx context.Context, ms []*Message) ([]Receipt, error) {
	parcels, errs := make([]*parcel, len(ms)), make([]error, len(ms))
	groups := make([][]int, len(c.partitions))
	alone := c.needAlone(ms)
	for i, m := range ms {
		parcels[i], errs[i] = c.pack(m)
		p := parcels[i]
		if errs[i] != nil || alone[m.OrderKey] || p.size > 0 || c.o.Copies > 1 {
			continue
		}
		if p.partition = c.pick(p.hash, func(*partition) bool { return false }); p.partition != nil {
			at := p.partition.index
			groups[at] = append(groups[at], i)
		}
	}
	over := make([]bool, len(ms))
	var wg sync.WaitGroup
	for at, group := range groups {
		wg.Go(func() { c.putGroup(ctx, c.partitions[at], parcels, group, over, errs) })
	}
	wg.Wait()
	c.putRest(ctx, parcels, over, errs)

	receipts := make([]Receipt, len(ms))
	var first error
	for i, p := range parcels {
		p.receipt.Err = errs[i]
		receipts[i] = p.receipt
		c.recycle(p)
		if first == nil {
			first = errs[i]
		}
	}
	return receipts, first
}

// needAlone returns the order keys of which a message goes in after the others:
// then all with that key do.
func (c *Client) needAlone(ms []*Message) map[string]bool {
	out := map[string]bool{}
	for _, m := range ms {
		if m.OrderKey != "" && (m.Reader != nil || int64(len(m.Body)) > c.o.InlineBody || c.o.Copies > 1) {
			out[m.OrderKey] = true
		}
	}
	return out
}

// putGroup puts messages into one partition, in pipelines of their own. It sets
// over for those that are decided, and their errs.
func (c *Client) putGroup(ctx context.Context, on *partition, parcels []*parcel, group []int, over []bool, errs []error) {
	room, leave, ok := c.enterGroup(ctx, on, parcels, group)
	if !ok {
		return
	}
	defer leave()
	for len(group) > 0 && ctx.Err() == nil && on.rest.takes() {
		n, bytes := 0, 0
		var batch []*sending
		for _, i := range group {
			s := c.sending(ctx, parcels[i], room, false)
			if bytes += s.bytes; n > 0 && (n == maxPipeline || bytes > maxPipelineBytes) {
				break
			}
			s.large = true // many at once are
			batch = append(batch, s)
			n++
		}
		on.send(ctx, batch)
		var again []int
		for j, i := range group[:n] {
			if batch[j].plain && errors.Is(batch[j].cmds[0].Err(), redis.Nil) {
				again = append(again, i) // there is no stream
				continue
			}
			over[i], errs[i] = c.take(ctx, parcels[i], batch[j], room)
		}
		if len(again) > 0 {
			parcels[again[0]].plain = false // it makes the stream, and the others find it
		}
		group = append(again, group[n:]...)
	}
}

// take takes what came of a sending of a group.
func (c *Client) take(ctx context.Context, p *parcel, s *sending, room room) (over bool, err error) {
	if !s.plain && redis.HasErrorPrefix(s.cmds[0].Err(), "NOSCRIPT") {
		s = c.sending(ctx, p, room, true)
		p.partition.send(ctx, []*sending{s})
	}
	over, err = c.settle(ctx, p, s, room)
	if errors.Is(err, ErrBacklog) {
		p.alone = true
		return false, nil
	}
	if !over {
		p.fail(ctx, err)
	}
	return over, err
}

// enterGroup is enter for a group; it reports false if they must go one by one.
func (c *Client) enterGroup(ctx context.Context, on *partition, parcels []*parcel, group []int) (room, func(), bool) {
	if len(group) == 0 {
		return room{}, nil, false
	}
	if !c.backlog.bounded() {
		return noBounds, func() {}, true
	}
	var more load
	n := int64(len(c.o.Destinations))
	for _, i := range group {
		more = more.plus(load{n, n * c.counted(parcels[i])})
	}
	c.recount(ctx, on, countFresh)
	r, ok := c.reserve(on, more)
	return r, func() { c.unreserve(on, more) }, ok
}

// putRest puts what is not decided, each message by itself; those with the same
// order key one after the other.
func (c *Client) putRest(ctx context.Context, parcels []*parcel, over []bool, errs []error) {
	var strands [][]int
	at := map[string]int{}
	for i, p := range parcels {
		if over[i] || errs[i] != nil && p.partition == nil {
			continue
		}
		key := p.m.OrderKey
		if n, ok := at[key]; ok && key != "" {
			strands[n] = append(strands[n], i)
			continue
		}
		at[key] = len(strands)
		strands = append(strands, []int{i})
	}
	var wg sync.WaitGroup
	for part := range slices.Chunk(strands, max(1, (len(strands)+batchWorkers-1)/batchWorkers)) {
		wg.Go(func() {
			for _, i := range slices.Concat(part...) {
				errs[i] = c.put(ctx, parcels[i])
			}
		})
	}
	wg.Wait()
}
