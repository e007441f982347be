// Package fluster is an HTTP response cache and a request queue for Caddy, on
// Redis servers that may die at any time.
//
// This package is the Caddy face. It alone imports Caddy, starts goroutines,
// logs, counts and reads configuration. The packages beneath it do what they
// are told:
//
//	httpcache  RFC 9111 and its relatives, as pure functions
//	stored     the stored response and its binary format
//	near       the hottest entries in this process, bounded by bytes
//	shard      the nodes: which one a key lies on, their clients, their outcomes
//	journal    what was invalidated, and which stored responses that kills
//	queue      messages on nodes: into it, out of it, dead letters
//
// A request flows through cache_handler.go:
//
//	request → key → near cache → node → origin → store
//
// and meets on its way:
//
//	cache_key.go       what makes two requests the same
//	cache_entry.go     what lies under a key
//	cache_vary.go      which variant of it a request selects
//	cache_lookup.go    looking up on a node
//	cache_store.go     storing on it, in the background; writequeue.go what waits, cache_storebatch.go what goes together
//	cache_serve.go     answering from what is stored; cache_told.go what each answer tells anew
//	cache_cork.go      letting it leave in one piece
//	cache_remains.go   what remains when it is answered
//	cache_range.go     parts of a stored response
//	cache_partial.go   stored parts of a response
//	cache_forward.go   asking the origin; cache_behind.go what the handlers behind are given
//	cache_freshen.go   what a 304 or a HEAD confirms; cache_later.go validating in the background
//	cache_pass.go      what is not looked up, and what unsafe methods change; cache_content.go what has content
//	cache_encode.go    compressing what is stored
//	cache_search.go    queries that mean the same (No-Vary-Search)
//	cache_alone.go     URLs whose responses are for nobody else; cache_sighted.go which of them were asked for once
//	cache_collapse.go  concurrent misses share one forward; cache_outlive.go which may outlive its client
//	cache_follow.go    those who did not ask for it
//	cache_cluster.go   and over several Caddys, by a lock (lock.go)
//	cache_stream.go    the body on its way through memory; cache_pace.go who sets the pace
//	cache_take.go      how a client takes it
//	cache_head.go      judging the origin's answer by its header
//	cache_writer.go    streaming it while a copy is kept; cache_finish.go, cache_keep.go its end,
//	                   cache_overtaken.go where another one was quicker
//	cache_fill.go      putting a long body on a node while it comes; cache_fillrun.go how it gets there
//	cache_chunks.go    serving it from there
//	cache_continue.go  the rest of a body, from the origin
//
// A request that is kept for later flows through queue_handler.go:
//
//	request → body → message → node → 202
//
// and then, in any Caddy, through queue_worker.go:
//
//	receive → deliver → done | tried again | dead letter
//
// with
//
//	queue_config.go    the options; queue_check.go what is wrong with them
//	queue_rules.go     what each request meets of them
//	queue_message.go   requests as messages, and back
//	queue_prefer.go    what the client prefers (RFC 7240)
//	queue_batch.go     one request, many messages
//	queue_wait.go      waiting for the upstream's own answer
//	queue_status.go    what became of a message
//	queue_refusal.go   why a request is not accepted
//	queue_pool.go      a queue's own connections to the nodes
//	queue_life.go      queues over config reloads and at exit
//	queue_running.go   their workers; queue_witness.go what these count, log and tell
//	queue_delivery.go  the options of delivering
//	queue_sign.go      signing it; queue_recorder.go what it is answered
//	queue_result.go    what comes of it
//	queue_callback.go  queues that are told of others
//
// Beside the requests, for each node (node.go): keeper.go puts it to use and keeps
// its journal proven, catchup.go reads that to its head and appends what it lacks,
// family.go polls the parts of a Redis Cluster together, penalty.go says when it
// sits out, away.go and newest.go what that means for what is stored,
// invalidation.go listens to it. journal_node.go has the scripts, keys.go the keys.
// What all configurations share, so that a reload loses nothing, is in pool.go, and
// which of them is in force in inforce.go.
//
// What users write is in config.go and cache_config.go, in a Caddyfile in caddyfile.go
// and the files that end in _caddyfile.go; reach.go warns of what no request can
// reach. What they ask is in admin.go, the files that begin with queue_admin, and
// command.go, what is counted and noted for them in metrics.go and history.go;
// invalidate.go is for Go, invalidate_handler.go for other machines.
package fluster

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Cache{})
	caddy.RegisterModule(Invalidate{})
	caddy.RegisterModule(Queue{})
	caddy.RegisterModule(adminAPI{})
	caddycmd.RegisterCommand(command)
	httpcaddyfile.RegisterGlobalOption("fluster", parseGlobalOption)
	// In this order they stand before reverse_proxy.
	httpcaddyfile.RegisterHandlerDirective("fluster_invalidate", parseInvalidateDirective)
	httpcaddyfile.RegisterDirectiveOrder("fluster_invalidate", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("fluster_queue", parseQueueDirective)
	httpcaddyfile.RegisterDirectiveOrder("fluster_queue", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterHandlerDirective("fluster_cache", parseCacheDirective)
	httpcaddyfile.RegisterDirectiveOrder("fluster_cache", httpcaddyfile.Before, "reverse_proxy")

	// go-redis writes to standard error by itself. What matters of that is told
	// by the penalty box, once.
	redis.SetLogger(&logging.VoidLogger{})
}

// App is the app `fluster`: the pools of Redis servers. The options of the
// default pool stand in it directly. Without any node the cache lives in this
// process alone.
type App struct {
	PoolConfig

	// Further pools by name, each with the same options.
	Pools map[string]*PoolConfig `json:"pools,omitempty"`

	corked map[*caddyhttp.Server]bool // whose connections may be corked
	pools  map[string]*pool
	queues map[string]*liveQueue // by name; complete when all handlers are provisioned
	ctx    caddy.Context
	logger *zap.Logger
	emit   emitFunc
}

// CaddyModule returns the module's information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "fluster", New: func() caddy.Module { return new(App) }}
}

// Provision checks the configuration and opens the pools. Nothing is sent to a
// node before Start, so that a configuration can be validated anywhere.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.emit = func(name string, data map[string]any) { events.(*caddyevents.App).Emit(ctx, "fluster."+name, data) }
	a.pools, a.corked = map[string]*pool{}, map[*caddyhttp.Server]bool{}
	repl := caddy.NewReplacer()
	registerMetrics(ctx.GetMetricsRegistry())
	configs := map[string]*PoolConfig{"": &a.PoolConfig}
	for name, c := range a.Pools {
		if name == "" || c == nil {
			return fmt.Errorf("a pool in pools needs a name and options")
		}
		configs[name] = c
	}
	for name, c := range configs {
		p, err := newPool(name, *c, repl, a.logger, a.emit)
		if err != nil && name != "" {
			return fmt.Errorf("pool %s: %w", name, err)
		}
		if err != nil {
			return err
		}
		a.pools[name] = p
	}
	return nil
}

// Start begins to use the nodes. A node that cannot be reached is no error: it
// is used when it comes.
func (a *App) Start() error {
	if err := a.startQueues(); err != nil {
		return err
	}
	for _, p := range a.pools {
		p.start()
	}
	enterApp(a)
	a.warnUnreachable(a.ctx)
	return nil
}

// Stop ends what this configuration has started. What the next one shares goes on.
func (a *App) Stop() error {
	withdrawApp(a)
	a.stopQueues()
	for _, p := range a.pools {
		p.stop()
	}
	return nil
}

// Cleanup lets go of what outlives a configuration, also after half a Provision.
func (a *App) Cleanup() error {
	a.closeQueues()
	for _, p := range a.pools {
		p.close()
	}
	return nil
}

// pool returns the pool with this name.
func (a *App) pool(name string) (*pool, error) {
	p, ok := a.pools[name]
	if !ok {
		return nil, fmt.Errorf("there is no pool %q: it is defined by `pool %s { … }` in the global option fluster", name, name)
	}
	return p, nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
