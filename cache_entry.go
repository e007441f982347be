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
// variants, or a note of how queries are compared. It is immutable, once others
// have it, but for what is atomic.
type entry struct {
	resp     *stored.Response
	variants *stored.Variants
	used     []atomic.Int64 // of variants: when each was last used, Unix ms
	search   *httpcache.SearchVariance

	made atomic.Pointer[storedLines]       // what storedLines returns
	sel  atomic.Pointer[journal.Selectors] // what selectors returns
	soft bool                              // it was softly invalidated: stale whatever its terms say
	// doubted: its node was away since it was stored. It is validated before it
	// is used; only where the origin fails may it be served without.
	doubted bool
	forOne  bool          // it is for the client that it was confirmed for alone: nothing keeps it
	node    *node         // where the chunks of resp lie, if its body is in chunks
	learn   atomic.Uint64 // up to this learn number nothing selects it by its own URL
	born    uint64        // up to this one nothing does by any other; 0 if it was read from a node

	// When this process asked the origin for it, and when the head came, as the pool
	// counts. If it was read from a node, 0, and when that was asked. Of a list: that
	// of the newest variant.
	sent, came uint64

	told  atomic.Pointer[told] // what the last hit was told
	shown atomic.Uint64        // the cache that found last that it may show it
}

// storedLines are the fields of a stored response, one line for each name.
type storedLines struct {
	lines  []line
	values []string // of all lines, in order
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
	e := new(entry)
	e.init(r, learn)
	return e
}

func (e *entry) init(r *stored.Response, learn uint64) {
	e.resp, e.born = r, learn
	e.learn.Store(learn)
}

// selectors returns what selects the response. They are made when something was
// invalidated for the first time since it was stored: for most it never is.
func (e *entry) selectors() *journal.Selectors {
	if made := e.sel.Load(); made != nil {
		return made
	}
	tags := e.resp.Tags
	for _, g := range e.resp.Groups {
		tags = append(tags[:len(tags):len(tags)], groupTag(e.resp.Key, g))
	}
	made := journal.NewSelectors(e.resp.URL, tags)
	e.sel.Store(&made)
	return &made
}

// withResponse is an entry and its response in one piece of memory: there are many,
// and each piece costs an allocation, and the garbage collector a look.
type withResponse struct {
	entry
	response stored.Response
}

// as returns the entry of the response as r has it, which was not confirmed since.
func (e *entry) as(r *stored.Response) *entry {
	out := newEntry(r, e.learn.Load())
	out.born, out.soft, out.doubted = e.born, e.soft, e.doubted
	out.sent, out.came = e.sent, e.came
	return out
}

// whole returns the entry of a response with the same header, which has its
// body too.
func (e *entry) whole(r stored.Response) *entry {
	out := &withResponse{entry: entry{born: e.born, sent: e.sent, came: e.came}, response: r}
	out.resp = &out.response
	out.learn.Store(e.learn.Load())
	out.sel.Store(e.sel.Load())
	out.made.Store(e.made.Load())
	return &out.entry
}

// lines returns the stored fields, one line for each name.
func (e *entry) lines() []line { return e.storedLines().lines }

// storedLines returns the stored fields. They are made when they are first asked for: most
// of what is stored is never asked for again, and the garbage collector would look at
// them all the same.
func (e *entry) storedLines() *storedLines {
	if made := e.made.Load(); made != nil {
		return made
	}
	return e.makeLines()
}

// makeLines makes lines of the stored fields, whose values lie together. Who makes
// them at the same time makes the same.
func (e *entry) makeLines() *storedLines {
	n := e.resp.Header.Len()
	values := make([]string, 0, n)
	lines := make([]line, 0, n)
	for name, value := range e.resp.Header.All() {
		i := len(values)
		values = append(values, value)
		name, isAdded := strings.CutPrefix(name, added)
		if n := len(lines); n > 0 && lines[n-1].name == name {
			first := i - len(lines[n-1].values)
			lines[n-1].values = values[first : i+1 : i+1]
			continue
		}
		lines = append(lines, line{name, values[i : i+1 : i+1], isAdded})
	}
	made := &storedLines{lines, values}
	e.made.Store(made)
	return made
}

// groupTag is the tag that stands for a cache group of the origin that a cache key
// begins with (RFC 9875: groups are per origin); hosts that share what is stored
// are one. No published message can name it.
func groupTag(key, group string) string {
	scheme, rest, _ := strings.Cut(key, "://")
	host, _, _ := strings.Cut(rest, "/")
	return "\ngroup " + scheme + "://" + host + " " + group
}

// newList makes a list of variants ready to be selected from.
func newList(v *stored.Variants) *entry {
	return &entry{variants: v, used: make([]atomic.Int64, len(v.List))}
}

// header returns the stored header as a map of its own.
func (e *entry) header() http.Header {
	h := make(http.Header, 8) // on the stack of a caller that only looks at it, as this is inlined
	e.copyTo(h)
	return h
}

//go:noinline
func (e *entry) copyTo(h http.Header) {
	for _, l := range e.lines() {
		h[l.name] = append(h[l.name], l.values...)
	}
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
	lines := e.lines()
	for i := range lines {
		if lines[i].name == name {
			return lines[i].values
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
	return slices.ContainsFunc(e.lines(), func(l line) bool { return l.added && l.name == name })
}

// asStored returns the name under which a field of the response is stored.
func (e *entry) asStored(name string) string {
	if e.isAdded(name) {
		return added + name
	}
	return name
}

const entryOverhead = 256

// weighEntry returns about how many bytes of memory an entry takes.
func weighEntry(key string, e *entry) uint32 {
	n := len(key) + entryOverhead
	if e.resp != nil {
		n += e.resp.Size() + 72*e.resp.Header.Len() + 16*len(e.resp.Tags)
	}
	if e.variants != nil {
		for i := range e.variants.List {
			n += weighVariant(&e.variants.List[i])
		}
	}
	return uint32(min(n, 1<<32-1))
}
