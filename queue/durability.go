package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// aofTime is how long a node is given to bring its append-only file to the disk,
// which it does once a second with appendfsync everysec.
const aofTime = 1200 * time.Millisecond

// waitTick is how much later than its time is over a WAIT may be answered: an idle
// server looks ten times a second.
const waitTick = 150 * time.Millisecond

// durabilityCheck is how long it is believed what a node can do.
const durabilityCheck = 30 * time.Second

// A durability is what a partition can promise, and what is asked of it. It is safe
// for concurrent use.
type durability struct {
	ack Ack

	mu      sync.Mutex // guards what follows
	always  bool       // appendfsync is always
	noAOF   error      // why it cannot make an AOF wait; nil: it can, or nobody knows
	checked time.Time
}

// asked reports whether an answer is not enough.
func (d *durability) asked() bool { return d.ack != Ack{} }

// hides reports whether messages are hidden until they are durable.
func (d *durability) hides() bool {
	if !d.asked() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.always || d.ack.Replicas > 0
}

// learn keeps what a node has said.
func (d *durability) learn(always bool, noAOF error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.always, d.noAOF, d.checked = always, noAOF, time.Now()
}

// known returns what was learned, if that is not long ago.
func (d *durability) known() (always bool, noAOF error, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.always, d.noAOF, time.Since(d.checked) < durabilityCheck && !d.checked.IsZero()
}

// Check connects to the nodes that can be reached, so that the first messages
// need not wait for that, and asks them whether they can make a message durable
// as Options.Ack.AOF wants it; nodes that cannot be reached are left out. How many
// replicas a node has changes, and shows when a message is put in.
func (c *Client) Check(ctx context.Context) error {
	errs := make([]error, len(c.partitions))
	var wg sync.WaitGroup
	for i, p := range c.partitions {
		wg.Go(func() { errs[i] = p.check(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// asksMore reports whether a node's answer is not enough to accept a message.
func (c *Client) asksMore() bool { return c.o.Ack != Ack{} }

// check makes a connection ready, and asks what the node can do. It returns why
// that is too little; that the node cannot be reached is no error.
func (p *partition) check(ctx context.Context) error {
	err := enqueueScript.Load(p.with(ctx), p.client()).Err()
	if p.report(ctx, err); err != nil {
		return nil
	}
	client, err := p.oneServer(ctx)
	if err != nil {
		return nil
	}
	if err := p.checkAOF(ctx, client); err != nil {
		return fmt.Errorf("node %q cannot give ack aof: %w", p.node.Name(), err)
	}
	return nil
}

// checkAOF learns how the node keeps its append-only file, if that matters.
func (p *partition) checkAOF(ctx context.Context, client *redis.Client) error {
	if !p.durability.ack.AOF {
		return nil
	}
	if _, noAOF, ok := p.durability.known(); ok && noAOF == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.node.Timeout())
	defer cancel()
	pipe := client.Pipeline()
	always := askAlways(ctx, pipe)
	wait := redis.NewIntSliceCmd(ctx, "waitaof", 1, 0, 1)
	_ = pipe.Process(ctx, wait)
	cmds, err := pipe.Exec(ctx)
	if connectionError(err) != nil {
		p.reportAll(ctx, cmds, err)
		return nil
	}
	var noAOF error
	if err := wait.Err(); err != nil && !always.is() {
		noAOF = fmt.Errorf("it has neither appendfsync always nor WAITAOF (%w)", err)
	}
	p.durability.learn(always.is(), noAOF)
	return noAOF
}

// An alwaysAnswer is what a node says of its append-only file.
type alwaysAnswer [2]*redis.MapStringStringCmd

// askAlways asks it.
func askAlways(ctx context.Context, pipe redis.Pipeliner) alwaysAnswer {
	return alwaysAnswer{pipe.ConfigGet(ctx, "appendonly"), pipe.ConfigGet(ctx, "appendfsync")}
}

// is reports whether all is on disk before it is answered.
func (a alwaysAnswer) is() bool {
	return a[0].Val()["appendonly"] == "yes" && a[1].Val()["appendfsync"] == "always"
}

// oneServer returns the client of the very server that has the partition: what
// is to wait for a write must be on the connection on which that was written.
func (p *partition) oneServer(ctx context.Context) (*redis.Client, error) {
	switch c := p.client().(type) {
	case *redis.Client:
		return c, nil
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, p.keys.delayed())
	}
	return nil, errors.New("queue: no client of one server")
}

// sendDurably sends a batch, and makes sure that it is durable.
func (p *partition) sendDurably(ctx context.Context, batch []*sending) {
	client, err := p.oneServer(ctx)
	if err == nil {
		err = p.checkAOF(ctx, client)
	}
	if err != nil {
		setErrors(batch, fmt.Errorf("%w: %w", ErrDurability, err))
		return
	}
	conn := client.Conn()
	defer conn.Close() //nolint:errcheck // it goes back to its pool
	reached, err := p.sendAndWait(ctx, conn, batch)
	p.followMoved(ctx, err)
	for _, s := range batch {
		s.durable = reached
	}
	p.show(ctx, batch, reached)
}

// sendAndWait sends a batch on a connection, and waits on it until all that was
// written is durable. It reports whether that was reached.
func (p *partition) sendAndWait(ctx context.Context, conn *redis.Conn, batch []*sending) (reached bool, err error) {
	d := &p.durability
	bounded, cancel := context.WithTimeout(ctx, p.node.Timeout())
	defer cancel()
	pipe := conn.Pipeline()
	for _, s := range batch {
		_ = pipe.BatchProcess(bounded, s.cmds...)
	}
	always, _, _ := d.known()
	var answer alwaysAnswer
	if always {
		answer = askAlways(bounded, pipe)
	}
	cmds, err := pipe.Exec(bounded)
	p.reportAll(ctx, cmds, connectionError(err))
	if connectionError(err) != nil || !slices.ContainsFunc(batch, (*sending).isAnswered) {
		return false, err // where nothing was done there is nothing to wait for
	}
	if always && !answer.is() {
		d.learn(false, nil)
		return false, err
	}
	if d.ack.AOF && !always && !p.waitAOF(ctx, conn) {
		return false, err
	}
	return d.ack.Replicas == 0 || p.waitReplicas(ctx, conn), err
}

// waitAOF waits until what was written on conn is on the server's disk.
func (p *partition) waitAOF(ctx context.Context, conn *redis.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, aofTime+p.node.Timeout()+waitTick)
	defer cancel()
	n, err := conn.WaitAOF(ctx, 1, 0, aofTime).Result()
	p.report(ctx, connectionError(err))
	return err == nil && len(n) > 0 && n[0] >= 1
}

// waitReplicas waits until what was written on conn is on replicas.
func (p *partition) waitReplicas(ctx context.Context, conn *redis.Conn) bool {
	most := max(p.node.Timeout()*2/3, time.Millisecond) // 0 would be for ever
	ctx, cancel := context.WithTimeout(ctx, p.node.Timeout()+waitTick)
	defer cancel()
	n, err := conn.Wait(ctx, p.durability.ack.Replicas, most).Result()
	p.report(ctx, connectionError(err))
	return err == nil && n >= int64(p.durability.ack.Replicas)
}

func setErrors(batch []*sending, err error) {
	for _, s := range batch {
		for _, cmd := range s.cmds {
			cmd.SetErr(err)
		}
	}
}

// followMoved makes a cluster's client look where the slots are, after a server
// said that it is not here: this server alone was asked, so that nobody else does.
func (p *partition) followMoved(ctx context.Context, err error) {
	if c, ok := p.client().(*redis.ClusterClient); ok && (redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "READONLY")) {
		c.ReloadState(ctx)
	}
}
