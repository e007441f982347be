package fluster

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// Cache is a handler that stores the responses of the handlers behind it and
// answers from what it stored, as RFC 9111 allows a shared cache to. Its
// placeholders, known when the handler is done:
//
// Placeholder | Description
// ------------|------------
// `{http.fluster.cache_status}` | this cache's member of Cache-Status, whatever `cache_status` says
// `{http.fluster.hit}` | true or false
// `{http.fluster.key}` | the cache key
// `{http.fluster.node}` | the node that was asked; empty if the near cache answered
type Cache struct {
	// How long a response is fresh that does not say it itself, by status code.
	// Default: such a response is not fresh at all.
	TTL map[int]caddy.Duration `json:"ttl,omitempty"`

	// Bounds on the freshness that the origin gives. Neither lets anything be
	// stored that the origin forbids to store. Default: none.
	MinTTL caddy.Duration `json:"min_ttl,omitempty"`
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// How long a stale response may be served while it is validated in the
	// background, and when the origin fails (RFC 5861), where the response names
	// no such time. Default: not at all; the origin's failure, as RFC 9111 allows.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`
	StaleIfError         caddy.Duration `json:"stale_if_error,omitempty"`

	// What makes two requests the same.
	Key *Key `json:"key,omitempty"`

	// Response fields that carry tags for invalidation. They are never sent on to
	// clients. Default: Surrogate-Key and Cache-Tag.
	Tags []string `json:"tags,omitempty"`

	// Targeted response fields (RFC 9213), which win over Cache-Control and
	// Expires, most specific first. Default: Fluster-Cache-Control and CDN-Cache-Control.
	Targeted []string `json:"targeted,omitempty"`

	// The longest body that is stored. Longer responses pass through. Default: 8MiB.
	MaxBody Size `json:"max_body,omitzero"`

	// Whether the Cache-Control of a request is obeyed: ignore or honor.
	// Default: ignore in profile safe, honor in profile rfc.
	ClientDirectives string `json:"client_directives,omitempty"`

	// What becomes of a response with Set-Cookie: bypass (it is not stored), strip
	// (it is stored without) or store. Default: bypass in profile safe, store in
	// profile rfc.
	SetCookie string `json:"set_cookie,omitempty"`

	// Which responses that do not say how long they are fresh, but when they were
	// last modified, are fresh for a tenth of that age: all that RFC 9111 allows,
	// success (no error statuses) or off. Default: success in profile safe, all in
	// profile rfc.
	Heuristic string `json:"heuristic,omitempty"`

	// Whether a response may say, by No-Vary-Search, that differences between
	// queries make none to it. Default: false.
	NoVarySearch bool `json:"no_vary_search,omitempty"`

	// Whether concurrent misses of one key share one forward: process (those of
	// this Caddy do), cluster (those of all Caddys on the same nodes, which costs
	// a miss two round trips to the node) or off. Default: process.
	Collapse string `json:"collapse,omitempty"`

	// Requests that never look up nor store.
	BypassRaw caddyhttp.RawMatcherSets `json:"bypass,omitempty" caddy:"namespace=http.matchers"`

	// Responses that alone are stored. Default: all that may be.
	Store *caddyhttp.ResponseMatcher `json:"store,omitempty"`

	// How responses are compressed before they are stored: the configuration of
	// Caddy's encode handler. A hit is sent as it was stored, to clients that take
	// it; others have a variant of their own. It costs the forward the time to
	// compress. Default: responses are stored as they come.
	Encode *encode.Encode `json:"encode,omitempty"`

	// What the Cache-Status field tells clients: full, hit (no more than whether
	// it was a hit) or off. Default: full.
	CacheStatus string `json:"cache_status,omitempty"`

	// The defaults of the options above: safe (a reverse proxy's caution) or rfc
	// (all that RFC 9111 lets a shared cache do). Default: safe.
	Profile string `json:"profile,omitempty"`

	// The pool of nodes by its name. Default: the one without a name.
	Pool string `json:"pool,omitempty"`

	policy  httpcache.Policy
	bypass  caddyhttp.MatcherSets
	maxBody int64
	tags    []string
	number  uint64 // tells it from all other caches of this process, also those before a reload
	pool    *pool
	logger  *zap.Logger

	later int32 // validations in the background that are under way; atomic
}

// Key says what makes two requests the same, beyond scheme, host, path and query.
type Key struct {
	// Query parameters that count; all others are left out, of what is sent to the
	// origin too. A * at the end stands for any ending.
	QueryAllow []string `json:"query_allow,omitempty"`
	// Query parameters that do not count; they are left out likewise.
	QueryDeny []string `json:"query_deny,omitempty"`
	// Whether the order of parameters does not count. They are sent on sorted.
	QuerySort bool `json:"query_sort,omitempty"`
	// Request fields that count.
	Header []string `json:"header,omitempty"`
	// Cookies that count.
	Cookie []string `json:"cookie,omitempty"`
	// Whether all hosts share what is stored.
	IgnoreHost bool `json:"ignore_host,omitempty"`
}

const defaultMaxBody = 8 << 20

// CaddyModule returns the module's information.
func (Cache) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.fluster_cache", New: func() caddy.Module { return new(Cache) }}
}

// caches counts those that were provisioned.
var caches atomic.Uint64

// Provision sets defaults, and finds the pool.
func (h *Cache) Provision(ctx caddy.Context) error {
	h.logger, h.number = ctx.Logger(), caches.Add(1)
	if err := h.provisionPolicy(); err != nil {
		return err
	}
	if err := h.provisionMatchers(ctx); err != nil {
		return err
	}
	h.maxBody = defaultMaxBody
	if h.MaxBody.Set {
		h.maxBody = int64(min(h.MaxBody.Bytes, 1<<62))
	}
	var err error
	if h.tags, err = canonical("tags", h.Tags, "Surrogate-Key", "Cache-Tag"); err != nil {
		return err
	}
	if h.Key != nil {
		if _, err := canonical("key header", h.Key.Header); err != nil {
			return err
		}
	}
	if err := h.provisionEncode(ctx); err != nil {
		return err
	}
	app, err := ctx.App("fluster")
	if err != nil {
		return err
	}
	app.(*App).useCorks(ctx)
	h.pool, err = app.(*App).pool(h.Pool)
	return err
}

func (h *Cache) provisionEncode(ctx caddy.Context) error {
	if h.Encode == nil {
		return nil
	}
	if err := h.Encode.Provision(ctx); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := h.Encode.Validate(); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if len(h.Encode.Prefer) == 0 {
		return errors.New("encode names no coding")
	}
	return nil
}

func (h *Cache) provisionMatchers(ctx caddy.Context) error {
	if len(h.BypassRaw) == 0 {
		return nil
	}
	mods, err := ctx.LoadModule(h, "BypassRaw")
	if err != nil {
		return fmt.Errorf("bypass: %w", err)
	}
	return h.bypass.FromInterface(mods)
}

// provisionPolicy turns words into the rules' configuration.
func (h *Cache) provisionPolicy() error {
	switch h.Profile {
	case "", "safe":
		h.policy = httpcache.Safe()
	case "rfc":
		h.policy = httpcache.Policy{}
	default:
		return fmt.Errorf("profile must be safe or rfc, not %q", h.Profile)
	}
	p := &h.policy
	p.TTL = make(map[int]time.Duration, len(h.TTL))
	for status, ttl := range h.TTL {
		if status < 200 || status > 999 || ttl < 0 {
			return fmt.Errorf("ttl takes final status codes and positive durations, not %d %s", status, time.Duration(ttl))
		}
		p.TTL[status] = time.Duration(ttl)
	}
	p.MinTTL, p.MaxTTL = time.Duration(h.MinTTL), time.Duration(h.MaxTTL)
	if p.MinTTL < 0 || p.MaxTTL < 0 || p.MaxTTL > 0 && p.MinTTL > p.MaxTTL {
		return fmt.Errorf("min_ttl (%s) must not be above max_ttl (%s), nor either negative", p.MinTTL, p.MaxTTL)
	}
	p.StaleWhileRevalidate, p.StaleIfError = time.Duration(h.StaleWhileRevalidate), time.Duration(h.StaleIfError)
	if p.StaleWhileRevalidate < 0 || p.StaleIfError < 0 {
		return errors.New("stale_while_revalidate and stale_if_error must not be negative")
	}
	if err := h.checkOptions(); err != nil {
		return err
	}
	var err error
	if p.Targeted, err = canonical("targeted", h.Targeted, "Fluster-Cache-Control", "CDN-Cache-Control"); err != nil {
		return err
	}
	p.NoVarySearch = h.NoVarySearch
	return h.provisionChoices(p)
}

// checkOptions checks what the Caddyfile does not take either.
func (h *Cache) checkOptions() error {
	if h.MaxBody.Off {
		return errors.New("max_body must be a size like 8MiB, not off")
	}
	return h.Key.check()
}

// check checks the names, too: one that is in no request would count for nothing,
// without a word.
func (k *Key) check() error {
	if k == nil {
		return nil
	}
	if len(k.QueryAllow) > 0 && len(k.QueryDeny) > 0 {
		return errors.New("key: only one of query_allow and query_deny may be given")
	}
	for _, p := range slices.Concat(k.QueryAllow, k.QueryDeny) {
		if name := strings.TrimSuffix(p, "*"); strings.ContainsAny(name, "*&=%") || strings.HasSuffix(name, ",") {
			return fmt.Errorf("key: %q is no name of a parameter: names are separated by spaces and written decoded, with * at most at the end", p)
		}
	}
	for _, name := range k.Cookie {
		if name == "" || strings.ContainsAny(name, "*=;,{} \t") {
			return fmt.Errorf("key: %q is no name of a cookie: names are separated by spaces and written in full, without *", name)
		}
	}
	return nil
}

// provisionChoices applies the options that are one of several words.
func (h *Cache) provisionChoices(p *httpcache.Policy) error {
	return errors.Join(
		choose("client_directives", h.ClientDirectives, &p.IgnoreRequest, map[string]bool{"ignore": true, "honor": false}),
		choose("set_cookie", h.SetCookie, &p.SetCookie, map[string]httpcache.SetCookie{
			"bypass": httpcache.BypassCookie, "strip": httpcache.StripCookie, "store": httpcache.StoreCookie}),
		choose("heuristic", h.Heuristic, &p.Heuristic, map[string]httpcache.Heuristic{
			"all": httpcache.HeuristicAll, "success": httpcache.HeuristicSuccess, "off": httpcache.HeuristicOff}),
		choose("collapse", h.Collapse, new(bool), map[string]bool{"process": true, "cluster": true, "off": false}),
		choose("cache_status", h.CacheStatus, new(bool), map[string]bool{"full": true, "hit": true, "off": true}),
	)
}

// choose sets *dst to what word stands for; the empty word leaves it as it is.
func choose[T any](option, word string, dst *T, words map[string]T) error {
	if word == "" {
		return nil
	}
	v, ok := words[word]
	if !ok {
		return fmt.Errorf("%s: %q is none of %s", option, word, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
	}
	*dst = v
	return nil
}

// canonical returns the field names in canonical form, or the defaults.
func canonical(option string, names []string, defaults ...string) ([]string, error) {
	if names == nil {
		names = defaults
	}
	out := make([]string, len(names))
	for i, n := range names {
		if !httpguts.ValidHeaderFieldName(n) {
			return nil, fmt.Errorf("%s: %q is no field name", option, n)
		}
		if strings.Contains(n, "*") { // which a name may hold, but none does
			return nil, fmt.Errorf("%s: %q must be the whole name of a field, without *", option, n)
		}
		out[i] = http.CanonicalHeaderKey(n)
	}
	return out, nil
}
