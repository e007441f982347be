package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// A victim is one server and a client for whoever harms it.
type victim struct {
	t       *testing.T
	server  *redistest.Server
	client  *redis.Client
	sleeper context.CancelFunc // ends a DEBUG SLEEP; nil if there is none
}

func newVictim(t *testing.T, s *redistest.Server) *victim {
	return &victim{t: t, server: s, client: s.Client(t)}
}

// do sends a command, which must succeed.
func (v *victim) do(args ...any) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 10*time.Second)
	defer cancel()
	// A connection may have been lost in a fault before this one: ask again.
	err := v.client.Do(ctx, args...).Err()
	for range 5 {
		if err == nil {
			return
		}
		err = v.client.Do(ctx, args...).Err()
	}
	if err != nil {
		v.t.Errorf("%v: %v", args, err)
	}
}

// begin does what can happen to any server, and reports whether f is such.
func (v *victim) begin(f fault) bool {
	switch f.kind {
	case "pause":
		v.server.Pause()
	case "full":
		v.do("config", "set", "maxmemory-policy", "noeviction", "maxmemory", "1mb")
	case "kill-clients":
		// Its own connection is of that type too; the answer still comes.
		v.do("client", "kill", "type", "normal", "skipme", "yes")
		if f.dice%2 == 0 {
			v.do("client", "kill", "type", "pubsub")
		}
	case "sleep":
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		v.sleeper = cancel
		client := v.server.Client(v.t)
		go client.Do(ctx, "debug", "sleep", f.long.Seconds()) //nolint:errcheck // another fault may end it
	case "flush":
		v.do("flushall")
	default:
		return false
	}
	return true
}

func (v *victim) end(f fault) {
	switch f.kind {
	case "pause":
		v.server.Resume()
	case "full":
		v.do("config", "set", "maxmemory", "0")
	case "sleep":
		v.do("ping")
		v.sleeper()
	}
}

// connections counts those of the Caddys.
func (v *victim) connections() int {
	list, err := v.client.ClientList(v.t.Context()).Result()
	if err != nil {
		v.t.Errorf("listing clients: %v", err)
	}
	return strings.Count(list, " name=caddy-fluster ")
}

// threeNodes are three independent servers, each behind a proxy.
type threeNodes struct {
	t       *testing.T
	victims []*victim
	proxies []*proxy
}

func openNodes(t *testing.T) world {
	w := &threeNodes{t: t}
	for range 3 {
		s := redistest.Start(t, "--enable-debug-command", "yes")
		w.victims = append(w.victims, newVictim(t, s))
		w.proxies = append(w.proxies, newProxy(t, s.Addr()))
	}
	return w
}

func (w *threeNodes) nodes() int  { return len(w.victims) }
func (w *threeNodes) shown() int  { return len(w.victims) }
func (w *threeNodes) apart() bool { return false }

func (w *threeNodes) urls(without int) (urls []string) {
	for i, p := range w.proxies {
		if i != without {
			urls = append(urls, fmt.Sprintf("redis://%s?name=%c", p.addr(), 'a'+i))
		}
	}
	return urls
}

func (w *threeNodes) option() string { return "nodes " + strings.Join(w.urls(-1), " ") }

func (w *threeNodes) reload(without int) (path, value string) {
	b, err := json.Marshal(w.urls(without))
	if err != nil {
		w.t.Error(err)
	}
	return "nodes", string(b)
}

func (w *threeNodes) kinds() []string {
	return []string{
		"kill", "kill-old-data", "restart-empty", "restart-old", "pause", "full", "read-only", "kill-clients", "sleep", "flush",
		"swallow", "delay", "cut", "reset", "babble", "all-swallow", "reload", "origin-fails",
	}
}

func (w *threeNodes) begin(f fault) {
	if f.kind == "all-swallow" {
		for _, p := range w.proxies {
			p.set(swallowing, 0)
		}
		return
	}
	v, p := w.victims[f.node], w.proxies[f.node]
	switch f.kind {
	case "kill":
		v.server.Kill()
	case "kill-old-data", "restart-old":
		// What is lost is what comes between this and the end.
		v.server.Save()
		if f.kind == "kill-old-data" {
			v.server.Kill()
		}
	case "restart-empty":
		v.server.Restart()
	case "read-only":
		v.do("replicaof", "127.0.0.1", "1")
	case "swallow":
		p.set(swallowing, 0)
	case "delay":
		p.set(delaying, time.Duration(20+f.dice%150)*time.Millisecond)
	case "cut":
		p.set(cutting, 0)
	case "reset":
		p.set(resetting, 0)
	case "babble":
		p.set(babbling, 0)
	default:
		v.begin(f)
	}
}

func (w *threeNodes) end(f fault) {
	if f.kind == "all-swallow" {
		for _, p := range w.proxies {
			p.set(passing, 0)
		}
		return
	}
	v, p := w.victims[f.node], w.proxies[f.node]
	switch f.kind {
	case "kill":
		v.server.Restart()
	case "kill-old-data", "restart-old":
		v.server.RestartWithData()
	case "read-only":
		v.do("replicaof", "no", "one")
	case "swallow", "delay", "cut", "reset", "babble":
		p.set(passing, 0)
	default:
		v.end(f)
	}
}

func (w *threeNodes) connections() (n int) {
	for _, v := range w.victims {
		n += v.connections()
	}
	return n
}

func (w *threeNodes) publish(node int, message string) int64 {
	n, _ := w.victims[node].client.Publish(w.t.Context(), "fluster:invalidate", message).Result()
	return n
}

func (w *threeNodes) common(applied []string, well []bool, shows ...map[string]nodeStatus) bool {
	for i := range w.victims {
		name := string(rune('a' + i))
		if well[i] && slices.Contains(applied, name) && !slices.ContainsFunc(shows, func(s map[string]nodeStatus) bool { return s[name].State != "up" }) {
			return true
		}
	}
	return false
}
