package fluster

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// exchange is one request on its way through the cache. Its methods are the
// steps, in order of use. It belongs to the request's goroutine.
type exchange struct {
	*Cache
	w    http.ResponseWriter
	r    *http.Request // as it came, but for what the key leaves out of its query, and its codings
	next caddyhttp.Handler

	client  *http.Request       // what r was made of
	behind  *http.Request       // the same, for the handlers behind to change; nil until it was forwarded
	groups  map[string]struct{} // its route groups before that
	query   string              // likewise, its query
	host    string              // likewise, its host as it was written
	accepts []string            // likewise, its Accept-Encoding, with the option encode

	now time.Time
	names
	directives httpcache.RequestDirectives

	list       *entry        // the list of the URL's variants, if its responses are known to vary
	language   string        // by which a variant was selected that the near cache knows of
	varies     []string      // what others' forwards of the same showed the response to vary by
	ahead      bool          // it came when others' forwards of the same were too old for it
	alone      bool          // its key is marked: responses cannot be shared
	marked     bool          // it may have a mark that did not count for this request
	waited     bool          // for a forward whose response was not to be shared
	part       *part         // a stored part of the response that is to be completed
	outdates   string        // the key of a stored part, fresh as it may be, that what is fetched is newer than
	opened     *opened       // what is sent first of a body in chunks
	source     *sourceWriter // what the handlers behind write to, with the option encode
	reads      *node         // a long body is read from, and is kept open for it; nil: none
	release    func()        // lets go of it
	node       *node         // that was asked last, if any
	seen       bool          // what lies there is known
	held       int64         // bytes of body that were read from a node for this request alone
	place      place         // where what is fetched will lie
	nodeFailed bool          // the node did not answer the lookup
	patience   time.Duration // how much more time nodes may cost the request (C2)
	why        string        // why it is forwarded: fwd of Cache-Status

	status httpcache.CacheStatus // told to the client
	text   string                // of it, if it is at hand

	hit   found    // what the near cache or a node gave
	lines []string // header values of the response, in the memory of remains

	// The memory of a response that was read from a node for this request alone, as
	// the near cache is off. It is given back when the body was sent.
	lentTo  *entry // whose body lies there
	loan    *shard.Loan
	sending bool // the body may be on its way to the client yet

	unshared bool // nobody else has seen the exchange: it may be used again
	remains  *remains
}

// ServeHTTP answers a request: request → key → near cache → node → origin → store.
func (h *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	behind, asked := isBehind(r)
	switch {
	case asked != nil:
		return h.explain(asked, r)
	case behind:
		return next.ServeHTTP(w, r)
	case isTunnel(r):
		return next.ServeHTTP(&passWriter{ResponseWriter: w, x: &exchange{Cache: h}, silent: true}, r)
	}
	findContent(r)
	x := h.begin(w, r, next)
	defer x.end()
	filtered, bypass, err := x.identify(r)
	switch {
	case err != nil:
		return err
	case !httpcache.IsSafe(r.Method):
		return x.change(bypass)
	case bypass:
		return x.pass("bypass")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return x.pass("method")
	}
	x.r = filtered
	x.directives = h.policy.RequestDirectives(r.Header)
	x.nameBySearch()

	f := x.lookup()
	use := x.judge(f)
	if f != nil && f.resp.Status == http.StatusPartialContent {
		if done, err := x.serveFromPart(f, use); done {
			return err
		}
		x.outdates = f.resp.Key
		f, use = nil, httpcache.Reuse{}
	}
	if f != nil && use.Use != httpcache.UseValidate && !x.open(f) {
		f, use = nil, x.judge(nil)
	}
	switch use.Use {
	case httpcache.UseFresh, httpcache.UseStale:
		x.unshared = f.resp.Chunks == nil // what lies in chunks may have to be continued from the origin
		return x.serve(f)
	case httpcache.UseStaleRevalidate:
		x.validateLater(f.entry)
		return x.serve(f)
	}
	if x.directives.OnlyIfCached() {
		// RFC 9111, Section 5.2.1.7.
		return x.fail(http.StatusGatewayTimeout)
	}
	return x.forward(f, use)
}

// identify names the request. It returns the request as it is to be sent on if the cache
// has a part in it, and whether it has none.
func (x *exchange) identify(r *http.Request) (filtered *http.Request, bypass bool, err error) {
	x.names, filtered = x.Key.name(r)
	x.r, filtered = x.negotiate(r), x.negotiate(filtered)
	x.expose()
	bypass, err = x.bypasses(r)
	return filtered, bypass || x.pathless, err
}

// found is a stored response that the request selects, and where it was found.
type found struct {
	*entry
	where string // near or node
	soft  bool   // stale, whatever its terms say
	blind bool   // nobody can say whether it was invalidated: only the origin
}

// lookup looks in the near cache, then on the node. What the near cache has and
// may not be believed is still good to be validated.
func (x *exchange) lookup() *found {
	x.patience -= x.pool.waitReady(x.r.Context())
	f, known := x.lookupNear()
	if f != nil && (!f.blind || x.pool.pick(x.key) == nil) {
		return f
	}
	if x.alone = x.isAlone(); x.alone && known == "" {
		x.seen = true // there was nothing, when it was marked
		return nil
	}
	near := x.pool.near.Load()
	e, list := x.lookupNode(known)
	if list != nil {
		x.recallUse(list)
		x.list = list
		near.Set(x.key, list)
	}
	if e == nil || known != "" && !e.isIn(x.language) {
		return f
	}
	if e.resp.Chunks == nil && x.lentTo != e && !x.overtaken(e) {
		near.Set(e.resp.Key, e)
	}
	x.hit = found{entry: e, where: "node", soft: e.soft}
	return &x.hit
}

// lookupNear looks in the near cache. The second result is the key of the
// variant that the request selects, if the near cache knows that much.
func (x *exchange) lookupNear() (*found, string) {
	cache := x.pool.near.Load()
	e, ok := cache.Get(x.key)
	if !ok {
		return nil, ""
	}
	known := ""
	if e.variants != nil {
		x.list = e
		var v *stored.Variant
		if v, x.language = e.selectVariant(x.r.Header, x.now.UnixMilli()); v == nil {
			return nil, ""
		}
		known = v.Key
		if e, ok = cache.Get(known); !ok {
			return nil, known
		}
		if !e.isIn(x.language) {
			return nil, ""
		}
	}
	if e.resp == nil || !x.isSearchedBy(e) || !x.mayShow(e) {
		return nil, known
	}
	v := x.validity(e)
	leased := x.pool.book.Leased(x.now)
	switch {
	case v == journal.Dead:
		return nil, known
	case !leased:
		x.hit = found{entry: e, where: "near", blind: true}
		return &x.hit, known
	}
	x.hit = found{entry: e, where: "near", soft: e.soft || v == journal.Stale}
	return &x.hit, known
}

// validity says what this process knows of invalidations of a response in the
// near cache. Whether it knows all of them, Leased says.
//
// By its own URL it was judged up to learn; not so by the others that reach it, of
// which each request knows one.
func (x *exchange) validity(e *entry) journal.Validity {
	v, learn := journal.Valid, e.learn.Load()
	if learn != x.pool.book.Learnt() {
		var upTo uint64
		if v, upTo = x.pool.book.ValidNear(learn, e.selectors()); v == journal.Valid {
			e.learn.CompareAndSwap(learn, upTo)
		}
	}
	if x.asked != e.resp.URL {
		v = min(v, x.pool.book.ValidName(e.born, x.asked))
	}
	return v
}

// selectors returns what selects a stored response for this request.
func (x *exchange) selectors(e *entry) *journal.Selectors {
	if x.asked == e.resp.URL {
		return e.selectors()
	}
	sel := e.selectors().WithURL(x.asked)
	return &sel
}

// judge says what may be done with what was found, and why the request is
// forwarded if it must be.
func (x *exchange) judge(f *found) httpcache.Reuse {
	if f == nil {
		x.why = "uri-miss"
		if x.list != nil {
			x.why = "vary-miss"
		}
		return httpcache.Reuse{Use: httpcache.UseValidate}
	}
	reuse := x.policy.ReuseFor(x.directives, f.termsAt(x.now), x.now)
	switch {
	case f.blind:
		reuse = httpcache.Reuse{}
	case f.doubted:
		stale := *f.termsAt(x.now)
		stale.FreshUntil = min(stale.FreshUntil, x.now.UnixMilli())
		reuse = httpcache.Reuse{IfError: x.policy.ReuseFor(x.directives, &stale, x.now).IfError}
	}
	if f.resp.Status >= 500 {
		reuse.IfError = false // an old failure is no better than a new one
	}
	if f.resp.Status == http.StatusPartialContent {
		x.why = "partial"
		return reuse
	}
	x.why = "stale"
	if reuse.Request {
		x.why = "request"
	}
	return reuse
}

// termsAt are the terms of the response; a softly invalidated one is stale.
func (f *found) termsAt(now time.Time) *httpcache.Terms {
	t := &f.resp.Terms
	if !f.soft || t.FreshUntil <= now.UnixMilli() {
		return t
	}
	stale := *t
	stale.FreshUntil = now.UnixMilli()
	return &stale
}

// fail answers with a status of this cache's own.
func (x *exchange) fail(status int) error {
	x.status = httpcache.CacheStatus{Detail: "only-if-cached"}
	x.tell(x.w.Header())
	return caddyhttp.Error(status, nil)
}

// tell writes this cache's member of Cache-Status (RFC 9211) behind those of
// the caches nearer to the origin.
func (x *exchange) tell(h http.Header) {
	s := x.status
	switch x.CacheStatus {
	case "off":
		return
	case "hit":
		s = httpcache.CacheStatus{Hit: s.Hit, Fwd: s.Fwd}
	}
	value := memberText(s)
	if before := h["Cache-Status"]; before != nil {
		h["Cache-Status"] = append(before, value)
		return
	}
	h["Cache-Status"] = x.own(value)
}

// cacheName is this cache's name in Cache-Status.
const cacheName = "fluster"

// Interface guards
var (
	_ caddy.Provisioner           = (*Cache)(nil)
	_ caddyhttp.MiddlewareHandler = (*Cache)(nil)
)
