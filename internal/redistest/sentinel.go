package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const sentinelCount = 3 // two of which must agree

// sentinelConf is what a sentinel watches; it rewrites the file as it learns.
const sentinelConf = `sentinel monitor %[1]s 127.0.0.1 %[2]d 2
sentinel down-after-milliseconds %[1]s 1000
sentinel failover-timeout %[1]s 3000
sentinel parallel-syncs %[1]s 1
`

// Sentinels are a master, its replica, and three sentinels that watch both.
// They belong to a test, which their methods fail when something goes wrong;
// the methods are not safe for concurrent use.
type Sentinels struct {
	Name      string    // what the sentinels call the master
	Servers   []*Server // first the one that was master at the start, then its replica
	Sentinels []*Server // their Restart would lose whom they watch: use RestartWithData

	tb      testing.TB
	clients map[*Server]*redis.SentinelClient
}

// StartSentinel runs a master, a replica and three sentinels, and returns when
// the sentinels know each other and would fail over. args are further
// redis-server arguments for the master and its replica, without a password.
func StartSentinel(tb testing.TB, args ...string) *Sentinels {
	tb.Helper()
	g := &Sentinels{Name: "mymaster", tb: tb, clients: make(map[*Server]*redis.SentinelClient)}
	args = slices.Concat([]string{"--repl-diskless-sync-delay", "0"}, args)
	master := Start(tb, args...)
	replica := Start(tb, slices.Concat(args, []string{"--replicaof", "127.0.0.1", fmt.Sprint(master.process.Port())})...)
	g.Servers = []*Server{master, replica}
	for range sentinelCount {
		g.startOne(master.process.Port())
	}
	g.wait("the sentinels to know each other", func(ctx context.Context, s *Server) error {
		seen, err := g.clients[s].Master(ctx, g.Name).Result()
		if err == nil && (seen["num-other-sentinels"] != fmt.Sprint(sentinelCount-1) || seen["num-slaves"] != "1" || seen["flags"] != "master") {
			err = fmt.Errorf("it sees %v", seen)
		}
		return err
	})
	g.WaitReady()
	return g
}

// startOne starts one more sentinel.
func (g *Sentinels) startOne(port int) {
	g.tb.Helper()
	dir := g.tb.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, sentinelConf, g.Name, port), 0o600); err != nil {
		g.tb.Fatal(err)
	}
	s := startIn(g.tb, dir, conf, "--sentinel")
	client := redis.NewSentinelClient(s.process.options())
	g.tb.Cleanup(func() { _ = client.Close() })
	// Sentinels ask for news every ten seconds, in milliseconds here. Servers
	// before version 7 cannot be told otherwise, and only take longer. The period
	// of their pings stays: a replica whose news are older than five of them is not
	// made master. One that was not run for two seconds, as on a busy machine, does
	// nothing for a while, which is half a minute if it is not told otherwise.
	hurry := redis.NewStatusCmd(g.tb.Context(), "sentinel", "debug",
		"info-period", 200, "publish-period", 200, "ask-period", 100, "tilt-period", 1000)
	_ = client.Process(g.tb.Context(), hurry)
	g.Sentinels = append(g.Sentinels, s)
	g.clients[s] = client
}

// Addrs returns the addresses of the sentinels.
func (g *Sentinels) Addrs() []string {
	var addrs []string
	for _, s := range g.Sentinels {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Client returns a client of whichever server is the master, which is closed
// when the test ends.
func (g *Sentinels) Client(tb testing.TB) *redis.Client {
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: g.Name, SentinelAddrs: g.Addrs(), DialTimeout: dialTimeout,
		ContextTimeoutEnabled: true, DisableIdentity: true,
	})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Master returns the server that the sentinels name as master.
func (g *Sentinels) Master() *Server {
	g.tb.Helper()
	var master *Server
	waitFor(g.tb, "asking a sentinel for the master", func(ctx context.Context) error {
		var err error
		master, err = g.masterSeenBy(ctx, g.running()[0])
		return err
	})
	return master
}

// KillMaster kills the master, and returns it when the other server has taken
// over and all sentinels name it.
func (g *Sentinels) KillMaster() *Server {
	g.tb.Helper()
	old := g.Master()
	old.Kill()
	g.wait("another server to become master", func(ctx context.Context, s *Server) error {
		return g.expectMoved(ctx, s, old)
	})
	return old
}

// Failover makes the replica the master, and the master its replica, and
// returns the new master when all sentinels name it.
func (g *Sentinels) Failover() *Server {
	g.tb.Helper()
	old, asked := g.Master(), g.running()[0]
	// A sentinel gives up where the replica takes too long, and does not try again
	// by itself; or another one undoes what it has not heard of. So one that names the
	// old master is asked again. What is under way it does not begin anew.
	g.wait("another server to become master", func(ctx context.Context, s *Server) error {
		err := g.expectMoved(ctx, s, old)
		if err == nil || s != asked {
			return err
		}
		if master, e := g.masterSeenBy(ctx, s); e != nil || master != old {
			return err
		}
		return errors.Join(err, g.clients[s].Failover(ctx, g.Name).Err())
	})
	return g.Master()
}

// expectMoved returns nil when sentinel s names another master than old, and
// things are in order.
func (g *Sentinels) expectMoved(ctx context.Context, s, old *Server) error {
	master, err := g.masterSeenBy(ctx, s)
	if err == nil && master == old {
		err = fmt.Errorf("it still names %s", old.Addr())
	}
	if err != nil {
		return err
	}
	return g.expectReady(ctx, s)
}

// WaitReady returns when the master that all running sentinels name finds
// itself to be one, and the other server, if it runs, follows it, in the eyes
// of the sentinels too.
func (g *Sentinels) WaitReady() {
	g.tb.Helper()
	g.wait("the sentinels' servers to be in order", g.expectReady)
}

// expectReady returns nil when what sentinel s sees is in order.
func (g *Sentinels) expectReady(ctx context.Context, s *Server) error {
	master, err := g.masterSeenBy(ctx, s)
	if err != nil {
		return err
	}
	for _, server := range g.Servers {
		if server.PID() == 0 {
			continue
		}
		want := "master_link_status:up"
		if server == master {
			want = "role:master"
		}
		if err := server.expectReplication(ctx, want); err != nil {
			return err
		}
	}
	return g.expectReplica(ctx, s)
}

// expectReplica returns nil when sentinel s could promote the replica, if one
// runs.
func (g *Sentinels) expectReplica(ctx context.Context, s *Server) error {
	if slices.ContainsFunc(g.Servers, func(s *Server) bool { return s.PID() == 0 }) {
		return nil
	}
	replicas, err := g.clients[s].Replicas(ctx, g.Name).Result()
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if r["flags"] == "slave" && r["master-link-status"] == "ok" {
			return nil
		}
	}
	return fmt.Errorf("it sees no good replica in %v", replicas)
}

// wait calls ready for each sentinel that runs until none returns an error.
func (g *Sentinels) wait(what string, ready func(ctx context.Context, s *Server) error) {
	g.tb.Helper()
	waitFor(g.tb, "waiting for "+what, func(ctx context.Context) error {
		for _, s := range g.running() {
			if err := ready(ctx, s); err != nil {
				return fmt.Errorf("sentinel %s: %w", s.Addr(), err)
			}
		}
		return nil
	})
}

// running returns the sentinels that run.
func (g *Sentinels) running() []*Server {
	return slices.DeleteFunc(slices.Clone(g.Sentinels), func(s *Server) bool { return s.PID() == 0 })
}

// masterSeenBy returns the server that sentinel s names as master.
func (g *Sentinels) masterSeenBy(ctx context.Context, s *Server) (*Server, error) {
	addr, err := g.clients[s].GetMasterAddrByName(ctx, g.Name).Result()
	if err != nil {
		return nil, err
	}
	if len(addr) != 2 {
		return nil, errors.New("no address of the master: " + strings.Join(addr, " "))
	}
	for _, server := range g.Servers {
		if server.Addr() == net.JoinHostPort(addr[0], addr[1]) {
			return server, nil
		}
	}
	return nil, fmt.Errorf("master %v is none of these", addr)
}

// expectReplication returns nil when want is a line of the server's INFO
// replication.
func (s *Server) expectReplication(ctx context.Context, want string) error {
	client := redis.NewClient(s.process.options())
	defer func() { _ = client.Close() }()
	return expectInfo(client.Info(ctx, "replication"), want)
}
