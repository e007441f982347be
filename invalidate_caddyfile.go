package fluster

import (
	"math"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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
	seen := options{}
	for h.NextBlock(0) {
		if err := seen.once(h.Dispenser, "bearer", "allow"); err != nil {
			return nil, err
		}
		var err error
		switch option := h.Val(); option {
		case "bearer":
			err = parseList(h.Dispenser, &c.Bearer)
		case "client_certificate":
			err = parseFlag(h.Dispenser, &c.ClientCertificate)
		case "allow":
			err = parseAllow(h.Dispenser, &c.Allow)
		case "rate":
			var word string
			if err = parseWord(h.Dispenser, &word); err == nil {
				c.Rate, err = strconv.ParseFloat(strings.TrimSuffix(word, "/s"), 64)
				if err != nil || c.Rate <= 0 || math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) {
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

// parseAllow reads addresses and ranges. What a placeholder stands for is known
// when the server starts.
func parseAllow(d *caddyfile.Dispenser, dst *[]string) error {
	if err := parseList(d, dst); err != nil {
		return err
	}
	for _, a := range *dst {
		if strings.Contains(a, "{") {
			continue
		}
		if _, err := parsePrefix(a); err != nil {
			return d.Errf("allow: %v", err)
		}
	}
	return nil
}
