package fluster

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// entry is what the near cache holds under one key, and what a lookup on a node
// gives: a stored response made ready to be served, the list of a URL's
// variants, or the note that a URL's responses cannot be shared. It is
// immutable but for learn.
type entry struct {
	resp     *stored.Response
	variants *stored.Variants
	// aloneUntil, Unix ms: until then misses are forwarded each for itself.
	aloneUntil int64

	lines []line            // resp.Header, one for each name
	sel   journal.Selectors // what selects resp
	soft  bool              // it was softly invalidated: stale whatever its terms say
	learn atomic.Uint64     // up to this learn number nothing selects it
}

// line is all that one field of a stored response says.
type line struct {
	name   string
	values []string // shared and read only; copied when served
}

// newEntry makes a stored response ready to be served.
func newEntry(r *stored.Response, learn uint64) *entry {
	e := &entry{resp: r, sel: journal.NewSelectors(r.URL, r.Tags)}
	e.learn.Store(learn)
	for _, f := range r.Header {
		if n := len(e.lines); n > 0 && e.lines[n-1].name == f.Name {
			e.lines[n-1].values = append(e.lines[n-1].values, f.Value)
			continue
		}
		e.lines = append(e.lines, line{f.Name, []string{f.Value}})
	}
	return e
}

// header returns the stored header as a map of its own.
func (e *entry) header() http.Header {
	h := make(http.Header, len(e.lines))
	for _, l := range e.lines {
		h[l.name] = append(h[l.name], l.values...)
	}
	return h
}

// contentType and the like: the first value of a field, "" if it has none.
func (e *entry) field(name string) string {
	for _, l := range e.lines {
		if l.name == name {
			return l.values[0]
		}
	}
	return ""
}

// terms are the terms of the response; a softly invalidated one is stale.
func (e *entry) terms(nowMs int64) *httpcache.Terms {
	t := &e.resp.Terms
	if e.soft && t.FreshUntil > nowMs {
		stale := *t
		stale.FreshUntil = nowMs
		return &stale
	}
	return t
}

const entryOverhead = 256

// weighEntry returns about how many bytes of memory an entry takes.
func weighEntry(key string, e *entry) uint32 {
	n := len(key) + entryOverhead
	if e.resp != nil {
		n += e.resp.Size() + 64*len(e.lines) + 16*len(e.resp.Tags)
	}
	if e.variants != nil {
		for _, v := range e.variants.List {
			n += len(v.Key) + len(v.Language) + 64
			for _, f := range v.Nominated {
				n += len(f.Name) + len(f.Value) + 32
			}
		}
	}
	return uint32(min(n, 1<<32-1))
}

// variantKey returns the cache key of the variant of key for these values of
// the nominated fields.
func variantKey(key string, nominated []stored.Field) string {
	var b strings.Builder
	b.WriteString(key)
	for _, f := range nominated {
		b.WriteString("\nvary ")
		b.WriteString(f.Name)
		b.WriteByte(' ')
		b.WriteString(f.Value)
	}
	return b.String()
}

// nominate returns what the request has in the fields that Vary names.
func nominate(names []string, h http.Header) []stored.Field {
	out := make([]stored.Field, len(names))
	for i, name := range names {
		out[i] = stored.Field{Name: name, Value: httpcache.NominatedValue(name, h)}
	}
	return out
}

// selectVariant returns the variant that a request with the header h selects:
// the most recently stored of those whose nominated fields match (RFC 9111,
// Section 4.1), or one in the very language that the request likes best.
func selectVariant(v *stored.Variants, h http.Header) (best *stored.Variant) {
	values := map[string]string{}
	value := func(name string) string {
		s, ok := values[name]
		if !ok {
			s = httpcache.NominatedValue(name, h)
			values[name] = s
		}
		return s
	}
	var byLanguage *stored.Variant
	for i := range v.List {
		c := &v.List[i]
		matches, language := true, false
		for _, f := range c.Nominated {
			if value(f.Name) == f.Value {
				continue
			}
			if f.Name == "accept-language" && c.Language != "" && httpcache.LanguageSelected(value(f.Name), c.Language) {
				language = true
				continue
			}
			matches = false
			break
		}
		switch {
		case !matches:
		case language:
			if byLanguage == nil || c.Stored > byLanguage.Stored {
				byLanguage = c
			}
		case best == nil || c.Stored > best.Stored:
			best = c
		}
	}
	if best == nil {
		return byLanguage
	}
	return best
}
