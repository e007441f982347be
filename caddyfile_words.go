package fluster

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// What options of the Caddyfile are made of. Each function reads the rest of the
// line, and its errors name the option.

// options are those that were read of a block.
type options map[string]bool

// once notes the option that begins here. It may stand once, unless it is one whose
// lines add up.
func (o options) once(d *caddyfile.Dispenser, several ...string) error {
	option := d.Val()
	if o[option] && !slices.Contains(several, option) {
		return d.Errf("%s stands twice", option)
	}
	o[option] = true
	return nil
}

func parseWord(d *caddyfile.Dispenser, dst *string) error {
	if !d.AllArgs(dst) {
		return d.ArgErr()
	}
	return nil
}

func parseList(d *caddyfile.Dispenser, dst *[]string) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	*dst = append(*dst, args...)
	return nil
}

func parseFlag(d *caddyfile.Dispenser, dst *bool) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	*dst = true
	return nil
}

func parseChoice(d *caddyfile.Dispenser, dst *string, words ...string) error {
	option := d.Val()
	if err := parseWord(d, dst); err != nil {
		return err
	}
	if !slices.Contains(words, *dst) {
		return d.Errf("%s: %q is none of %s", option, *dst, strings.Join(words, ", "))
	}
	return nil
}

func parseDuration(d *caddyfile.Dispenser, dst *caddy.Duration) error {
	option := d.Val()
	var word string
	if err := parseWord(d, &word); err != nil {
		return err
	}
	v, err := caddy.ParseDuration(word)
	if err != nil {
		return d.Errf("%s: %q is not a duration like 100ms, 5m or 1d", option, word)
	}
	if v <= 0 {
		return d.Errf("%s must be positive, not %s", option, time.Duration(v))
	}
	*dst = caddy.Duration(v)
	return nil
}

func parseSize(d *caddyfile.Dispenser, dst *Size, off bool) error {
	option := d.Val()
	var word string
	if err := parseWord(d, &word); err != nil {
		return err
	}
	v, err := ParseSize(word)
	if err != nil || v.Off && !off {
		return d.Errf("%s: %q is not a size like 64MiB", option, word)
	}
	*dst = v
	return nil
}
