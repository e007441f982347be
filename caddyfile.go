package fluster

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
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
	app, seen := &App{}, options{}
	if e, ok := existing.(httpcaddyfile.App); ok {
		var words map[string]json.RawMessage // what the others say is called as it is here
		if err := errors.Join(caddy.StrictUnmarshalJSON(e.Value, app), json.Unmarshal(e.Value, &words)); err != nil {
			return nil, err
		}
		for option := range words {
			seen[option] = true
		}
	}
	if err := app.parse(d, seen); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "fluster", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return a.parse(d, options{}) }

// parse reads the global option; seen are the options that stand elsewhere.
func (a *App) parse(d *caddyfile.Dispenser, seen options) error {
	d.Next() // fluster
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "pool" {
			if err := a.PoolConfig.parseOption(d, seen); err != nil {
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
		c, seen := &PoolConfig{}, options{}
		for nesting := d.Nesting(); d.NextBlock(nesting); {
			if err := c.parseOption(d, seen); err != nil {
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
//
// Lines of nodes and cluster add up.
func (c *PoolConfig) parseOption(d *caddyfile.Dispenser, seen options) error {
	if err := seen.once(d, "nodes", "cluster"); err != nil {
		return err
	}
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
		return c.parseTimeout(d)
	case "penalty":
		return c.parsePenalty(d)
	case "near":
		return c.parseNear(d)
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

// parseTimeout reads how long one operation on one node may take.
func (c *PoolConfig) parseTimeout(d *caddyfile.Dispenser) error {
	if err := parseDuration(d, &c.Timeout); err != nil {
		return err
	}
	if time.Duration(c.Timeout) < minTimeout {
		return d.Errf("timeout must be at least %s, not %s", minTimeout, time.Duration(c.Timeout))
	}
	return nil
}

// parseNear reads how much memory the near cache has.
func (c *PoolConfig) parseNear(d *caddyfile.Dispenser) error {
	if err := parseSize(d, &c.Near, true); err != nil {
		return err
	}
	if c.Near.isTooSmall() {
		return d.Errf("%v", errNear(c.Near))
	}
	return nil
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
		if len(args) < 2 {
			return d.Errf("%v", errSentinel)
		}
		c.Sentinel = &Sentinel{Master: args[0], Addresses: args[1:]}
		if err := c.Sentinel.check(); err != nil {
			return d.Errf("%v", err)
		}
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
	all := slices.Concat(c.Nodes, c.Cluster, c.sentinels())
	known := slices.DeleteFunc(slices.Clone(all), func(u string) bool { return strings.Contains(u, "{") })
	addresses, err := parseAddresses(option, known)
	if err == nil && len(known) == len(all) {
		err = checkAgreement(option, addresses)
	}
	if err != nil {
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
	seen := options{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.once(d); err != nil {
			return err
		}
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
			return d.Errf("penalty: %q is not a positive duration like 1s", args[i])
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
