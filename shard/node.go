package shard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Availability knows which nodes may be used now. It is asked and told from
// many goroutines at once, on the way of each request, so it must not block.
// Where it is nil, all nodes are always available, and nobody is told.
type Availability interface {
	// Available reports whether node may be used now.
	Available(node *Node) bool
	// Report tells how a command on node ended. err is nil, or what it ended
	// with, also when that says nothing about the node.
	Report(node *Node, o Outcome, err error)
}

// A Node is one Redis server, or one whole Redis Cluster, or the master that
// sentinels know, with the clients to reach it. Nothing is dialed before it is
// needed. It is safe for concurrent use.
type Node struct {
	name         string
	address      string
	weight       float64
	timeout      time.Duration
	availability Availability

	client, bulk redis.UniversalClient
	batched      redis.UniversalClient // for Read
	small        reader                // over batched
	batches      *batchReader          // nil if small is another

	whole *Node        // of a part: the cluster
	parts atomic.Int32 // of a cluster: its parts that are open

	conns  *conns // nil but of one server
	holds  holds  // who needs bulk after Close
	server server // who answers, where that may change
}

// NewNode returns the node at an address.
func NewNode(a Address, o Options, availability Availability) (*Node, error) {
	n, err := newNode(a.name(), a.String(), a.Weight, o, availability)
	if err != nil {
		return nil, err
	}
	n.conns = new(conns)
	n.openBatched(redisOptions([]Address{a}, o, n.timeout, n.conns))
	return n, nil
}

// NewCluster returns a whole Redis Cluster as one node. One address that
// answers is enough, the cluster tells the others. Its name is that in the first
// address, or "cluster" if that has none of its own; weight, credentials and
// TLS are those of the first address as well.
func NewCluster(addrs []Address, o Options, availability Availability) (*Node, error) {
	if err := checkSeeds(addrs); err != nil {
		return nil, err
	}
	if addrs[0].DB != 0 {
		return nil, errors.New("shard: a Redis Cluster has no database but 0")
	}
	n, err := newNode(addrs[0].nameOr("cluster"), addrs[0].String(), addrs[0].Weight, o, availability)
	if err != nil {
		return nil, err
	}
	u := redisOptions(addrs, o, n.timeout, nil)
	u.IsClusterMode = true
	n.client, n.bulk = n.hooked(n.newClusterClient(u)), n.hooked(n.newClusterClient(u))
	// Reads need no hook: Read bounds and reports them itself.
	n.batched = n.newClusterClient(u)
	n.small = &plainReader{client: n.batched, node: n}
	return n, nil
}

// NewSentinel returns the master that the sentinels at these addresses know by
// the given name, as one node, whose name it is unless the first address has one
// of its own. Credentials in the first address are for the sentinels; those in
// the options are for the master, and so are database and weight of the first
// address.
func NewSentinel(master string, sentinels []Address, o Options, availability Availability) (*Node, error) {
	if err := checkSeeds(sentinels); err != nil {
		return nil, err
	}
	if master == "" {
		return nil, errors.New("shard: the name of the sentinels' master must not be empty")
	}
	first := sentinels[0]
	n, err := newNode(first.nameOr(master), first.String(), first.Weight, o, availability)
	if err != nil {
		return nil, err
	}
	u := redisOptions(sentinels, o, n.timeout, nil)
	u.MasterName = master
	u.Username, u.Password = o.Username, o.Password
	u.SentinelUsername, u.SentinelPassword = first.username, first.password
	n.openBatched(u)
	for _, c := range []redis.UniversalClient{n.client, n.bulk, n.batched} {
		c.AddHook(dialHook{n})
	}
	return n, nil
}

func checkSeeds(addrs []Address) error {
	if len(addrs) == 0 {
		return errors.New("shard: at least one address is needed")
	}
	for _, a := range addrs {
		if a.network() != "tcp" {
			return errors.New("shard: members of a cluster and sentinels cannot be at Unix sockets")
		}
	}
	return nil
}

func newNode(name, address string, weight float64, o Options, availability Availability) (*Node, error) {
	timeout, err := o.timeout()
	if err != nil {
		return nil, err
	}
	if weight == 0 {
		weight = 1
	}
	if !(weight > 0) || math.IsInf(weight, 0) {
		return nil, fmt.Errorf("shard: the weight of node %q must be above 0, not %v", name, weight)
	}
	return &Node{name: name, address: address, weight: weight, timeout: timeout, availability: availability}, nil
}

// openBatched makes the clients of a node whose reads can go in batches.
func (n *Node) openBatched(u *redis.UniversalOptions) {
	n.client, n.bulk = n.hooked(redis.NewUniversalClient(u)), n.hooked(redis.NewUniversalClient(u))

	// No caller waits for longer than the node's time-out, but the connection that
	// they share lives on through short stalls (a fork, a slow command), and nobody
	// has to dial then.
	b := *u
	b.ReadTimeout, b.WriteTimeout = 5*n.timeout, 5*n.timeout
	b.ReadBufferSize = 64 << 10
	n.batched = redis.NewUniversalClient(&b)
	n.batches = newBatchReader(n.batched, n.timeout)
	n.small = n.batches
}

func (n *Node) newClusterClient(u *redis.UniversalOptions) redis.UniversalClient {
	c := u.Cluster()
	// A command goes to the master that has its keys, and fails if that are
	// several: with routing policies go-redis would split it, and make a partial
	// failure of it.
	c.DisableRoutingPolicies = true
	client := redis.NewClusterClient(c)
	client.AddHook(redirectHook{cluster: client})
	client.OnNewNode(func(member *redis.Client) {
		member.AddHook(redirectHook{client, member})
		member.AddHook(memberHook{n, member.Options().Addr})
	})
	return client
}

func (n *Node) hooked(c redis.UniversalClient) redis.UniversalClient {
	c.AddHook(commandHook{n})
	return c
}

// Name returns the node's name, by which keys find it.
func (n *Node) Name() string { return n.name }

// Address returns the URL of the node, or of the first of its addresses,
// without credentials.
func (n *Node) Address() string { return n.address }

// Weight returns the node's share of the keys, relative to the others'.
func (n *Node) Weight() float64 { return n.weight }

// Timeout returns the longest that one operation on the node may take.
func (n *Node) Timeout() time.Duration { return n.timeout }

// Client returns the client for small commands. Each command or pipeline ends
// within the node's time-out, except for those that wait at the server on
// purpose (BLPOP, XREAD with BLOCK, …); its outcome is reported.
func (n *Node) Client() redis.UniversalClient { return n.client }

// Bulk returns a client as Client does, with connections of its own: for
// writes and for values over 64 KiB, so that small commands never wait behind
// them.
func (n *Node) Bulk() redis.UniversalClient { return n.bulk }

// Read returns the value of a key and, read at the same time in the same round
// trip, that of another one, which many reads have in common; nil for a key that
// does not exist or holds no string. Without another, beside is "". It ends
// within the node's time-out. Both values are read only: they may be shared with
// others who ask for the same at that time. In a Redis Cluster the keys must share
// a slot. For values over 64 KiB see ReadBulk.
func (n *Node) Read(ctx context.Context, key, beside string) (value, other []byte, err error) {
	v, other, err := n.Borrow(ctx, key, beside)
	return v.Bytes, other, err
}

// Borrow is Read for callers that give the memory of the value back, if it was lent.
func (n *Node) Borrow(ctx context.Context, key, beside string) (value Value, other []byte, err error) {
	value, other, err = n.small.read(n.With(ctx), key, beside)
	n.report(Classify(ctx, err), err)
	if err != nil {
		return Value{}, nil, fmt.Errorf("reading from node %q: %w", n.name, err)
	}
	return value, other, nil
}

// ReadBulk returns the values of keys, as Read does, for large values: on a
// connection of its own, so that no small read waits behind it.
func (n *Node) ReadBulk(ctx context.Context, keys ...string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	values, err := readAll(n.With(ctx), n.bulk, keys) // bounded and reported by its client's hook
	if err != nil {
		return nil, fmt.Errorf("reading from node %q: %w", n.name, err)
	}
	return values, nil
}

// Subscribe returns a subscription to channels, with a connection of its own
// that is dialed now. It does not wait for the server's answer, and what
// happens to it is not reported. A silent one may be dead: receive by
// Receive and send pings. Channel is not to be trusted with a stalled
// server, nor with a full buffer. The caller closes it.
func (n *Node) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	bounded, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	return n.client.Subscribe(bounded, channels...)
}

// Receive returns what comes next on a subscription, as its ReceiveTimeout does. What
// is no message is an error here: at some of it go-redis panics.
func Receive(ctx context.Context, sub *redis.PubSub, timeout time.Duration) (msg any, err error) {
	defer func() {
		if r := recover(); r != nil {
			msg, err = nil, fmt.Errorf("shard: what a server sent is no message: %v", r)
		}
	}()
	return sub.ReceiveTimeout(ctx, timeout)
}

// Close closes all connections, but for those that Hold keeps. Reads that are under
// way fail; for those on a server that stands still it may wait up to some ten times
// the time-out.
func (n *Node) Close() error {
	if n.whole != nil {
		if n.whole.parts.Add(-1) > 0 {
			return nil
		}
		return n.whole.Close()
	}
	var errs []error
	clients := []redis.UniversalClient{n.client, n.batched}
	if n.holds.close() {
		clients = append(clients, n.bulk)
	}
	for _, c := range clients {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if n.batches != nil {
		n.batches.close()
	}
	return errors.Join(errs...)
}

func (n *Node) report(o Outcome, err error) {
	if o == Refused {
		n.conns.outlived(err)
	}
	if n.availability != nil {
		n.availability.Report(n, o, err)
	}
}
