package redistest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const slotCount = 16384 // of every Redis Cluster

// clusterArgs make a cluster of one machine quick: a dead node is noticed
// after a second, and a replica follows at once. (Nodes do not list a replica
// before its offset grows, which a ping of its master makes it do.)
var clusterArgs = []string{
	"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000",
	"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
	"--repl-ping-replica-period", "1",
}

// A Cluster is a Redis Cluster that belongs to a test. Its methods fail that
// test when something goes wrong; they are not safe for concurrent use. They
// ask all nodes that run: resume those that are paused before.
type Cluster struct {
	// Nodes are all nodes: the first masters, then their replicas, in order.
	// A node that is to come back keeps its place in the cluster only with
	// RestartWithData.
	Nodes []*Server

	tb      testing.TB
	clients map[*Server]*redis.Client
}

// A shard is a master and its replicas, as a node sees them, by address.
type shard struct {
	first, last int // slots
	nodes       []string
}

// StartCluster runs a cluster of so many masters, each with so many replicas,
// and returns when every node finds the cluster complete. Electing a new
// master takes a majority of the old ones: tests that kill one need three.
// args are further redis-server arguments for each node.
func StartCluster(tb testing.TB, masters, replicas int, args ...string) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb, clients: make(map[*Server]*redis.Client)}
	for range masters * (1 + replicas) {
		s := Start(tb, slices.Concat(clusterArgs, args)...)
		c.Nodes = append(c.Nodes, s)
		c.clients[s] = s.Client(tb)
	}
	ctx, cancel := context.WithTimeout(context.Background(), electionTimeout)
	defer cancel()
	for i, s := range c.Nodes {
		s.check(c.introduce(ctx, i, masters))
	}
	c.wait("the nodes of the cluster to know each other", func(ctx context.Context, s *Server) error {
		return expectInfo(c.clients[s].ClusterInfo(ctx), fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes)))
	})
	for i, s := range c.Nodes[masters:] {
		c.replicate(s, c.Nodes[i/replicas])
	}
	c.WaitReady()
	return c
}

// introduce gives node i its slots and makes it known to node 0.
func (c *Cluster) introduce(ctx context.Context, i, masters int) error {
	client := c.clients[c.Nodes[i]]
	if i < masters {
		first, last := i*slotCount/masters, (i+1)*slotCount/masters-1
		if err := client.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return fmt.Errorf("giving slots to cluster node %d: %w", i, err)
		}
	}
	// Without epochs of their own, nodes settle whose is whose in time.
	if err := client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
		return fmt.Errorf("setting the epoch of cluster node %d: %w", i, err)
	}
	host, port, _ := strings.Cut(c.Nodes[0].Addr(), ":")
	if err := client.ClusterMeet(ctx, host, port).Err(); err != nil {
		return fmt.Errorf("introducing cluster node %d: %w", i, err)
	}
	return nil
}

// replicate makes s a replica of master.
func (c *Cluster) replicate(s, master *Server) {
	c.tb.Helper()
	waitFor(c.tb, "making a replica", func(ctx context.Context) error {
		id, err := c.clients[master].ClusterMyID(ctx).Result()
		if err != nil {
			return err
		}
		return c.clients[s].ClusterReplicate(ctx, id).Err()
	})
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Nodes {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Client returns a client of the cluster, which is closed when the test ends.
func (c *Cluster) Client(tb testing.TB) *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), Password: c.Nodes[0].process.password, DialTimeout: dialTimeout,
		ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// WaitReady returns when all nodes that run find the cluster in order, agree
// on its shards, and all replicas follow their masters.
func (c *Cluster) WaitReady() {
	c.tb.Helper()
	c.wait("the cluster to be in order", func(ctx context.Context, s *Server) error {
		if err := expectInfo(c.clients[s].ClusterInfo(ctx), "cluster_state:ok"); err != nil {
			return err
		}
		info := c.clients[s].Info(ctx, "replication")
		if err := expectInfo(info, "role:master"); err != nil {
			if err := expectInfo(info, "master_link_status:up"); err != nil {
				return err
			}
		}
		return c.expectAgreement(ctx, s)
	})
}

// Master returns the node that holds the slot of key.
func (c *Cluster) Master(key string) *Server {
	c.tb.Helper()
	return c.shardOf(key)[0]
}

// Replicas returns the nodes that replicate the slot of key.
func (c *Cluster) Replicas(key string) []*Server {
	c.tb.Helper()
	return c.shardOf(key)[1:]
}

// KillMaster kills the node that holds the slot of key, and returns it when
// all others agree that a replica of it has taken over.
func (c *Cluster) KillMaster(key string) *Server {
	c.tb.Helper()
	old := c.Master(key)
	old.Kill()
	c.waitMoved(key, old)
	return old
}

// Failover makes a replica take the slot of key over from its master, which
// goes on as a replica, and returns the new master when all nodes agree.
func (c *Cluster) Failover(key string) *Server {
	c.tb.Helper()
	nodes := c.shardOf(key)
	if len(nodes) < 2 {
		c.tb.Fatalf("the master of %q has no replica", key)
	}
	ctx, cancel := context.WithTimeout(context.Background(), electionTimeout)
	defer cancel()
	nodes[1].check(c.clients[nodes[1]].ClusterFailover(ctx).Err())
	c.waitMoved(key, nodes[0])
	return c.Master(key)
}

// waitMoved returns when every node that runs names another master than old
// for the slot of key, and the cluster is in order.
func (c *Cluster) waitMoved(key string, old *Server) {
	c.tb.Helper()
	c.wait("another node to become master", func(ctx context.Context, s *Server) error {
		nodes, err := c.shardSeenBy(ctx, s, key)
		if err == nil && nodes[0] == old {
			err = fmt.Errorf("%s still names %s", s.Addr(), old.Addr())
		}
		return err
	})
	c.WaitReady()
}

// wait calls ready for each node that runs until none returns an error.
func (c *Cluster) wait(what string, ready func(ctx context.Context, s *Server) error) {
	c.tb.Helper()
	waitFor(c.tb, "waiting for "+what, func(ctx context.Context) error {
		for _, s := range c.running() {
			if err := ready(ctx, s); err != nil {
				return fmt.Errorf("node %s: %w", s.Addr(), err)
			}
		}
		return nil
	})
}

func (c *Cluster) running() []*Server {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(s *Server) bool { return s.PID() == 0 })
}

// shardOf returns the master and the replicas of the slot of key.
func (c *Cluster) shardOf(key string) []*Server {
	c.tb.Helper()
	var nodes []*Server
	waitFor(c.tb, "asking for the shard of a key", func(ctx context.Context) error {
		var err error
		nodes, err = c.shardSeenBy(ctx, c.running()[0], key)
		return err
	})
	return nodes
}

// shardSeenBy returns what node s holds for the shard of key's slot.
func (c *Cluster) shardSeenBy(ctx context.Context, s *Server, key string) ([]*Server, error) {
	slot, err := c.clients[s].ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	shards, err := c.shards(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, sh := range shards {
		if sh.first <= int(slot) && int(slot) <= sh.last {
			return c.servers(sh.nodes)
		}
	}
	return nil, fmt.Errorf("slot %d has no node", slot)
}

// expectAgreement returns nil when s sees the shards as the first node does.
func (c *Cluster) expectAgreement(ctx context.Context, s *Server) error {
	first, err := c.shards(ctx, c.running()[0])
	if err != nil {
		return err
	}
	own, err := c.shards(ctx, s)
	if err != nil {
		return err
	}
	seen := 0
	for _, sh := range own {
		seen += len(sh.nodes)
	}
	if fmt.Sprint(first) != fmt.Sprint(own) || seen < len(c.running()) {
		return fmt.Errorf("it sees %v, another %v", own, first)
	}
	return nil
}

// shards returns the shards as s sees them: by slot, masters first, replicas
// by address.
func (c *Cluster) shards(ctx context.Context, s *Server) ([]shard, error) {
	slots, err := c.clients[s].ClusterSlots(ctx).Result()
	if err != nil {
		return nil, err
	}
	var shards []shard
	for _, slot := range slots {
		sh := shard{first: slot.Start, last: slot.End}
		for _, node := range slot.Nodes {
			sh.nodes = append(sh.nodes, node.Addr)
		}
		if len(sh.nodes) == 0 {
			return nil, errors.New("a slot without a node")
		}
		slices.Sort(sh.nodes[1:])
		shards = append(shards, sh)
	}
	slices.SortFunc(shards, func(a, b shard) int { return cmp.Compare(a.first, b.first) })
	return shards, nil
}

// servers returns the cluster's servers with these addresses, in their order.
func (c *Cluster) servers(addrs []string) ([]*Server, error) {
	var servers []*Server
	for _, addr := range addrs {
		i := slices.IndexFunc(c.Nodes, func(s *Server) bool { return s.Addr() == addr })
		if i < 0 {
			return nil, fmt.Errorf("node %s is none of this cluster", addr)
		}
		servers = append(servers, c.Nodes[i])
	}
	return servers, nil
}

// expectInfo returns nil when one line of an INFO-like answer is want.
func expectInfo(info *redis.StringCmd, want string) error {
	text, err := info.Result()
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(text, "\r\n"), want) {
		return fmt.Errorf("no %s in %q", want, text)
	}
	return nil
}
