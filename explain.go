package fluster

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// An Explanation says what the cache would do with a request, and by what. It is
// made by a request of its own, which goes the way that a client's would go as far
// as the cache and no further: the origin is not asked, and nothing is stored.
type Explanation struct {
	// The URL as the client asked for it, by which it is invalidated.
	URL  string `json:"url"`
	Pool string `json:"pool,omitempty"`
	// What the response is stored under: the URL, and on further lines what else counts.
	Key string `json:"key"`
	// What would become of it: hit, stale (served although it is, as it may be),
	// validate (the origin is asked whether it is still good), forward, or bypass
	// (neither looked up nor stored).
	Would string `json:"would"`
	// Why the origin is asked, as fwd of Cache-Status says it.
	Why string `json:"why,omitempty"`
	// Others wait for no forward of it, as its last response was not to be shared.
	Alone bool `json:"alone,omitempty"`
	// The nodes in the order in which one is picked: the first that is up.
	Nodes []ExplainedNode `json:"nodes"`
	// What the near cache has; nil if it has nothing.
	Near *ExplainedResponse `json:"near"`
	// What lies on the node that is picked; nil if nothing does, or it does not answer.
	Node *ExplainedResponse `json:"node"`
}

// An ExplainedNode is a node in the order of a key.
type ExplainedNode struct {
	Name  string `json:"name"`
	State string `json:"state"` // up, penalty, syncing or unknown
}

// An ExplainedResponse is a stored response, or the list of a URL's variants of which
// none is for the request.
type ExplainedResponse struct {
	// fresh; stale; soft (softly invalidated: as if it were stale); invalidated; doubted
	// (validated first, as it may not be known whether it was invalidated); other (it is for
	// other requests).
	State  string `json:"state"`
	Status int    `json:"status,omitempty"`
	// Seconds. What is left of its freshness is below 0 when that has ended.
	Age int64 `json:"age"`
	TTL int64 `json:"ttl"`
	// Bytes of the body, and in how many chunks it lies, if it does.
	Size   int64    `json:"size"`
	Chunks int      `json:"chunks,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	ETag   string   `json:"etag,omitempty"`
	// What requests have in the fields that Vary names to get it.
	Varies map[string]string `json:"varies,omitempty"`
	// How many variants the URL has.
	Variants int `json:"variants,omitempty"`
}

// explain fills e in, in place of ServeHTTP.
func (h *Cache) explain(e *Explanation, r *http.Request) error {
	x := h.begin(nil, r, nil)
	defer x.end()
	var filtered *http.Request
	x.names, filtered = h.Key.name(r)
	e.URL, e.Pool, e.Key = x.asked, h.Pool, x.key
	bypass, err := h.bypasses(r)
	if err != nil {
		return err
	}
	if bypass || x.pathless {
		e.Would, e.Why = "bypass", "bypass"
		return nil
	}
	x.r = h.negotiate(filtered)
	x.directives = h.policy.RequestDirectives(r.Header)
	x.nameBySearch()
	e.Key = x.key
	for sn := range x.pool.ring.Order(x.key) {
		n := x.pool.byShard[sn]
		if last := len(e.Nodes) - 1; last < 0 || e.Nodes[last].Name != n.label { // the parts of a cluster are one node
			e.Nodes = append(e.Nodes, ExplainedNode{n.label, n.status("").State})
		}
	}
	x.explainUse(e)
	e.Near = x.explainNear()
	e.Node = x.explainNode(x.pool.pick(x.key))
	return nil
}

// explainUse says what would become of the request. It looks as lookup does, and leaves
// the near cache as it is.
func (x *exchange) explainUse(e *Explanation) {
	f, known := x.lookupNear()
	e.Alone = x.wouldBeAlone()
	switch {
	case f != nil && (!f.blind || x.pool.pick(x.key) == nil):
	case e.Alone && known == "":
		f = nil // nor does lookup look on the node
	default:
		stored, list := x.lookupNode(known)
		if list != nil {
			x.list = list
		}
		if stored != nil && (known == "" || stored.isIn(x.language)) {
			f = &found{entry: stored, where: "node", soft: stored.soft}
		}
	}
	e.Would = "forward"
	use := x.judge(f)
	switch {
	case f == nil:
	case f.resp.Status == http.StatusPartialContent:
		e.Would, x.why = "validate", "partial" // or it has what a Range asks for
	case use.Use == httpcache.UseFresh:
		e.Would, x.why = "hit", ""
	case use.Use != httpcache.UseValidate:
		e.Would, x.why = "stale", ""
	case x.isValidatable(f):
		e.Would = "validate"
	}
	e.Why = x.why
}

// wouldBeAlone reports what isAlone would, and marks nothing.
func (x *exchange) wouldBeAlone() bool {
	m, ok := x.pool.alone.Get(x.key)
	return ok && m.counts(x) || x.pool.sighted.left(x.pool.newest.hash(x.key), x.now) > 0
}

// explainNear tells of what the near cache has.
func (x *exchange) explainNear() *ExplainedResponse {
	e, ok := x.pool.near.Load().Get(x.key)
	if !ok {
		return nil
	}
	variants := 0
	if e.variants != nil {
		variants = len(e.variants.List)
		v, _ := e.selectVariant(x.r.Header, x.now.UnixMilli())
		if v == nil {
			return &ExplainedResponse{State: "other", Variants: variants}
		}
		if e, ok = x.pool.near.Load().Get(v.Key); !ok || e.resp == nil {
			return nil
		}
	}
	v := x.validity(e)
	if v == journal.Valid && !x.pool.book.Leased(x.now) {
		v = journal.Doubted
	}
	return x.explained(e, v, variants)
}

// explainNode tells of what lies on a node.
func (x *exchange) explainNode(n *node) *ExplainedResponse {
	if n == nil {
		return nil
	}
	resp, list := n.peek(x.r.Context(), x.key)
	variants := 0
	if list != nil {
		variants = len(list.List)
		v, _ := newList(list).selectVariant(x.r.Header, x.now.UnixMilli())
		if v == nil {
			return &ExplainedResponse{State: "other", Variants: variants}
		}
		resp, _ = n.peek(x.r.Context(), v.Key)
	}
	if resp == nil {
		return nil
	}
	e := newEntry(resp, x.pool.book.Learnt())
	v, stamp := n.view.ValidNode(journal.Stamp(resp.Stamp), x.selectors(e)), journal.Stamp(resp.Stamp)
	if v == journal.Valid && (n.seat.isDoubtful() || x.pool.doubts(x.key, n, stamp)) {
		v = journal.Doubted
	}
	return x.explained(e, v, variants)
}

// peek reads what lies under a key.
func (n *node) peek(ctx context.Context, key string) (*stored.Response, *stored.Variants) {
	value, _, err := n.Read(ctx, n.journal.bucket.entry(key), "")
	if err != nil || value == nil {
		return nil, nil
	}
	resp, list, err := stored.Decode(value)
	if err != nil || resp != nil && resp.Key != key || list != nil && list.Key != key {
		return nil, nil // nothing of use to this key
	}
	return resp, list
}

// explained tells of a stored response.
func (x *exchange) explained(e *entry, v journal.Validity, variants int) *ExplainedResponse {
	r := e.resp
	out := &ExplainedResponse{
		State: "fresh", Status: r.Status,
		Age: int64(r.Terms.Age(x.now) / time.Second), TTL: httpcache.WholeSeconds(r.Terms.TTL(x.now)),
		Size: r.BodySize, Tags: r.Tags, ETag: e.field("Etag"), Variants: variants,
	}
	switch {
	case v == journal.Dead:
		out.State = "invalidated"
	case !x.isSearchedBy(e) || !x.mayShow(e):
		out.State = "other"
	case v == journal.Doubted || e.doubted:
		out.State = "doubted"
	case v == journal.Stale || e.soft:
		out.State = "soft"
	case r.Terms.TTL(x.now) <= 0: // there may be less than a second left
		out.State = "stale"
	}
	if r.Chunks != nil {
		out.Chunks = r.Chunks.Count
	}
	for _, f := range r.Nominated {
		if out.Varies == nil {
			out.Varies = map[string]string{}
		}
		out.Varies[f.Name] = f.Value
	}
	return out
}
