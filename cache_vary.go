package fluster

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

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

// nominatedNames returns the names of nominated fields.
func nominatedNames(fields []stored.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

// selectVariant returns the variant that a request with the header h selects:
// the most recently stored of those whose nominated fields match (RFC 9111,
// Section 4.1), or else one in the very language that the request likes best; then
// language is that one, and the response must be in it when it is found.
func (e *entry) selectVariant(h http.Header, nowMs int64) (v *stored.Variant, language string) {
	values := requestValues{header: h}
	best, byLanguage := -1, -1
	list := e.variants.List
	for i := range list {
		switch values.match(&list[i]) {
		case matches:
			if best < 0 || list[i].Stored > list[best].Stored {
				best = i
			}
		case matchesByLanguage:
			if byLanguage < 0 || list[i].Stored > list[byLanguage].Stored {
				byLanguage = i
			}
		}
	}
	if best < 0 {
		best = byLanguage
		if best < 0 {
			return nil, ""
		}
		language = list[best].Language
	}
	e.used[best].Store(nowMs)
	return &list[best], language
}

// isIn reports whether a response is in the language by which it was selected; if it
// was not by one, it is. What the list says of it may be older: another process may
// have stored it anew since.
func (e *entry) isIn(language string) bool {
	return language == "" || e.resp != nil && e.field("Content-Language") == language
}

// nearList returns the list of the URL's variants that the near cache has; nil if
// it has none.
func (x *exchange) nearList() *entry {
	if e, ok := x.pool.near.Load().Get(x.key); ok && e.variants != nil {
		return e
	}
	return nil
}

// recallUse tells a list that was read from a node, which does not know it, when
// its variants were last used by this process.
func (x *exchange) recallUse(list *entry) {
	note := x.key + "\nused"
	if old, ok := x.pool.notes.Get(note); ok {
		for i, v := range list.variants.List {
			if j := slices.IndexFunc(old.variants.List, func(o stored.Variant) bool { return o.Key == v.Key }); j >= 0 {
				list.used[i].Store(max(list.used[i].Load(), old.used[j].Load()))
			}
		}
	}
	x.pool.notes.Set(note, list)
}

// has reports whether the variant with this key is in the list; none is in a nil one.
func (e *entry) has(key string) bool {
	return e != nil && slices.ContainsFunc(e.variants.List, func(v stored.Variant) bool { return v.Key == key })
}

// maxList bounds the list of a URL's variants, which has what clients have sent: it is
// one value, and all small values share a connection.
const maxList = 64 << 10

// with returns the list with v in it; what was used least recently goes when
// there are too many, or they are too long. A nil list is empty.
func (e *entry) with(key string, v stored.Variant) *entry {
	type use struct {
		stored.Variant
		at int64
	}
	uses := []use{{v, v.Stored}}
	if e != nil {
		for i, old := range e.variants.List {
			if old.Key != v.Key {
				uses = append(uses, use{old, max(old.Stored, e.used[i].Load())})
			}
		}
	}
	slices.SortStableFunc(uses[1:], func(a, b use) int { return cmp.Compare(b.at, a.at) })
	uses = uses[:min(len(uses), stored.MaxVariants)]
	size := 0
	for i, u := range uses {
		if size += weighVariant(&u.Variant); i > 0 && size > maxList {
			uses = uses[:i]
			break
		}
	}
	out := newList(&stored.Variants{Key: key, List: make([]stored.Variant, len(uses))})
	for i, u := range uses {
		out.variants.List[i] = u.Variant
		out.used[i].Store(u.at)
	}
	return out
}

// weighVariant returns about how long a variant's place in a list is.
func weighVariant(v *stored.Variant) int {
	n := len(v.Key) + len(v.Language) + 64
	for _, f := range v.Nominated {
		n += len(f.Name) + len(f.Value) + 32
	}
	return n
}

// match says whether a variant is for a request.
type match uint8

const (
	differs match = iota
	matches
	matchesByLanguage
)

// requestValues are the nominated values of one request, each normalized once.
type requestValues struct {
	header http.Header
	values map[string]string
}

func (r *requestValues) of(name string) string {
	v, ok := r.values[name]
	if !ok {
		v = httpcache.NominatedValue(name, r.header)
		if r.values == nil {
			r.values = map[string]string{}
		}
		r.values[name] = v
	}
	return v
}

func (r *requestValues) match(v *stored.Variant) match {
	result := matches
	for _, f := range v.Nominated {
		value := r.of(f.Name)
		if value == f.Value {
			continue
		}
		if f.Name != "accept-language" || v.Language == "" || !httpcache.LanguageSelected(value, v.Language) {
			return differs
		}
		result = matchesByLanguage
	}
	return result
}
