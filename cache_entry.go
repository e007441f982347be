package fluster

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// entry is what the near cache holds under one key, and what a lookup on a node
// gives: a stored response made ready to be served, the list of a URL's
// variants, or a note of how queries are compared. It is immutable but for
// learn, used and told.
type entry struct {
	resp     *stored.Response
	variants *stored.Variants
	used     []atomic.Int64 // of variants: when each was last used, Unix ms
	search   *httpcache.SearchVariance

	lines []line            // resp.Header, one for each name
	sel   journal.Selectors // what selects resp
	soft  bool              // it was softly invalidated: stale whatever its terms say
	// doubted: its node was away since it was stored. It is validated before it
	// is used; only where the origin fails may it be served without.
	doubted bool
	node    *node         // where the chunks of resp lie, if its body is in chunks
	learn   atomic.Uint64 // up to this learn number nothing selects it

	told atomic.Pointer[told] // what the last hit was told
}

// line is all that one field of a stored response says.
type line struct {
	name   string
	values []string // shared and read only; copied when served
	added  bool     // to the lines that handlers before the cache have written
}

// added marks the name of a stored field whose lines were added to those that
// handlers before the cache had written. No field name has this byte.
const added = ">"

// newEntry makes a stored response ready to be served.
func newEntry(r *stored.Response, learn uint64) *entry {
	tags := r.Tags
	for _, g := range r.Groups {
		tags = append(tags[:len(tags):len(tags)], groupTag(r.URL, g))
	}
	e := &entry{resp: r, sel: journal.NewSelectors(r.URL, tags)}
	e.learn.Store(learn)
	e.setLines(r.Header)
	return e
}

// whole returns the entry of a response with the same header, which has its
// body too. Both lie in one piece of memory, as there are many of them.
func (e *entry) whole(r stored.Response) *entry {
	out := &struct {
		entry
		resp stored.Response
	}{entry: entry{lines: e.lines, sel: e.sel}, resp: r}
	out.entry.resp = &out.resp
	out.learn.Store(e.learn.Load())
	return &out.entry
}

// setLines makes lines of the stored fields, whose values lie together.
func (e *entry) setLines(fields []stored.Field) {
	values := make([]string, len(fields))
	e.lines = make([]line, 0, len(fields))
	for i, f := range fields {
		values[i] = f.Value
		name, isAdded := strings.CutPrefix(f.Name, added)
		if n := len(e.lines); n > 0 && e.lines[n-1].name == name {
			first := i - len(e.lines[n-1].values)
			e.lines[n-1].values = values[first : i+1 : i+1]
			continue
		}
		e.lines = append(e.lines, line{name, values[i : i+1 : i+1], isAdded})
	}
}

// groupTag is the tag that stands for a cache group of the origin of url (RFC
// 9875: groups are per origin). No published message can name it.
func groupTag(url, group string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return "\ngroup " + scheme + "://" + host + " " + group
}

// newList makes a list of variants ready to be selected from.
func newList(v *stored.Variants) *entry {
	return &entry{variants: v, used: make([]atomic.Int64, len(v.List))}
}

// header returns the stored header as a map of its own.
func (e *entry) header() http.Header {
	h := make(http.Header, len(e.lines))
	for _, l := range e.lines {
		h[l.name] = append(h[l.name], l.values...)
	}
	return h
}

// field returns the first value of a stored field, "" if there is none.
func (e *entry) field(name string) string {
	if values := e.values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// values returns the lines of a stored field, which are shared and read only.
func (e *entry) values(name string) []string {
	for i := range e.lines {
		if e.lines[i].name == name {
			return e.lines[i].values
		}
	}
	return nil
}

// isDivisible reports whether the origin can be asked for a part of the response.
func (e *entry) isDivisible() bool {
	counts := make(http.Header, 3) // all that counts; it stays on the stack
	for _, name := range [...]string{"Etag", "Last-Modified", "Date"} {
		if values := e.values(name); values != nil {
			counts[name] = values
		}
	}
	return mayDivide(&e.resp.Terms) && httpcache.IsDivisible(counts)
}

// isAdded reports whether the lines of a stored field are added to those that
// handlers before the cache have written.
func (e *entry) isAdded(name string) bool {
	return slices.ContainsFunc(e.lines, func(l line) bool { return l.added && l.name == name })
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
