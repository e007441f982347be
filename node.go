package fluster

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// The node bounds each command by its time-out itself, and tells the penalty box
// how it ended. A context with a deadline of its own is for what must not take
// longer as a whole; a time-out by it says nothing about the node.

// node is one node with all that belongs to it in this process: its clients,
// its journal as far as it was read, its place in the penalty box, and three
// goroutines: the keeper, the listener and the writer. It is shared by all
// configurations that name it.
type node struct {
	*shard.Node
	state    *poolState
	seat     *seat
	view     *journal.View
	journal  journalOn
	headKey  string // of the journal's head
	channel  string // where users publish
	forwards string // where processes tell of forwards that others wait for
	timeout  time.Duration
	writes   *writeQueue
	own      history     // of an independent node
	gone     atomic.Bool // it was taken out of the configuration
	unmarked atomic.Bool // its journal may lack the mark of some that are away

	label  string                 // what users call it: its name, or that of its cluster
	family atomic.Pointer[family] // of a part of a cluster: all its parts
	known  sync.Once              // to the book
	once   sync.Once
	key    string
	wake   chan struct{} // asks the keeper to read the journal now
	tried  chan struct{} // closed when the keeper has tried the node for the first time
	end    context.CancelFunc
	wg     sync.WaitGroup

	listening  chan struct{} // closed when the listener then has begun to listen, or could not
	listenOnce sync.Once     // to close it

	reads   singleflight.Group
	filling chan struct{} // holds a token for each fill that writes
	reading chan struct{} // holds a token while somebody reads the journal; guards forks
	forks   []time.Time   // when the journal was another one, the last times
}

// newNode returns the node of bucket number n; an independent node has bucket 0.
func newNode(sn *shard.Node, n int, key string, state *poolState, c *PoolConfig) *node {
	label, length := sn.Name(), lengthFor(len(c.Nodes))
	if len(c.Cluster) > 0 {
		length = lengthFor(clusterParts)
		label = strings.TrimSuffix(label, "/"+strconv.Itoa(n))
	}
	j := journalOn{node: sn, bucket: newBucket(c.Namespace, n), number: n, channel: journalChannel(c.Namespace), length: length}
	if len(c.Cluster) > 0 || c.Sentinel != nil {
		j.replicas = new(replicas)
	}
	return &node{
		Node: sn, label: label, key: key, state: state, seat: state.box.admit(sn), journal: j, headKey: j.bucket.head(),
		channel: c.Channel, forwards: forwardsChannel(c.Namespace), timeout: time.Duration(c.Timeout),
		writes: newWriteQueue(),
		wake:   make(chan struct{}, 1), tried: make(chan struct{}), listening: make(chan struct{}),
		filling: make(chan struct{}, fillers), reading: make(chan struct{}, 1),
	}
}

// introduce makes the node known to the book, once. It comes before the start of any
// of its siblings, whose listener hears for them all.
func (n *node) introduce() {
	n.known.Do(func() { n.view = n.state.book.AddNode(n.key) })
}

// start starts the node's goroutines, once, when it was introduced.
func (n *node) start() {
	n.once.Do(func() {
		ctx, end := context.WithCancel(context.Background())
		n.end = end
		n.wg.Go(func() { n.keep(ctx) })
		if n.journal.number == 0 {
			n.wg.Go(func() { n.listen(ctx) }) // for its siblings too
		}
		n.wg.Go(func() { n.write(ctx) })
	})
}

// Destruct ends the goroutines and closes the clients.
func (n *node) Destruct() error {
	n.once.Do(func() {}) // never started: never to be
	if n.end != nil {
		n.end()
	}
	err := n.Close()
	n.wg.Wait()
	n.state.box.dismiss(n.Node)
	n.state.book.RemoveNode(n.key)
	if !n.state.has(n.Name()) {
		metrics.nodeUp.DeleteLabelValues(n.state.name, n.Name())
	}
	return err
}

// inUse reports whether the node may be read from and written to.
func (n *node) inUse() bool { return n.seat.available.Load() }

// isPart reports whether the node is a part of a Redis Cluster.
func (n *node) isPart() bool { return n.label != n.Name() }

// ask wakes the keeper.
func (n *node) ask() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
