package fluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// queueLinks are the connections of queues to their nodes, which outlive config
// reloads, by all that is configured of them: string → *queueLink.
var queueLinks = caddy.NewUsagePool()

// Queues have connections of their own, and other terms than the cache: what
// cannot be put on a node in this time goes to another one, and what cannot be
// put anywhere is a client's error.
const queueTimeout = 300 * time.Millisecond

// queuePartitions is over how many hash slots a queue on a Redis Cluster is spread.
const queuePartitions = 8

// A queueLink is a queue's connection to its nodes. All configurations that say
// the same of the queue share it.
type queueLink struct {
	nodes   []*shard.Node
	client  *queue.Client
	replies *queue.Replies

	waiting atomic.Int64 // requests that wait for responses
	receive sync.Once    // starts receiving replies
	done    sync.WaitGroup
	ctx     context.Context
	end     context.CancelFunc
}

// newQueueLink opens the nodes of a pool for a queue. Nothing is sent to them yet.
func newQueueLink(c *PoolConfig, repl *caddy.Replacer, o queue.Options) (*queueLink, error) {
	l := &queueLink{}
	l.ctx, l.end = context.WithCancel(context.Background())
	err := l.open(c, repl, o)
	if err != nil {
		return nil, errors.Join(err, l.Destruct())
	}
	return l, nil
}

func (l *queueLink) open(c *PoolConfig, repl *caddy.Replacer, o queue.Options) error {
	tlsConfig, err := c.tlsConfig(repl)
	if err != nil {
		return err
	}
	addresses, err := c.addresses()
	if err != nil {
		return err
	}
	terms := shard.Options{Username: c.Username, Password: c.Password, TLS: tlsConfig, Timeout: queueTimeout, ClientName: "caddy-fluster-queue"}
	keep := func(n *shard.Node, err error) error {
		if err == nil {
			l.nodes = append(l.nodes, n)
		}
		return err
	}
	switch {
	case len(c.Cluster) > 0:
		if err = keep(shard.NewCluster(addresses, terms, nil)); err == nil {
			o.Partitions = queue.OnCluster(l.nodes[0], queuePartitions)
		}
	case c.Sentinel != nil:
		if err = keep(shard.NewSentinel(c.Sentinel.Master, addresses, terms, nil)); err == nil {
			o.Partitions = queue.OnNodes(l.nodes...)
		}
	default:
		for _, a := range addresses {
			err = errors.Join(err, keep(shard.NewNode(a, terms, nil)))
		}
		o.Partitions = queue.OnNodes(l.nodes...)
	}
	if err != nil {
		return err
	}
	if l.client, err = queue.NewClient(o); err != nil {
		return err
	}
	l.replies = queue.NewReplies(l.client)
	return nil
}

// receiveReplies makes the responses come in that requests wait for.
func (l *queueLink) receiveReplies() {
	l.receive.Do(func() {
		l.done.Go(func() { l.replies.Run(l.ctx) })
	})
}

// Destruct is called when nobody uses the link any more.
func (l *queueLink) Destruct() error {
	l.receive.Do(func() {}) // a request that is late does not begin
	l.end()
	l.done.Wait()
	var errs []error
	for _, n := range l.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// openedQueue is a use of a queueLink. It is closed when it is used no more.
type openedQueue struct {
	*queueLink
	key    string
	logger *zap.Logger

	mu     sync.Mutex // guards all below
	users  int        // requests under way
	closed bool
}

// openQueue opens a queue on the pool's nodes, or finds it open. The options'
// partitions are set here.
func (p *pool) openQueue(o queue.Options) (*openedQueue, error) {
	o.Namespace, o.Partitions = p.config.Namespace, nil
	// It is hashed, as it holds secrets.
	c := p.config
	all, err := json.Marshal([]any{p.stateKey, c.Nodes, c.Cluster, c.Sentinel, c.Username, c.Password, c.TLS, o})
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", o.Name, err)
	}
	sum := sha256.Sum256(all)
	q := &openedQueue{key: hex.EncodeToString(sum[:]), logger: p.logger}
	link, _, err := queueLinks.LoadOrNew(q.key, func() (caddy.Destructor, error) {
		return newQueueLink(&p.config, caddy.NewReplacer(), o)
	})
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", o.Name, err)
	}
	q.queueLink = link.(*queueLink)
	return q, nil
}

// hold keeps the nodes open after close, until release is called. It is called
// before close, by a worker that may outlive its configuration.
func (q *openedQueue) hold() (release func()) {
	link := q.queueLink
	_, _, err := queueLinks.LoadOrNew(q.key, func() (caddy.Destructor, error) { return link, nil })
	if err != nil {
		return func() {} // it was closed already
	}
	return sync.OnceFunc(q.letGo)
}

// enter keeps the nodes open until leave, also after close: Caddy does not wait for
// the requests under way when it cleans up a configuration. It returns false if
// the nodes are closed already.
func (q *openedQueue) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed && q.users == 0 {
		return false
	}
	q.users++
	return true
}

// leave ends what enter began.
func (q *openedQueue) leave() {
	q.mu.Lock()
	q.users--
	last := q.closed && q.users == 0
	q.mu.Unlock()
	if last {
		q.letGo()
	}
}

// close ends this use, when the last request has left. It may be called again.
func (q *openedQueue) close() {
	q.mu.Lock()
	last := !q.closed && q.users == 0
	q.closed = true
	q.mu.Unlock()
	if last {
		q.letGo()
	}
}

func (q *openedQueue) letGo() {
	if _, err := queueLinks.Delete(q.key); err != nil {
		q.logger.Warn("closing queue", zap.Error(err))
	}
}
