package chaos

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

func (r *queueRun) perform(faults []fault) {
	start := time.Now()
	for _, s := range steps(faults) {
		pass(r.t, time.Until(start.Add(s.at)))
		if s.ends {
			r.end(s.fault)
			r.trouble.end(s.fault)
			continue
		}
		r.trouble.begin(s.fault)
		r.ledger.fault(s.fault.kind)
		r.begin(s.fault)
	}
}

// begin does what is the same in all modes, or has the world do it.
func (r *queueRun) begin(f fault) {
	switch f.kind {
	case "caddy-kill":
		r.replace(f.dice, func(c *process) {
			r.lastWords(c.life)
			r.ledger.hold(c.life)
			c.Kill()
			r.ledger.letGo(c.life)
		})
	case "caddy-pause":
		c := r.caddy(f.dice)
		r.ledger.hold(c.life)
		c.Signal(syscall.SIGSTOP)
		r.ledger.letGo(c.life)
		pass(r.t, stopped)
		r.ledger.stood(c.life, stopped)
		c.Signal(syscall.SIGCONT)
	case "caddy-reload":
		r.reload(r.caddy(f.dice), "21ms")
	case "upstream-down":
		r.ledger.down.Store(true)
	case "upstream-slow":
		r.ledger.slow.Store(int64(3 * visibility))
	case "script-flush":
		r.redis("script", "flush")
	case "group-destroy":
		for _, key := range r.streams() {
			r.redis("xgroup", "destroy", key, "fluster")
		}
	default:
		r.world.begin(f)
	}
}

func (r *queueRun) end(f fault) {
	switch f.kind {
	case "caddy-kill", "caddy-pause", "script-flush", "group-destroy":
	case "caddy-reload":
		r.reload(r.caddy(f.dice), "20ms")
	case "upstream-down":
		r.ledger.down.Store(false)
	case "upstream-slow":
		r.ledger.slow.Store(0)
	default:
		r.world.end(f)
	}
}

// replace ends one of the Caddys and starts another.
func (r *queueRun) replace(dice uint64, end func(c *process)) {
	r.mu.Lock()
	i := dice % uint64(len(r.caddies))
	old := r.caddies[i]
	r.mu.Unlock()
	end(old)
	c := r.startCaddy()
	r.mu.Lock()
	r.caddies[i] = c
	r.mu.Unlock()
}

// reload gives a Caddy another configuration, which differs in the first wait
// before a retry.
func (r *queueRun) reload(c *process, first string) {
	a := c.admin(context.Background(), http.MethodGet, "/config/", "")
	config := strings.NewReplacer(`"first":20000000`, `"first":21000000`, `"first":21000000`, `"first":20000000`).Replace(string(a.body))
	c.reloaded.Store(time.Now().UnixNano())
	if a := c.admin(context.Background(), http.MethodPost, "/load", config); a.err != nil || a.status != http.StatusOK {
		r.t.Errorf("reloading with %s: %d %s %v", first, a.status, bytes.TrimSpace(a.body), a.err)
	}
	c.reloaded.Store(time.Now().UnixNano())
}

// victims are all servers that can be asked.
func (r *queueRun) victims() (list []*victim) {
	switch w := r.world.(queueWorld).world.(type) {
	case *threeNodes:
		return w.victims
	case durableNodes:
		return w.victims
	case *clusterWorld:
		for _, s := range slices.SortedFunc(maps.Keys(w.victims), bySocket) {
			list = append(list, w.victims[s])
		}
	case *sentinelWorld:
		for _, s := range slices.SortedFunc(maps.Keys(w.victims), bySocket) {
			list = append(list, w.victims[s])
		}
	}
	return list
}

func bySocket(a, b *redistest.Server) int { return strings.Compare(a.Addr(), b.Addr()) }

// redis sends a command to each server; one that has another fault may not take it.
func (r *queueRun) redis(args ...any) {
	for _, v := range r.victims() {
		ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
		v.client.Do(ctx, args...) //nolint:errcheck // see above
		cancel()
	}
}

// streams returns the names of the queue's streams.
func (r *queueRun) streams() (names []string) {
	for p := range 8 {
		for _, lane := range []string{"s", "/high:s"} {
			names = append(names, fmt.Sprintf("{fluster:q:q:%d}:%s", p, lane))
		}
	}
	return names
}
