package httpcache

import (
	"net/http"
	"strconv"

	"github.com/dunglas/httpsfv"
)

// responseDirectives returns the directives of a response that hold for this cache.
//
// RFC 9213, Section 2.2: the first targeted field with a valid and non-empty value, as a whole, in place of Cache-Control.
func (p *Policy) responseDirectives(h http.Header) responseDirectives {
	for _, name := range p.Targeted {
		lines := h[http.CanonicalHeaderKey(name)]
		if len(lines) == 0 {
			continue
		}
		if d, ok := parseTargeted(lines); ok {
			return d
		}
	}
	return parseResponseDirectives(h["Cache-Control"])
}

// parseTargeted parses the lines of a targeted field: a Dictionary of Structured Fields. ok is false if it is empty or
// not one, and then it is as if it were not there.
func parseTargeted(lines []string) (d responseDirectives, ok bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return responseDirectives{}, false
	}
	d = parseResponseDirectives(nil)
	d.targeted = true
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		if x, ok := targetedDirective(name, member); ok {
			d.set(&x)
		}
	}
	return d, true
}

// targetedDirective returns the member as a directive. ok is false if the directive is not of the member's type: it is
// ignored then, alone. RFC 9213, Section 2.1.
func targetedDirective(name string, member httpsfv.Member) (x directive, ok bool) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return directive{}, false
	}
	x = directive{name: name, hasArg: true}
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		seconds, ok := item.Value.(int64)
		if !ok {
			return directive{}, false
		}
		if seconds < 0 {
			// An Integer, but no delta-seconds: as in Cache-Control, where it has no valid argument, that is stale.
			return x, true
		}
		x.arg = strconv.FormatInt(seconds, 10)
		return x, true
	case "no-cache", "private":
		if fields, ok := item.Value.(string); ok {
			x.arg = fields
			return x, true
		}
	}
	x.hasArg = false
	set, ok := item.Value.(bool)
	return x, ok && set
}
