package fluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

const (
	// pingEvery is how long a subscription may be silent before it is pinged; a
	// ping that is not answered in as long ends it.
	pingEvery = time.Second
	// heardWithin is the longest that a process waits before it writes what it
	// heard into the journals. One of all that heard it is the first, and the
	// others find that it was done.
	heardWithin = 50 * time.Millisecond
	// heraldQueue bounds what was heard and not yet written. What is beyond it is
	// written by the keepers, as a record that the nodes are owed.
	heraldQueue = 4096
)

// listen is the listener: it hears what users publish and what other processes
// append, on one subscription to the node. Messages make an invalidation fast;
// the journal makes it certain.
func (n *node) listen(ctx context.Context) {
	defer n.listenOnce.Do(func() { close(n.listening) })
	select {
	case <-n.tried:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		if n.inUse() {
			n.hear(ctx)
		}
		n.listenOnce.Do(func() { close(n.listening) }) // it cannot be listened to now
		sleep(ctx, pingEvery/4+rand.N(pingEvery/4))
	}
}

// sibling returns the node of the bucket with this number, which shares n's
// listener; nil if there is none.
func (n *node) sibling(number int) *node {
	f := n.family.Load()
	switch {
	case f == nil && number == n.journal.number:
		return n
	case f == nil || number < 0 || number >= len(f.parts):
		return nil
	}
	return f.parts[number]
}

// hear serves one subscription until it fails.
func (n *node) hear(ctx context.Context) {
	sub := n.Subscribe(ctx, n.channel, n.journal.channel, n.forwards)
	defer sub.Close()
	stop := context.AfterFunc(ctx, func() { sub.Close() })
	defer stop()
	var ear journal.Ear
	pinged := false
	for ctx.Err() == nil {
		msg, err := shard.Receive(ctx, sub, pingEvery)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged && n.inUse():
			pinged = true
			if sub.Ping(ctx) != nil {
				return
			}
			continue
		case err != nil:
			return
		}
		pinged = false
		switch m := msg.(type) {
		case *redis.Subscription:
			n.listenOnce.Do(func() { close(n.listening) })
			n.ask() // what was said while nobody listened stands in the journal
		case *redis.Message:
			n.heard(&ear, m.Channel, m.Payload)
		}
	}
}

// heard takes one message.
func (n *node) heard(ear *journal.Ear, channel, text string) {
	if channel == n.journal.channel {
		news, ok := journal.ParseNews(text)
		if ok && !n.isPart() {
			// The masters of a Redis Cluster pass messages on in no common order, and
			// without that nobody can give them common names.
			ear.Entry(news.Entry.Nonce)
		}
		if about := n.sibling(news.Bucket); about != nil && !(ok && about.view.Heard(news.Inc, news.Entry)) {
			about.ask()
		}
		return
	}
	if channel == n.forwards {
		n.state.waits.heard(text)
		return
	}
	name := ear.Message()
	targets, err := journal.ParseMessage(text)
	if err != nil {
		metrics.messages.WithLabelValues("refused").Inc()
		n.state.log().Warn("invalidation message not understood", zap.String("node", n.label),
			zap.String("message", text[:min(len(text), 200)]), zap.Error(err))
		return
	}
	metrics.messages.WithLabelValues("heard").Inc()
	h := n.state.herald()
	for _, r := range n.state.book.HeardRecords(name, targets) {
		n.state.book.Learn(r)
		if h != nil {
			h.tell(r)
		}
	}
}

// A herald writes into the journals what was heard from messages.
type herald struct {
	pool  *pool
	queue chan journal.Record
	end   context.CancelFunc
	wg    sync.WaitGroup
}

func newHerald(p *pool) *herald {
	ctx, end := context.WithCancel(context.Background())
	h := &herald{pool: p, queue: make(chan journal.Record, heraldQueue), end: end}
	h.wg.Go(func() { h.run(ctx) })
	return h
}

// stop ends the herald. What it has not written yet the nodes are owed.
func (h *herald) stop() {
	h.end()
	h.wg.Wait()
}

// tell hands a record over; it never waits.
func (h *herald) tell(r journal.Record) {
	select {
	case h.queue <- r:
	default:
	}
}

// run collects what comes within a random moment and writes it as one batch.
func (h *herald) run(ctx context.Context) {
	for {
		var batch []journal.Record
		select {
		case <-ctx.Done():
			return
		case r := <-h.queue:
			batch = append(batch, r)
		}
		sleep(ctx, rand.N(heardWithin))
		for more := true; more && len(batch) < appendBatch; {
			select {
			case r := <-h.queue:
				batch = append(batch, r)
			default:
				more = false
			}
		}
		h.write(ctx, batch)
	}
}

// write appends to all nodes what nobody else has appended meanwhile: all who
// heard a message have made the same records of it.
func (h *herald) write(ctx context.Context, batch []journal.Record) {
	batch = slices.DeleteFunc(batch, func(r journal.Record) bool { return !h.pool.book.Owes(r) })
	if len(batch) > 0 {
		h.pool.appendAll(ctx, batch)
	}
}

// appendAll appends records, at most appendBatch, to the journals of all nodes
// that are in use, at once, and says for each node whether it has them. A
// time-out is tried again until it has cost the node its place. The others are
// owed the records; their keepers are asked to try at once.
func (p *pool) appendAll(ctx context.Context, records []journal.Record) (done []bool) {
	done = make([]bool, len(p.nodes))
	var wg sync.WaitGroup
	for i, n := range p.nodes {
		wg.Go(func() {
			for try := 0; try < slowInARow && n.inUse() && !done[i] && ctx.Err() == nil; try++ {
				_, err := n.append(ctx, records)
				done[i] = err == nil
			}
			if !done[i] {
				n.ask()
			}
		})
	}
	wg.Wait()
	return done
}

// Acknowledgement says how safe an invalidation is.
type Acknowledgement struct {
	ID      string   `json:"id"`      // of its first record
	Applied []string `json:"applied"` // the nodes whose journals have it
	Owed    []string `json:"owed"`    // the nodes that get it when they are back; a Redis Cluster may be in both
}

// invalidate makes what targets select dead (or stale, where soft) in this
// process at once and on all nodes, and returns when it is safe. With wait it
// returns when no process that can reach a node serves it any more.
func (p *pool) invalidate(ctx context.Context, targets []journal.Target, wait bool) (Acknowledgement, error) {
	records := p.records(targets)
	for _, r := range records {
		p.book.Learn(r)
	}
	ack, err := p.publish(ctx, records)
	if err == nil && wait && len(p.nodes) > 0 {
		sleep(ctx, journal.Lease)
	}
	return ack, err
}

// records makes a record of each target.
func (p *pool) records(targets []journal.Target) []journal.Record {
	metrics.invalidations.Add(float64(len(targets)))
	records := make([]journal.Record, len(targets))
	for i, t := range targets {
		records[i] = p.book.NewRecord(t)
	}
	return records
}

// publish appends records that this process has learnt to all journals. Where those
// of a configuration that a reload has ended, or not yet begun, are not enough, it
// turns to the one in force: its nodes are owed the same records.
func (p *pool) publish(ctx context.Context, records []journal.Record) (Acknowledgement, error) {
	if len(records) == 0 {
		return Acknowledgement{Applied: []string{}, Owed: []string{}}, nil
	}
	for {
		p.awaitStart(ctx)
		ack, err := p.publishHere(ctx, records)
		inForce := p.poolInForce()
		if err == nil || inForce == p || inForce == nil || ctx.Err() != nil {
			return ack, err
		}
		p = inForce
	}
}

// publishHere is publish for the nodes of this configuration.
func (p *pool) publishHere(ctx context.Context, records []journal.Record) (Acknowledgement, error) {
	done := make([]bool, len(p.nodes))
	for i := range done {
		done[i] = true
	}
	for batch := range slices.Chunk(records, appendBatch) {
		for i, has := range p.appendAll(ctx, batch) {
			done[i] = done[i] && has
		}
	}
	ack := p.acknowledge(records[0].ID, done)
	if !p.reached(done) {
		return ack, ErrQuorum
	}
	return ack, nil
}

// acknowledge puts names to what was done.
func (p *pool) acknowledge(id string, done []bool) Acknowledgement {
	ack := Acknowledgement{ID: id, Applied: []string{}, Owed: []string{}}
	for i, n := range p.nodes {
		list := &ack.Owed
		if done[i] {
			list = &ack.Applied
		}
		if !slices.Contains(*list, n.label) {
			*list = append(*list, n.label)
		}
	}
	return ack
}

// reached reports whether the invalidation may be acknowledged: every node that
// is in use has it, and at least one; with quorum strict, more than half of all.
func (p *pool) reached(done []bool) bool {
	if len(p.nodes) == 0 {
		return true
	}
	has := 0
	for i, n := range p.nodes {
		switch {
		case done[i]:
			has++
		case n.inUse():
			return false
		}
	}
	if p.config.Quorum == "strict" {
		return has > len(p.nodes)/2
	}
	return has > 0
}
