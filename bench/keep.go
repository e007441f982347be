package main

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

func init() {
	caddy.RegisterModule(keep{})
	httpcaddyfile.RegisterHandlerDirective("bench_keep", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		k := new(keep)
		return k, k.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_keep", httpcaddyfile.Before, "reverse_proxy")
}

// keep is the least that any cache does at a miss: it looks up, and copies the header
// and the body and keeps them. It knows nothing of what may be kept, for whom and for
// how long, of others who want the same, nor of clients that hang up; and it never
// serves what it has.
//
// With a node it asks there as well, in batches, and stores the body there behind the
// request, again in batches: by the client of ours, than which none was found that takes
// less.
type keep struct {
	Redis string `json:"redis,omitempty"`

	cache  *otter.Cache[string, *kept]
	node   *shard.Node
	stores chan store
}

// store is what is to be stored on the node.
type store struct {
	key  string
	body []byte
}

// kept is a response.
type kept struct {
	http.ResponseWriter
	header http.Header
	body   []byte
}

// CaddyModule returns the module's information.
func (keep) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_keep", New: func() caddy.Module { return new(keep) }}
}

// UnmarshalCaddyfile reads `bench_keep [<redis>]`.
func (k *keep) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		k.Redis = d.Val()
	}
	return nil
}

// Provision makes a cache as large as the near cache is by default.
func (k *keep) Provision(ctx caddy.Context) (err error) {
	k.cache, err = otter.New(&otter.Options[string, *kept]{
		MaximumWeight: 64 << 20,
		Weigher:       func(key string, r *kept) uint32 { return uint32(len(key) + len(r.body) + 1<<10) },
		Executor:      func(task func()) { task() }, // as the near cache does
	})
	if err != nil || k.Redis == "" {
		return err
	}
	address, err := shard.ParseAddress(k.Redis)
	if err != nil {
		return err
	}
	if k.node, err = shard.NewNode(address, shard.Options{}, nil); err != nil {
		return err
	}
	k.stores = make(chan store, 4096)
	go k.storeAll(ctx)
	return nil
}

// storeAll stores what waits, as much as there is in one round trip.
func (k *keep) storeAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-k.stores:
			_, _ = k.node.Bulk().Pipelined(ctx, func(p redis.Pipeliner) error { // what is not stored is not there
				for n := len(k.stores); ; n-- {
					p.Set(ctx, s.key, s.body, time.Hour)
					if n == 0 {
						return nil
					}
					s = <-k.stores
				}
			})
		}
	}
}

// ServeHTTP forwards, and keeps the response.
func (k *keep) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := r.Host + r.RequestURI
	k.cache.GetIfPresent(key)
	if k.node != nil {
		_, _, _ = k.node.Read(r.Context(), key, "head")
	}
	resp := &kept{ResponseWriter: w}
	err := next.ServeHTTP(resp, r)
	resp.ResponseWriter = nil
	k.cache.Set(key, resp)
	if k.node != nil {
		select {
		case k.stores <- store{key, resp.body}:
		default:
		}
	}
	return err
}

// WriteHeader copies the header.
func (r *kept) WriteHeader(status int) {
	r.header = r.Header().Clone()
	r.ResponseWriter.WriteHeader(status)
}

// Write copies a part of the body.
func (r *kept) Write(p []byte) (int, error) {
	r.body = append(r.body, p...)
	return r.ResponseWriter.Write(p)
}
