package fluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
)

// parseCacheDirective reads the directive fluster_cache.
func parseCacheDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := &Cache{}
	h.Next() // fluster_cache
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	var store string
	var storeAt caddyfile.Token
	matchers := map[string]caddyhttp.ResponseMatcher{}
	seen := options{}
	for h.NextBlock(0) {
		if err := seen.once(h.Dispenser, "ttl", "key", "tags", "targeted", "bypass"); err != nil {
			return nil, err
		}
		var err error
		switch option := h.Val(); {
		case strings.HasPrefix(option, "@"):
			err = caddyhttp.ParseNamedResponseMatcher(h.NewFromNextSegment(), matchers)
		case option == "bypass":
			err = c.parseBypass(h)
		case option == "store":
			storeAt = h.Token()
			err = parseWord(h.Dispenser, &store)
		default:
			err = c.parseOption(h.Dispenser)
		}
		if err != nil {
			return nil, err
		}
	}
	if store != "" {
		m, ok := matchers[store]
		if !ok {
			return nil, fmt.Errorf("store: response matcher %q is not defined in this block, at %s:%d", store, storeAt.File, storeAt.Line)
		}
		c.Store = &m
	}
	if c.MinTTL > c.MaxTTL && c.MaxTTL > 0 {
		return nil, h.Errf("min_ttl must not be above max_ttl")
	}
	return c, nil
}

// parseBypass reads `bypass <request matcher>`; several lines add up.
func (c *Cache) parseBypass(h httpcaddyfile.Helper) error {
	set, ok, err := h.MatcherToken()
	if err != nil {
		return h.Errf("bypass: %v", err)
	}
	if !ok || h.NextArg() {
		return h.Errf("bypass takes one request matcher, like @name or /path*")
	}
	if set == nil {
		set = caddy.ModuleMap{} // * : every request
	}
	c.BypassRaw = append(c.BypassRaw, set)
	return nil
}

// parseOption reads one option of fluster_cache:
//
//	ttl [<status...>] <duration>
//	min_ttl|max_ttl|stale_while_revalidate|stale_if_error <duration>
//	key { … }
//	tags|targeted     <field...>
//	max_body          <size>
//	client_directives ignore|honor
//	set_cookie        bypass|strip|store
//	heuristic         all|success|off
//	no_vary_search
//	collapse          process|cluster|off
//	bypass            <request matcher>
//	store             <response matcher>
//	encode            [<coding...>] { … }   (as Caddy's encode)
//	cache_status      full|hit|off
//	profile           safe|rfc
//	pool              <name>
func (c *Cache) parseOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "ttl":
		return c.parseTTL(d)
	case "min_ttl":
		return parseDuration(d, &c.MinTTL)
	case "max_ttl":
		return parseDuration(d, &c.MaxTTL)
	case "stale_while_revalidate":
		return parseDuration(d, &c.StaleWhileRevalidate)
	case "stale_if_error":
		return parseDuration(d, &c.StaleIfError)
	case "key":
		return c.parseKey(d)
	case "tags":
		return parseFields(d, &c.Tags)
	case "targeted":
		return parseFields(d, &c.Targeted)
	case "max_body":
		return parseSize(d, &c.MaxBody, false)
	case "client_directives":
		return parseChoice(d, &c.ClientDirectives, "ignore", "honor")
	case "set_cookie":
		return parseChoice(d, &c.SetCookie, "bypass", "strip", "store")
	case "heuristic":
		return parseChoice(d, &c.Heuristic, "all", "success", "off")
	case "no_vary_search":
		return parseFlag(d, &c.NoVarySearch)
	case "collapse":
		return parseChoice(d, &c.Collapse, "process", "cluster", "off")
	case "encode":
		return c.parseEncode(d)
	case "cache_status":
		return parseChoice(d, &c.CacheStatus, "full", "hit", "off")
	case "profile":
		return parseChoice(d, &c.Profile, "safe", "rfc")
	case "pool":
		return parseWord(d, &c.Pool)
	default:
		return d.Errf("unrecognized fluster_cache option %q", option)
	}
}

// parseTTL reads `ttl <duration>`, which is about status 200, or
// `ttl <status...> <duration>`.
func (c *Cache) parseTTL(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	ttl, err := caddy.ParseDuration(args[len(args)-1])
	if err != nil || ttl < 0 {
		return d.Errf("ttl: %q is not a duration like 100ms, 5m or 1d", args[len(args)-1])
	}
	statuses := args[:len(args)-1]
	if len(statuses) == 0 {
		statuses = []string{"200"}
	}
	if c.TTL == nil {
		c.TTL = map[int]caddy.Duration{}
	}
	for _, s := range statuses {
		status, err := strconv.Atoi(s)
		if err != nil || status < 200 || status > 999 {
			return d.Errf("ttl: %q is not a final status code", s)
		}
		if _, ok := c.TTL[status]; ok {
			return d.Errf("ttl: status %d stands twice", status)
		}
		c.TTL[status] = caddy.Duration(ttl)
	}
	return nil
}

// parseKey reads what makes two requests the same:
//
//	key {
//		query_allow <parameter...>
//		query_deny  <parameter...>
//		query_sort
//		header      <field...>
//		cookie      <name...>
//		ignore_host
//	}
func (c *Cache) parseKey(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	if c.Key == nil {
		c.Key = &Key{}
	}
	k, seen := c.Key, options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.once(d, "query_allow", "query_deny", "header", "cookie"); err != nil {
			return err
		}
		var err error
		switch option := d.Val(); option {
		case "query_allow":
			err = parseList(d, &k.QueryAllow)
		case "query_deny":
			err = parseList(d, &k.QueryDeny)
		case "query_sort":
			err = parseFlag(d, &k.QuerySort)
		case "header":
			err = parseFields(d, &k.Header)
		case "cookie":
			err = parseList(d, &k.Cookie)
		case "ignore_host":
			err = parseFlag(d, &k.IgnoreHost)
		default:
			err = d.Errf("unrecognized key option %q", option)
		}
		if err != nil {
			return err
		}
		if err := k.check(); err != nil {
			return d.Errf("%v", err)
		}
	}
	return nil
}

// parseFields reads names of header fields.
func parseFields(d *caddyfile.Dispenser, dst *[]string) error {
	option := d.Val()
	if err := parseList(d, dst); err != nil {
		return err
	}
	if _, err := canonical(option, *dst); err != nil {
		return d.Errf("%v", err)
	}
	return nil
}

// parseEncode reads how responses are compressed; what follows the word is that
// of Caddy's encode directive.
func (c *Cache) parseEncode(d *caddyfile.Dispenser) error {
	c.Encode = new(encode.Encode)
	place := fmt.Sprintf(", at %s:%d", d.File(), d.Line())
	err := c.Encode.UnmarshalCaddyfile(d.NewFromNextSegment())
	if err != nil && !strings.Contains(err.Error(), ", at ") {
		// Of some options Caddy says what is wrong, and not where.
		return fmt.Errorf("encode: %w%s", err, place)
	}
	return err
}
