package fluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
)

// parseGlobalOption reads the global option:
//
//	fluster {
//		<option of a pool>
//		pool <name> {
//			<option of a pool>
//		}
//	}
//
// It may stand several times; each adds to what the others say.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	app := &App{}
	if e, ok := existing.(httpcaddyfile.App); ok {
		if err := caddy.StrictUnmarshalJSON(e.Value, app); err != nil {
			return nil, err
		}
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "fluster", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // fluster
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "pool" {
			if err := a.PoolConfig.parseOption(d); err != nil {
				return err
			}
			continue
		}
		var name string
		if !d.AllArgs(&name) {
			return d.ArgErr()
		}
		if name == "" {
			return d.Errf("a pool needs a name")
		}
		if a.Pools[name] != nil {
			return d.Errf("pool %q stands twice", name)
		}
		c := &PoolConfig{}
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			if err := c.parseOption(d); err != nil {
				return err
			}
		}
		if a.Pools == nil {
			a.Pools = map[string]*PoolConfig{}
		}
		a.Pools[name] = c
	}
	return nil
}

// parseOption reads one option of a pool:
//
//	nodes     <url...>
//	cluster   <url...>
//	sentinel  <master> <url...>
//	username  <name>
//	password  <password>
//	tls       { … }
//	namespace <prefix>
//	timeout   <duration>
//	penalty   <first> [<longest> [<multiplier>]]
//	near      <size>|off
//	channel   <name>
//	quorum    available|strict
//	max_blind <duration>|forever
func (c *PoolConfig) parseOption(d *caddyfile.Dispenser) error {
	switch option := d.Val(); option {
	case "nodes", "cluster", "sentinel":
		return c.parseNodes(d)
	case "username", "password":
		return c.parseSecret(d)
	case "tls":
		return c.parseTLS(d)
	case "namespace":
		return c.parseNamespace(d)
	case "timeout":
		return parseDuration(d, &c.Timeout)
	case "penalty":
		return c.parsePenalty(d)
	case "near":
		return parseSize(d, &c.Near, true)
	case "channel":
		return parseWord(d, &c.Channel)
	case "quorum":
		return parseChoice(d, &c.Quorum, "available", "strict")
	case "max_blind":
		var word string
		if err := parseWord(d, &word); err != nil {
			return err
		}
		b, err := ParseBlind(word)
		if err != nil {
			return d.Errf("max_blind: %v", err)
		}
		c.MaxBlind = &b
		return nil
	default:
		return d.Errf("unrecognized fluster option %q", option)
	}
}

// parseNamespace reads the prefix of all keys.
func (c *PoolConfig) parseNamespace(d *caddyfile.Dispenser) error {
	if err := parseWord(d, &c.Namespace); err != nil {
		return err
	}
	if strings.Contains(c.Namespace, "{") && strings.Contains(c.Namespace, "}") {
		return nil // a placeholder: known only when the server starts
	}
	if err := checkNamespace(c.Namespace); err != nil {
		return d.Errf("%v", err)
	}
	return nil
}

// parseSecret reads a credential. Its errors do not quote it, as others would.
func (c *PoolConfig) parseSecret(d *caddyfile.Dispenser) error {
	option, args := d.Val(), d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("%s takes one argument", option)
	}
	if option == "username" {
		c.Username = args[0]
	} else {
		c.Password = args[0]
	}
	return nil
}

// parseNodes reads the three ways to name servers, of which one may be used.
func (c *PoolConfig) parseNodes(d *caddyfile.Dispenser) error {
	option, args := d.Val(), d.RemainingArgs()
	if option == "sentinel" {
		if len(args) < 2 || args[0] == "" {
			return d.Errf("sentinel takes the name of a master and at least one address")
		}
		if c.Sentinel != nil {
			return d.Errf("sentinel stands twice")
		}
		c.Sentinel = &Sentinel{Master: args[0], Addresses: args[1:]}
		args = args[1:]
	}
	if len(args) == 0 {
		return d.ArgErr()
	}
	switch option {
	case "nodes":
		c.Nodes = append(c.Nodes, args...)
	case "cluster":
		c.Cluster = append(c.Cluster, args...)
	}
	if len(c.Nodes) > 0 && len(c.Cluster) > 0 || c.Sentinel != nil && len(c.Nodes)+len(c.Cluster) > 0 {
		return d.Errf("only one of nodes, cluster and sentinel may be given")
	}
	// What holds a placeholder is known only when the server starts.
	known := slices.DeleteFunc(slices.Concat(c.Nodes, c.Cluster, c.sentinels()), func(u string) bool { return strings.Contains(u, "{") })
	if _, err := parseAddresses(option, known); err != nil {
		return d.Errf("%v", err)
	}
	return nil
}

// sentinels are the URLs of the sentinels.
func (c *PoolConfig) sentinels() []string {
	if c.Sentinel == nil {
		return nil
	}
	return c.Sentinel.Addresses
}

// parseTLS reads how to speak TLS with the nodes:
//
//	tls {
//		ca          <file>
//		certificate <file> <key file>
//		server_name <name>
//	}
func (c *PoolConfig) parseTLS(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	c.TLS = &TLS{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); option {
		case "ca":
			err = parseWord(d, &c.TLS.CA)
		case "certificate":
			if !d.AllArgs(&c.TLS.Certificate, &c.TLS.Key) {
				err = d.ArgErr()
			}
		case "server_name":
			err = parseWord(d, &c.TLS.ServerName)
		default:
			err = d.Errf("unrecognized tls option %q", option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parsePenalty reads how long a node that fails is out of use.
func (c *PoolConfig) parsePenalty(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 3 {
		return d.ArgErr()
	}
	p := &Penalty{}
	for i, dst := range []*caddy.Duration{&p.First, &p.Longest} {
		if i >= len(args) {
			break
		}
		v, err := caddy.ParseDuration(args[i])
		if err != nil || v <= 0 {
			return d.Errf("penalty: %q is not a positive duration", args[i])
		}
		*dst = caddy.Duration(v)
	}
	if len(args) == 3 {
		m, err := strconv.ParseFloat(args[2], 64)
		if err != nil {
			return d.Errf("penalty: %q is not a number", args[2])
		}
		p.Multiplier = m
	}
	full := p.withDefaults()
	if err := full.Validate(); err != nil {
		return d.Errf("%v", err)
	}
	c.Penalty = p
	return nil
}

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
	for h.NextBlock(0) {
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
		return parseList(d, &c.Tags)
	case "targeted":
		return parseList(d, &c.Targeted)
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
	k := c.Key
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch option := d.Val(); option {
		case "query_allow":
			err = parseList(d, &k.QueryAllow)
		case "query_deny":
			err = parseList(d, &k.QueryDeny)
		case "query_sort":
			err = parseFlag(d, &k.QuerySort)
		case "header":
			err = parseList(d, &k.Header)
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
	}
	if len(k.QueryAllow) > 0 && len(k.QueryDeny) > 0 {
		return d.Errf("key: only one of query_allow and query_deny may be given")
	}
	return nil
}

// parseInvalidateDirective reads the directive fluster_invalidate:
//
//	fluster_invalidate [<matcher>] {
//		bearer             <token...>
//		client_certificate
//		allow              <address or range...>
//		rate               <requests a second>
//		pool               <name>
//	}
func parseInvalidateDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := &Invalidate{}
	h.Next() // fluster_invalidate
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	for h.NextBlock(0) {
		var err error
		switch option := h.Val(); option {
		case "bearer":
			err = parseList(h.Dispenser, &c.Bearer)
		case "client_certificate":
			err = parseFlag(h.Dispenser, &c.ClientCertificate)
		case "allow":
			err = parseList(h.Dispenser, &c.Allow)
		case "rate":
			var word string
			if err = parseWord(h.Dispenser, &word); err == nil {
				c.Rate, err = strconv.ParseFloat(strings.TrimSuffix(word, "/s"), 64)
				if err != nil || c.Rate <= 0 {
					err = h.Errf("rate: %q is not a number of requests a second", word)
				}
			}
		case "pool":
			err = parseWord(h.Dispenser, &c.Pool)
		default:
			err = h.Errf("unrecognized fluster_invalidate option %q", option)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(c.Bearer) == 0 && len(c.Allow) == 0 && !c.ClientCertificate {
		return nil, h.Errf("fluster_invalidate needs at least one of bearer, client_certificate and allow")
	}
	return c, nil
}

// parseEncode reads how responses are compressed; what follows the word is that
// of Caddy's encode directive.
func (c *Cache) parseEncode(d *caddyfile.Dispenser) error {
	if c.Encode != nil {
		return d.Errf("encode stands twice")
	}
	c.Encode = new(encode.Encode)
	return c.Encode.UnmarshalCaddyfile(d.NewFromNextSegment())
}
