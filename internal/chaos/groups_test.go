package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A group is servers that decide among themselves which of them is a master.
// Faults are about whoever is the master when they begin.
type group struct {
	t       *testing.T
	victims map[*redistest.Server]*victim
	hurt    map[int]*redistest.Server // by node: to whom the fault happens
}

func newGroup(t *testing.T, servers []*redistest.Server) group {
	g := group{t: t, victims: map[*redistest.Server]*victim{}, hurt: map[int]*redistest.Server{}}
	for _, s := range servers {
		g.victims[s] = newVictim(t, s)
	}
	return g
}

// begin does to a server what can happen to any.
func (g *group) begin(f fault, s *redistest.Server) {
	g.hurt[f.node] = s
	g.victims[s].begin(f)
}

// end undoes it, and brings back who was killed.
func (g *group) end(f fault) {
	s := g.hurt[f.node]
	if f.kind == "kill-master" {
		s.RestartWithData()
		return
	}
	g.victims[s].end(f)
}

func (g *group) connections() (n int) {
	for _, v := range g.victims {
		n += v.connections()
	}
	return n
}

// reload changes what only the penalties are about: these nodes stay.
func (g *group) reload(without int) (path, value string) {
	if without < 0 {
		return "penalty", `{"first":"100ms","longest":"400ms"}`
	}
	return "penalty", `{"first":"120ms","longest":"400ms"}`
}

// publish tells nobody: a message has to come by the server that a Caddy
// listens on, and who that is changes.
func (g *group) publish(int, string) int64 { return 0 }

func (g *group) apart() bool { return true }
func (g *group) shown() int  { return 1 }

// clusterWorld is a Redis Cluster of three masters and their replicas. Node i is
// who has the slot of keys[i].
type clusterWorld struct {
	group
	cluster *redistest.Cluster
	keys    []string
}

func openCluster(t *testing.T) world {
	c := redistest.StartCluster(t, 3, 1, "--enable-debug-command", "yes")
	w := &clusterWorld{group: newGroup(t, c.Nodes), cluster: c}
	for i := range 3 {
		for n := 0; len(w.keys) == i; n++ {
			if key := fmt.Sprint("anchor", n); c.Master(key) == c.Nodes[i] {
				w.keys = append(w.keys, key)
			}
		}
	}
	return w
}

func (w *clusterWorld) nodes() int { return len(w.keys) }

func (w *clusterWorld) option() string {
	return fmt.Sprintf("cluster %s %s", w.cluster.Nodes[0].URL(), w.cluster.Nodes[1].URL())
}

func (w *clusterWorld) kinds() []string {
	return []string{"failover", "kill-master", "migrate", "pause", "full", "kill-clients", "sleep", "flush", "reload", "origin-fails"}
}

func (w *clusterWorld) begin(f fault) {
	key := w.keys[f.node]
	switch f.kind {
	case "failover":
		w.hurt[f.node] = w.cluster.Failover(key)
	case "kill-master":
		w.hurt[f.node] = w.cluster.KillMaster(key)
	case "migrate":
		for i := range 3 {
			bucket := fmt.Sprintf("{fluster:%d}", (f.dice+uint64(7*i))%64)
			w.migrate(bucket, w.cluster.Master(w.keys[(f.node+i)%3]))
		}
		w.hurt[f.node] = w.cluster.Master(key)
	default:
		w.group.begin(f, w.cluster.Master(key))
	}
}

func (w *clusterWorld) end(f fault) {
	w.group.end(f)
	if f.kind == "kill-master" {
		w.cluster.WaitReady()
	}
}

// migrate moves the slot of key to another master, while it is in use.
func (w *clusterWorld) migrate(key string, to *redistest.Server) {
	from := w.cluster.Master(key)
	if from == to {
		return
	}
	source, target := w.victims[from], w.victims[to]
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	slot := source.client.ClusterKeySlot(ctx, key).Val()
	sourceID, targetID := source.client.ClusterMyID(ctx).Val(), target.client.ClusterMyID(ctx).Val()
	target.do("cluster", "setslot", slot, "importing", sourceID)
	source.do("cluster", "setslot", slot, "migrating", targetID)
	host, port, _ := strings.Cut(to.Addr(), ":")
	for ctx.Err() == nil {
		keys := source.client.ClusterGetKeysInSlot(ctx, int(slot), 100).Val()
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", host, port, "", 0, 5000, "replace", "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		source.do(args...)
	}
	for _, v := range []*victim{target, source} {
		v.do("cluster", "setslot", slot, "node", targetID)
	}
	w.cluster.WaitReady()
}

// common: with so many parts in use in both, at most one master having a fault,
// there are parts that both use and that have what was applied.
func (w *clusterWorld) common(applied []string, well []bool, shows ...map[string]nodeStatus) bool {
	ill := 0
	for _, ok := range well {
		if !ok {
			ill++
		}
	}
	few := func(s map[string]nodeStatus) bool {
		for _, n := range s {
			return n.PartsUp < 40
		}
		return true
	}
	return ill <= 1 && len(applied) > 0 && !slices.ContainsFunc(shows, few)
}

// sentinelWorld is a master and its replica, which sentinels watch.
type sentinelWorld struct {
	group
	sentinels *redistest.Sentinels
}

func openSentinel(t *testing.T) world {
	s := redistest.StartSentinel(t, "--enable-debug-command", "yes")
	return &sentinelWorld{newGroup(t, s.Servers), s}
}

func (w *sentinelWorld) nodes() int { return 1 }

func (w *sentinelWorld) option() string {
	line := "sentinel " + w.sentinels.Name
	for _, addr := range w.sentinels.Addrs() {
		line += " redis://" + addr
	}
	return line
}

func (w *sentinelWorld) kinds() []string {
	kinds := []string{"switch-over", "pause", "full", "kill-clients", "sleep", "flush", "reload", "origin-fails"}
	if *lengthFlag > 0 {
		// Sentinels may take half a minute to replace a master that died.
		kinds = append(kinds, "kill-master")
	}
	return kinds
}

func (w *sentinelWorld) begin(f fault) {
	switch f.kind {
	case "switch-over":
		w.hurt[f.node] = w.sentinels.Failover()
	case "kill-master":
		w.hurt[f.node] = w.sentinels.KillMaster()
	default:
		w.group.begin(f, w.sentinels.Master())
	}
}

func (w *sentinelWorld) end(f fault) {
	w.group.end(f)
	if f.kind == "kill-master" {
		w.sentinels.WaitReady()
	}
}

// common: it is one node to both.
func (w *sentinelWorld) common(applied []string, well []bool, shows ...map[string]nodeStatus) bool {
	up := func(s map[string]nodeStatus) bool {
		for _, n := range s {
			return n.State == "up"
		}
		return false
	}
	return well[0] && len(applied) > 0 && !slices.ContainsFunc(shows, func(s map[string]nodeStatus) bool { return !up(s) })
}
