package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A message that must be on disk, or on replicas, before it counts as accepted is
// put in hidden: it is delayed by hideTime, which is longer than Enqueue takes. Then
// the node is asked to wait for its disk or replicas, on the same connection.
//
//	reached      it is shown: made ready, or delayed as it was to be
//	not reached  it is taken out again, before anyone could be given it
//	no answer    nobody knows; it shows itself when hideTime is over, if it is there
//
// What is durable is the hidden message: should the node fall right after, it
// comes back with it, and shows it in time.
//
// A node with appendfsync always has all on its disk before it answers, so that
// nothing has to be hidden; that it still has is asked with each pipeline.
const hideTime = 5 * time.Second

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

// Check asks the nodes that can be reached whether they can give the durability
// of Options.Ack; nodes that cannot be reached are left out.
func (c *Client) Check(ctx context.Context) error {
	if !c.asksMore() {
		return nil
	}
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

// check asks what the node can do. It returns why that is too little; that the
// node cannot be reached is no error.
func (p *partition) check(ctx context.Context) error {
	client, err := p.oneServer(ctx)
	if err != nil {
		return nil
	}
	if err := p.checkAOF(ctx, client); err != nil {
		return fmt.Errorf("node %q cannot give ack aof: %w", p.node.Name(), err)
	}
	if p.durability.ack.Replicas == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.node.Timeout())
	defer cancel()
	info, err := client.InfoMap(ctx, "replication").Result()
	if p.report(ctx, err); err != nil {
		return nil
	}
	var n int
	_, _ = fmt.Sscan(info["Replication"]["connected_slaves"], &n)
	if n < p.durability.ack.Replicas {
		return fmt.Errorf("node %q cannot give ack replicas %d: it has %d now", p.node.Name(), p.durability.ack.Replicas, n)
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
	ctx, cancel := context.WithTimeout(ctx, p.node.Timeout())
	defer cancel()
	client, err := p.oneServer(ctx)
	if err == nil {
		err = p.checkAOF(ctx, client)
	}
	if err != nil {
		setErrors(batch, fmt.Errorf("%w: %w", ErrDurability, err))
		return
	}
	pipe := client.Pipeline()
	hide := false
	for _, s := range batch {
		_ = pipe.BatchProcess(ctx, s.cmds...)
		hide = hide || s.hidden != nil
	}
	reached := p.askDurable(ctx, pipe)
	cmds, err := pipe.Exec(ctx)
	p.reportAll(ctx, cmds, connectionError(err))
	p.followMoved(ctx, err)
	if connectionError(err) != nil {
		return
	}
	if durable := reached(); hide {
		p.show(ctx, client, batch, durable)
	} else {
		for _, s := range batch {
			s.durable = durable
		}
	}
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

// askDurable appends to a pipeline what makes the node wait, and returns what
// tells whether it was enough.
func (p *partition) askDurable(ctx context.Context, pipe redis.Pipeliner) (reached func() bool) {
	d := &p.durability
	wait := p.node.Timeout() * 2 / 3
	var asks []func() bool
	if d.ack.AOF {
		if always, _, _ := d.known(); always {
			answer := askAlways(ctx, pipe)
			asks = append(asks, func() bool {
				if !answer.is() {
					d.learn(false, nil)
				}
				return answer.is()
			})
		} else {
			cmd := redis.NewIntSliceCmd(ctx, "waitaof", 1, 0, wait.Milliseconds())
			_ = pipe.Process(ctx, cmd)
			asks = append(asks, func() bool { return len(cmd.Val()) > 0 && cmd.Val()[0] >= 1 })
		}
	}
	if d.ack.Replicas > 0 {
		cmd := redis.NewIntCmd(ctx, "wait", d.ack.Replicas, wait.Milliseconds())
		_ = pipe.Process(ctx, cmd)
		asks = append(asks, func() bool { return cmd.Err() == nil && cmd.Val() >= int64(d.ack.Replicas) })
	}
	return func() bool {
		all := true
		for _, ask := range asks {
			all = ask() && all
		}
		return all
	}
}

// A hidden is one delivery that was put in hidden.
type hidden struct {
	parcel *parcel
	rid    string
	delay  time.Duration // that it has anyway
	order  string
}

// hideFor returns how long a message is hidden where p is put now.
func (c *Client) hideFor(p *parcel) time.Duration {
	if !p.partition.durability.hides() {
		return 0
	}
	return hideTime
}

// hiddenOf returns what is hidden of a parcel.
func (c *Client) hiddenOf(p *parcel) []hidden {
	out := make([]hidden, len(c.o.Destinations))
	for i, destination := range c.o.Destinations {
		out[i] = hidden{p, recordID(p.id, destination), p.m.Delay, orderHash(destination, p.m.OrderKey)}
	}
	return out
}

// showScript shows what is hidden.
//
//	KEYS[1]  what is delayed
//	KEYS[2]… streams of all lanes; the records
//	ARGV[1]  number of lanes
//	ARGV[2]… names of the lanes; for each record: record id, for how many ms it is delayed in truth
//
// It returns how many it has shown. What waits for its turn is not hidden longer
// than that says, and is left alone.
const showSource = `
local lanes, n, shown = {}, tonumber(ARGV[1]), 0
for i = 1, n do lanes[ARGV[1+i]] = KEYS[1+i] end
for i = 2 + n, #ARGV, 2 do
  local rid, delay, record = ARGV[i], tonumber(ARGV[i+1]), KEYS[2 + n + (i - 2 - n) / 2]
  if redis.call('ZSCORE', KEYS[1], rid) then
    shown = shown + 1
    local e, state = {}, {}
    local all = redis.call('HGETALL', record)
    for j = 1, #all, 2 do
      state[all[j]] = all[j+1]
      if #all[j] > 1 or not string.find('sgqruv', all[j], 1, true) then
        e[#e+1] = all[j]
        e[#e+1] = all[j+1]
      end
    end
    if delay > 0 then
      redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', state.t + delay), rid)
    else
      local q = redis.call('XADD', lanes[state.g], '*', unpack(e))
      redis.call('ZREM', KEYS[1], rid)
      if state.k == '1' or state.c then
        redis.call('HSET', record, 's', 'ready', 'q', q)
        redis.call('HDEL', record, 'o', 'x', 'z', 'n', '__data__')
      else
        redis.call('UNLINK', record)
      end
    end
  end
end
return shown
`

// takeOutScript takes a message out that must not be delivered.
//
//	KEYS[1]  what is delayed
//	KEYS[2]  counters
//	KEYS[3]  orders
//	KEYS[4]  the dedup key, or any
//	KEYS[5]… streams of all lanes; for each delivery its record and the list of what waits for its order key
//	ARGV[1]  id
//	ARGV[2]  how many of an order key may be in flight
//	ARGV[3]  bytes that each delivery counts for
//	ARGV[4]  number of lanes
//	ARGV[5]… names of the lanes; for each delivery: record id, order hash or empty
//
// It returns how many deliveries it has taken out.
var takeOutScript = newScript(luaOrder + `
local lanes, n, out = {}, tonumber(ARGV[4]), 0
for i = 1, n do lanes[ARGV[4+i]] = KEYS[4+i] end
local function takeFromList(waiting)
  for i, packed in ipairs(redis.call('LRANGE', waiting, 0, -1)) do
    local e = cmsgpack.unpack(packed)
    if e[2] == 'i' and e[3] == ARGV[1] then return redis.call('LREM', waiting, -1, packed) end
  end
  return 0
end
for i = 5 + n, #ARGV, 2 do
  local rid, order, at = ARGV[i], ARGV[i+1], 5 + n + (i - 5 - n)
  local record, waiting = KEYS[at], KEYS[at+1]
  local taken = redis.call('ZREM', KEYS[1], rid)
  if taken == 1 then
    if order ~= '' then advance(order, KEYS[3], waiting, KEYS[2], tonumber(ARGV[2]), lanes, KEYS[5]) end
  elseif order ~= '' then
    taken = takeFromList(waiting)
    if taken == 1 then decount(KEYS[2], 'w', 1) end
  end
  if taken == 1 then
    redis.call('UNLINK', record)
    if ARGV[3] ~= '0' then decount(KEYS[2], 'b', ARGV[3]) end
    out = out + 1
  end
end
local dedup = redis.call('GET', KEYS[4])
if dedup and string.sub(dedup, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then redis.call('UNLINK', KEYS[4]) end
return out
`)

// show shows what was hidden if it is durable, and takes it out again if not.
func (p *partition) show(ctx context.Context, client *redis.Client, batch []*sending, durable bool) {
	var in []*sending
	for _, s := range batch {
		if s.isIn() {
			in = append(in, s)
		}
	}
	if len(in) == 0 {
		return
	}
	if !durable {
		p.takeOut(ctx, in)
		return
	}
	pipe := client.Pipeline()
	shown := make([]*redis.Cmd, len(in))
	for i, s := range in {
		keys, args := s.showArgs(p)
		shown[i] = showScript.EvalSha(ctx, pipe, keys, args...)
	}
	cmds, err := pipe.Exec(ctx)
	p.reportAll(ctx, cmds, connectionError(err))
	for i, s := range in {
		if redis.HasErrorPrefix(shown[i].Err(), "NOSCRIPT") {
			keys, args := s.showArgs(p)
			shown[i] = showScript.Eval(ctx, client, keys, args...)
		}
		// Where it cannot be shown now, it shows itself: it is there, and durable.
		s.durable = true
	}
}

var showScript = redis.NewScript(showSource)

// isIn reports whether a sending put a message in that is hidden.
func (s *sending) isIn() bool {
	if s.hidden == nil || s.cmds[0].Err() != nil {
		return false
	}
	e, err := parseEnqueued(s.cmds[0].(once).Cmd)
	return err == nil && e.what == "in"
}

// showArgs returns what showScript wants to know.
func (s *sending) showArgs(p *partition) (keys []string, args []any) {
	keys = []string{p.keys.delayed()}
	args = []any{len(p.owner.lanes)}
	for _, lane := range p.owner.lanes {
		keys = append(keys, p.keys.stream(lane))
		args = append(args, lane)
	}
	for _, h := range s.hidden {
		keys = append(keys, p.keys.record(h.rid))
		args = append(args, h.rid, h.delay.Milliseconds())
	}
	return keys, args
}

// takeOut takes messages out that are not durable enough. What it cannot take out
// may be delivered, although it was refused: the node failed just then.
func (p *partition) takeOut(ctx context.Context, in []*sending) {
	var calls []*call
	for _, s := range in {
		m, k := s.hidden[0].parcel.m, p.keys
		keys := []string{k.delayed(), k.counters(), k.orders(), k.dedup(m.DedupKey)}
		args := []any{s.hidden[0].parcel.id, p.owner.o.PerKey, p.owner.counted(s.hidden[0].parcel), len(p.owner.lanes)}
		for _, lane := range p.owner.lanes {
			keys = append(keys, k.stream(lane))
			args = append(args, lane)
		}
		for _, h := range s.hidden {
			keys = append(keys, k.record(h.rid), k.order(h.order))
			args = append(args, h.rid, h.order)
		}
		calls = append(calls, &call{script: takeOutScript, keys: keys, args: args})
	}
	ctx = context.WithoutCancel(ctx)
	p.report(ctx, runAll(ctx, p, calls))
}
