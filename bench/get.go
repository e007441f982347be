package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/redis/go-redis/v9"
)

func init() {
	caddy.RegisterModule(get{})
	httpcaddyfile.RegisterHandlerDirective("bench_get", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		g := new(get)
		return g, g.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_get", httpcaddyfile.Before, "respond")
}

// get answers each request with the value of a key, the request's URI, which it asks
// for by a GET of a plain client: what a cache on Redis without batches does at a hit,
// but for the rules of HTTP. Under the same load as ours it has the same share of the
// machine, and Redis finds as little in the processor's caches.
type get struct {
	Redis string `json:"redis"`

	client *redis.Client
}

// CaddyModule returns the module's information.
func (get) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_get", New: func() caddy.Module { return new(get) }}
}

// UnmarshalCaddyfile reads `bench_get <redis>`.
func (g *get) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&g.Redis) {
		return d.ArgErr()
	}
	return nil
}

// Provision makes the client, which has as many connections as there are requests at
// a time.
func (g *get) Provision(caddy.Context) error {
	o, err := redis.ParseURL(g.Redis)
	if err != nil {
		return err
	}
	o.PoolSize = connections
	g.client = redis.NewClient(o)
	return nil
}

// Cleanup closes it.
func (g *get) Cleanup() error { return g.client.Close() }

// ServeHTTP answers.
func (g *get) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	body, err := g.client.Get(r.Context(), r.RequestURI).Bytes()
	if err != nil {
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	h := w.Header()
	for _, l := range hitLines {
		h[l.name] = []string{l.value}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, err = w.Write(body)
	return err
}

// startGet starts a Caddy that answers by plain GETs from a Redis server, in which is
// a body of this size for each of the URLs that a load asks for.
func (l *Lab) startGet(server *Process, size, urls int) (*Process, string, error) {
	client := redis.NewClient(&redis.Options{Addr: server.redis.Addr()})
	defer client.Close() //nolint:errcheck // nothing is under way
	names := make([]string, urls)
	for i := range names {
		names[i] = fmt.Sprintf("/?%d", i+1)
	}
	if err := setAll(client, names, size); err != nil {
		return nil, "", err
	}
	return l.startCaddy("get", "", "bench_get "+server.redis.URL())
}

// setAll sets keys to values of so many bytes.
func setAll(client *redis.Client, names []string, size int) error {
	_, err := client.Pipelined(context.Background(), func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Set(context.Background(), name, make([]byte, size), 0)
		}
		return nil
	})
	return err
}

// plainGets returns the CPU time, in µs, that a GET of so many bytes costs the
// server, asked for so many keys in turn by a plain client of as many callers as wrk
// has connections.
func plainGets(server *Process, size, keys int, length time.Duration) (float64, error) {
	client := redis.NewClient(&redis.Options{Addr: server.redis.Addr(), PoolSize: connections})
	defer client.Close() //nolint:errcheck // nothing is under way
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("bench:%d", i)
	}
	if err := setAll(client, names, size); err != nil {
		return 0, err
	}
	ctx, end := context.WithTimeout(context.Background(), length)
	defer end()
	before := server.cpu()
	var gets atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for client.Get(ctx, names[gets.Load()%int64(keys)]).Err() == nil {
				gets.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(server.cpu()-before) / 1e3 / float64(gets.Load()), nil
}
