package fluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// emitFunc tells Caddy's events app of something.
type emitFunc func(name string, data map[string]any)

// pool is one pool as one configuration has it.
type pool struct {
	name   string
	config PoolConfig
	logger *zap.Logger
	emit   emitFunc
	*poolState
	stateKey string

	ring     *shard.Pool
	nodes    []*node // in the order of the configuration
	keys     []string
	byShard  map[*shard.Node]*node
	voice    *herald
	order    atomic.Pointer[order] // nil while no node was taken out
	takenOut []*node               // the nodes that earlier configurations had, and it has not
	asked    atomic.Bool           // a request has come

	ready atomic.Bool   // every node was tried once
	tried chan struct{} // closed then, or when the start waits no more for that
}

// newPool opens the pool's clients; nothing is sent to a node before start.
func newPool(name string, c PoolConfig, repl *caddy.Replacer, logger *zap.Logger, emit emitFunc) (*pool, error) {
	c, err := c.resolve(repl)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := c.tlsConfig(repl)
	if err != nil {
		return nil, err
	}
	p := &pool{name: name, config: c, emit: emit, byShard: map[*shard.Node]*node{}, tried: make(chan struct{})}
	p.logger = logger.With(p.field())
	p.stateKey = name + "\x00" + c.Namespace
	state, _, err := states.LoadOrNew(p.stateKey, func() (caddy.Destructor, error) { return newPoolState(name), nil })
	if err != nil {
		return nil, err
	}
	p.poolState = state.(*poolState)
	options := shard.Options{Username: c.Username, Password: c.Password, TLS: tlsConfig, Timeout: time.Duration(c.Timeout), ClientName: "caddy-fluster"}
	if err := p.openNodes(options); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// openNodes makes the nodes that the configuration names, or finds those that
// the previous configuration had already.
func (p *pool) openNodes(o shard.Options) error {
	addresses, err := p.config.addresses()
	if err != nil {
		return err
	}
	open := func(identity string, bucket int, make func() (*shard.Node, error)) error {
		key := p.nodeKey(identity)
		n, _, err := nodes.LoadOrNew(key, func() (caddy.Destructor, error) {
			sn, err := make()
			if err != nil {
				return nil, err
			}
			n := newNode(sn, bucket, key, p.poolState, &p.config)
			if p.isInUse() {
				n.seat.doubt() // others were served meanwhile what the origin said
			}
			return n, nil
		})
		if err != nil {
			return err
		}
		p.keys = append(p.keys, key)
		p.nodes = append(p.nodes, n.(*node))
		return nil
	}
	switch {
	case len(p.config.Cluster) > 0:
		err = p.openParts(addresses, o, open)
	case p.config.Sentinel != nil:
		err = open("sentinel", 0, func() (*shard.Node, error) {
			return shard.NewSentinel(p.config.Sentinel.Master, addresses, o, p.box)
		})
	default:
		for i, a := range addresses {
			if err = open(p.config.Nodes[i], 0, func() (*shard.Node, error) { return shard.NewNode(a, o, p.box) }); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	var sns []*shard.Node
	for _, n := range p.nodes {
		sns = append(sns, n.Node)
		p.byShard[n.Node] = n
	}
	p.ring, err = shard.NewPool(sns, p.box)
	return err
}

// clusterParts is into how many buckets a Redis Cluster is divided. Each is a
// node to this package, with a journal of its own: what lies on a master that
// died is out of use then, and no more.
const clusterParts = 64

// openParts opens the parts of a Redis Cluster.
func (p *pool) openParts(addresses []shard.Address, o shard.Options, open func(string, int, func() (*shard.Node, error)) error) error {
	var cluster *shard.Node
	for i := range clusterParts {
		err := open(fmt.Sprintf("cluster %d", i), i, func() (*shard.Node, error) {
			if cluster == nil {
				var err error
				if cluster, err = shard.NewCluster(addresses, o, nil); err != nil {
					return nil, err
				}
			}
			return cluster.Part(fmt.Sprintf("%s/%d", cluster.Name(), i), p.box), nil
		})
		if err != nil {
			return err
		}
	}
	f := newFamily(p.nodes)
	for _, n := range p.nodes {
		n.family.CompareAndSwap(nil, f) // all are new, or none is
	}
	return nil
}

// nodeKey tells nodes apart by all that is configured of them. It is hashed, as
// it holds secrets.
func (p *pool) nodeKey(identity string) string {
	c := p.config
	all, _ := json.Marshal([]any{p.stateKey, identity, c.Cluster, c.Sentinel, c.Username, c.Password, c.TLS, c.Timeout, c.Channel})
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:])
}

// startWait is how long a start waits for the nodes' first answers, so that the
// first request finds them in use.
const startWait = 250 * time.Millisecond

// start begins to use the nodes, and waits a moment for their first answers, and
// until what is published there is heard.
func (p *pool) start() {
	p.voice = newHerald(p)
	gone := p.enter(p)
	for _, n := range p.nodes {
		n.introduce()
	}
	for _, n := range p.nodes {
		n.start()
	}
	p.orderWith(gone)
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	for _, n := range p.nodes {
		select {
		case <-n.tried:
		case <-timer.C:
			p.logger.Warn("nodes have not answered yet; requests go to the origin until they do")
			close(p.tried)
			return
		}
	}
	p.ready.Store(true)
	close(p.tried)
	if len(p.nodes) > 0 && !slices.ContainsFunc(p.nodes, func(n *node) bool { return p.box.Available(n.Node) }) {
		p.logger.Warn("no node can be reached; what is not in the near cache comes from the origin until one is back")
	}
	for _, n := range p.nodes {
		if n.journal.number > 0 {
			continue // it has no listener of its own
		}
		select {
		case <-n.listening:
		case <-timer.C:
			return
		}
	}
}

// field is the pool's name for a log line; nothing for the one without a name.
func (p *pool) field() zap.Field {
	if p.name == "" {
		return zap.Skip()
	}
	return zap.String("pool", p.name)
}

// waitReady holds the first requests up, which may come before the app is
// started, until the nodes were tried; at most for one time-out. It returns for how
// long it did.
func (p *pool) waitReady(ctx context.Context) time.Duration {
	if !p.asked.Load() {
		p.asked.Store(true)
	}
	if p.ready.Load() || len(p.nodes) == 0 {
		return 0
	}
	start := time.Now()
	timer := time.NewTimer(time.Duration(p.config.Timeout))
	defer timer.Stop()
	select {
	case <-p.tried:
	case <-timer.C:
	case <-ctx.Done():
	}
	p.ready.Store(p.doubtUntried())
	return time.Since(start)
}

// awaitStart holds an invalidation up that comes before the app is started, as a
// handler's may: until then no node is in use.
func (p *pool) awaitStart(ctx context.Context) {
	if p.ready.Load() || len(p.nodes) == 0 {
		return
	}
	timer := time.NewTimer(4 * startWait)
	defer timer.Stop()
	select {
	case <-p.tried:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// doubtUntried notes that a request goes on without the nodes that were not tried
// yet: what lies there may be older than what it is given. It reports whether
// there was none.
func (p *pool) doubtUntried() (none bool) {
	none = true
	for _, n := range p.nodes {
		select {
		case <-n.tried:
		default:
			none = false
			n.seat.doubt()
		}
	}
	return none
}

// stop ends what this configuration started; what another one shares goes on.
func (p *pool) stop() {
	p.withdraw(p)
	if p.voice != nil {
		p.voice.stop()
	}
}

// close lets go of everything that outlives a configuration.
func (p *pool) close() {
	for _, key := range p.keys {
		if _, err := nodes.Delete(key); err != nil {
			p.logger.Warn("closing node", zap.Error(err))
		}
	}
	p.keys = nil
	if p.stateKey != "" {
		if _, err := states.Delete(p.stateKey); err != nil {
			p.logger.Warn("closing pool", zap.Error(err))
		}
		p.stateKey = ""
	}
}
