package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
)

func init() {
	caddy.RegisterModule(keep{})
	httpcaddyfile.RegisterHandlerDirective("bench_keep", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(keep), nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bench_keep", httpcaddyfile.Before, "reverse_proxy")
}

// keep is the least that any cache does at a miss: it looks up, and copies the header
// and the body and keeps them. It knows nothing of what may be kept, for whom and for
// how long, of others who want the same, nor of clients that hang up; and it never
// serves what it has.
type keep struct {
	cache *otter.Cache[string, *kept]
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

// Provision makes a cache as large as the near cache is by default.
func (k *keep) Provision(caddy.Context) (err error) {
	k.cache, err = otter.New(&otter.Options[string, *kept]{
		MaximumWeight: 64 << 20,
		Weigher:       func(key string, r *kept) uint32 { return uint32(len(key) + len(r.body) + 1<<10) },
		Executor:      func(task func()) { task() }, // as the near cache does
	})
	return err
}

// ServeHTTP forwards, and keeps the response.
func (k *keep) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := r.Host + r.RequestURI
	k.cache.GetIfPresent(key)
	resp := &kept{ResponseWriter: w}
	err := next.ServeHTTP(resp, r)
	resp.ResponseWriter = nil
	k.cache.Set(key, resp)
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
