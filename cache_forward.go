package fluster

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// forward asks the origin, together with all who want the same at this time.
// What was found stale is validated.
func (x *exchange) forward(f *found, use httpcache.Reuse) error {
	if !x.sharesForwards(use) {
		return x.fetch(x.pool.flights.solo(), f, use)
	}
	// What turns out to be for others is tried again: as the variant that it is, or
	// with those who came as late.
	for range 3 {
		if x.list == nil { // it may be known by now, and then others go by it
			x.list = x.nearList()
		}
		fl, leads := x.pool.flights.join(x.flightKey())
		if leads {
			return x.lead(fl, f, use)
		}
		if done, err := x.follow(fl); done || err != nil {
			return err
		}
	}
	return x.fetch(x.pool.flights.solo(), f, use)
}

// sharesForwards reports whether the answer to others will do for this request.
func (x *exchange) sharesForwards(use httpcache.Reuse) bool {
	if x.Collapse == "off" || use.Request || x.r.Method != http.MethodGet || x.r.Header["Range"] != nil || x.part != nil ||
		x.directives.NoCache() || x.directives.NoStore() {
		return false
	}
	return !x.alone
}

// flightKey is what a forward is for: the cache key, and as far as it is known
// what selects the variant.
func (x *exchange) flightKey() string {
	names := x.varies
	if names == nil && x.list != nil && len(x.list.variants.List) > 0 {
		names = nominatedNames(x.list.variants.List[0].Nominated)
	}
	if len(names) == 0 {
		return x.key
	}
	return variantKey(x.key, nominate(names, x.r.Header))
}

// fetch sends the request to the origin and its answer to the client, and keeps
// a copy if that may be stored.
func (x *exchange) fetch(fl *flight, f *found, use httpcache.Reuse) error {
	// Before the request to the origin: what is invalidated from now on is held
	// against the response.
	if x.node == nil || !x.node.inUse() {
		x.node = x.pool.pick(x.key)
	}
	lock := x.place.lock
	x.place = x.pool.placeFor(x.node, time.Now())
	x.place.lock = lock
	req, end := x.request(fl, f)
	defer end()
	fw := newFillWriter(x, fl, f, use)
	defer fw.abort() // when a handler behind panics
	again, err := fw.finish(fw.await(req))
	if again {
		// The origin confirmed, or completed, a response that is not the stored one.
		x.part = nil
		return x.fetch(x.pool.flights.solo(), nil, use)
	}
	return err
}

// request returns the request as it is sent on: conditional by the validators
// of what is to be validated and never by the client's, which are about the
// client's copy. A request for a part goes on as it is. The forward outlives
// the client while others wait for it.
func (x *exchange) request(fl *flight, f *found) (*http.Request, func()) {
	ctx, end := x.r.Context(), func() {}
	if fl.key != "" {
		ctx, end = fl.outlive(ctx)
	}
	req := x.toNext(ctx)
	if x.r.Method == http.MethodGet && (x.isConditional() || f != nil || x.part != nil) {
		req.Header = x.r.Header.Clone()
		if f != nil || x.r.Header["Range"] == nil {
			httpcache.RemoveConditionals(req.Header)
		}
		if f != nil && f.resp.Terms.Flags.Has(httpcache.HasValidator) {
			httpcache.AddValidators(req.Header, f.header())
		}
		if x.part != nil && !httpcache.AddRange(req.Header, x.part.f.header(), x.part.missing) {
			x.part = nil // nothing to say by that it is the same representation
		}
	}
	return req, end
}

// toNext returns the request for the handlers behind. They may change it in place,
// as request_header and rewrite do, and placeholders are to show that; so they get
// what the client's request is made of, and the exchange keeps a copy as it came:
// by that it is decided what may be stored and for whom, and that is what the
// origin is asked if it has to be asked again.
func (x *exchange) toNext(ctx context.Context) *http.Request {
	if x.behind == nil {
		came := &struct { // one piece of memory
			http.Request
			url url.URL
		}{*x.r, *x.r.URL}
		came.Header, came.URL = x.r.Header.Clone(), &came.url
		x.behind, x.r = x.r, &came.Request
		if groups := routeGroups(x.r); len(groups) > 0 {
			x.groups = maps.Clone(groups)
		}
		return x.behind.WithContext(putBehind(ctx))
	}
	*x.behind.URL = *x.r.URL
	clear(x.behind.Header)
	maps.Copy(x.behind.Header, x.r.Header.Clone())
	groups := routeGroups(x.behind)
	clear(groups)
	maps.Copy(groups, x.groups)
	return x.behind.WithContext(putBehind(ctx))
}

// putBehind marks the context of a request that is forwarded: another cache on its
// way lets it pass. It would wait for the very forward that it is part of, and would
// keep tags from the one before it, which then could not be selected by them.
func putBehind(ctx context.Context) context.Context {
	return context.WithValue(ctx, behindKey{}, ctx.Value(caddy.ReplacerCtxKey))
}

// isBehind reports whether a cache before this one has forwarded the request. Another
// request, that a handler behind has made of it, has a replacer of its own.
func isBehind(r *http.Request) bool {
	repl := r.Context().Value(behindKey{})
	return repl != nil && repl == r.Context().Value(caddy.ReplacerCtxKey)
}

type behindKey struct{}

// routeGroups are the groups of Caddy's routes that are done with for this request,
// of each of which one route is run at most: the blocks of handle, and rewrites.
// Who runs the handlers behind twice has to undo what the first run has noted.
func routeGroups(r *http.Request) map[string]struct{} {
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	return groups
}

// outlive returns the context of a forward that goes on without its client, a
// context of which ctx is, while others wait for it.
func (f *flight) outlive(ctx context.Context) (context.Context, func()) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.mu.Lock()
	f.cancel = cancel
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, f.leaderGone)
	return own, func() { stop(); cancel() }
}

// freshen makes the stored response anew from the 304 that confirmed it (RFC
// 9111, Section 4.3.4).
func (x *exchange) freshen(f *found, header304 http.Header, t httpcache.Times) (*entry, httpcache.Verdict) {
	header := httpcache.Freshen(f.header(), header304)
	if header["Date"] == nil {
		header.Set("Date", t.Received.UTC().Format(http.TimeFormat))
	}
	req := x.asRequest()
	req.Method = http.MethodGet // which it is the response to
	v := x.policy.MayStore(req, f.resp.Status, header, t)
	resp := *f.resp
	resp.Terms = v.Terms
	resp.Terms.Flags |= f.resp.Terms.Flags & httpcache.Recoded
	if tags := httpcache.Tags(header304, x.tags); len(tags) > 0 {
		resp.Tags = tags
	}
	drop(header, v.Drop, x.tags)
	resp.Header = fields(header, nil)
	for i, field := range resp.Header {
		if f.isAdded(field.Name) {
			resp.Header[i].Name = added + field.Name
		}
	}
	x.renominate(&resp, v.Nominated)
	e := newEntry(&resp, x.place.learn)
	e.node = f.node
	return e, v
}

// renominate gives a response whose Vary has changed the key of the variant that
// this request, by which it was confirmed, selects.
func (x *exchange) renominate(r *stored.Response, names []string) {
	if slices.EqualFunc(r.Nominated, names, func(f stored.Field, name string) bool { return f.Name == name }) {
		return
	}
	r.Key, r.Nominated = x.key, nil
	if len(names) > 0 {
		r.Nominated = nominate(names, x.r.Header)
		r.Key = variantKey(x.key, r.Nominated)
	}
}

// freshenByHead takes from the response to a HEAD what it says of the stored
// response to a GET: it is still so, or it is stale (RFC 9111, Section 4.3.5).
func (x *exchange) freshenByHead(f *found, head http.Header, t httpcache.Times) {
	if !httpcache.HeadFreshens(f.header(), head, f.resp.BodySize) {
		// The body was not confirmed: it keeps its old learn number, and its stamp.
		if f.resp.Chunks == nil {
			resp := *f.resp
			resp.Terms.FreshUntil = min(resp.Terms.FreshUntil, t.Received.UnixMilli())
			x.pool.near.Load().Set(resp.Key, newEntry(&resp, f.learn.Load()))
		}
		if n := x.place.node; n != nil {
			n.writes.push(write{forget: []string{n.journal.bucket.entry(f.resp.Key)}})
		}
		return
	}
	if head["Etag"] == nil && head["Last-Modified"] == nil {
		return // nothing that says that the body is still the same
	}
	if e, v := x.freshen(f, head, t); v.Store {
		x.keepAgain(e)
	}
}

// asRequest is what the rules need to know of the request.
func (x *exchange) asRequest() httpcache.Request {
	r := httpcache.Request{Method: x.r.Method, Header: x.r.Header}
	if r.Method == http.MethodPost {
		r.URL = x.absoluteURL() // for others it does not matter
	}
	return r
}

// absoluteURL is the URL as the client asked for it.
func (x *exchange) absoluteURL() *url.URL {
	u, err := url.Parse(x.asked)
	if err != nil {
		return x.r.URL
	}
	return u
}

// keepWhole stores a response that has come whole, and notes it as a variant.
func (x *exchange) keepWhole(e *entry, body []byte) {
	resp, ttl := x.asKept(e, int64(len(body)))
	resp.Body = body
	x.pool.keep(x.place, e.whole(resp), ttl)
}

// keepFilled is keepWhole for a response whose body a fill has; kept says
// whether body has all of it too.
func (x *exchange) keepFilled(e *entry, f *fill, size int64, body []byte, kept bool) {
	resp, _ := x.asKept(e, size)
	if kept {
		near := resp
		near.Body = fit(body)
		x.pool.near.Load().Set(near.Key, e.whole(near))
	}
	f.finish(&resp)
}

// keepAgain stores a response that was confirmed.
func (x *exchange) keepAgain(e *entry) {
	if e.resp.Chunks == nil {
		x.keepWhole(e, e.resp.Body)
		return
	}
	if pl := x.place; pl.node != e.node || !pl.ok || !pl.node.inUse() {
		return
	}
	resp, ttl := x.asKept(e, e.resp.BodySize)
	w := encodeRenewal(x.place.node.journal.bucket, &resp, ttl)
	w.key, w.received = resp.Key, resp.Terms.Received
	w.lock = x.place.lock.hand()
	x.place.node.writes.push(w)
}

// asKept returns the response as it is stored, and how long it is kept.
func (x *exchange) asKept(e *entry, size int64) (stored.Response, time.Duration) {
	resp := *e.resp
	resp.BodySize, resp.Stamp = size, stored.Stamp(x.place.stamp)
	now := time.Now()
	ttl := keepFor(&resp.Terms, now)
	if len(resp.Nominated) > 0 {
		v := stored.Variant{Nominated: resp.Nominated, Key: resp.Key, Stored: now.UnixMilli(), Language: e.field("Content-Language")}
		list := x.list
		if l := x.nearList(); l != nil {
			list = l // others may have stored variants meanwhile
		}
		x.pool.keepVariants(x.place, list.with(x.key, v), resp.Terms.Received, max(ttl, keepList))
	}
	return resp, ttl
}

// validateLater validates a stale response after it was served, once for all
// who were served it (RFC 5861, Section 3).
func (x *exchange) validateLater(e *entry) {
	fl, leads := x.pool.flights.join(x.flightKey() + "\nlater")
	if !leads {
		fl.mu.Lock()
		fl.waiting--
		fl.mu.Unlock()
		return
	}
	y := x.background()
	started := x.pool.goLater(func(end context.Context) {
		defer fl.settle(alone)
		ctx, cancel := context.WithTimeout(y.r.Context(), laterTimeout)
		defer cancel()
		defer context.AfterFunc(end, cancel)()
		defer y.recover()
		defer y.giveBack()
		y.r = y.r.WithContext(ctx)
		y.now = time.Now()
		y.why = "stale"
		y.fetch(y.pool.flights.solo(), &found{entry: e}, httpcache.Reuse{}) //nolint:errcheck // the next request sees to it
	})
	if !started {
		fl.settle(alone)
	}
}

// recover ends a panic of the handlers behind: the one by which they break off a
// response says nothing, others are told.
func (x *exchange) recover() {
	if p := recover(); p != nil && p != http.ErrAbortHandler {
		x.logger.Error("validating in the background", zap.Any("panic", p), zap.Stack("stack"))
	}
}

// laterTimeout bounds a validation in the background.
const laterTimeout = time.Minute

// background returns the exchange with a request of its own, which may outlive
// the client's: own context, replacer and vars, and nobody to write to.
func (x *exchange) background() *exchange {
	w := &nowhere{header: http.Header{}}
	req := x.r.Clone(context.WithoutCancel(x.r.Context()))
	req.Method, req.Body, req.ContentLength = http.MethodGet, http.NoBody, 0
	httpcache.RemoveConditionals(req.Header)
	srv, _ := req.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	vars, _ := req.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	vars = maps.Clone(vars)
	repl := caddy.NewReplacer()
	req = caddyhttp.PrepareRequest(req, repl, w, srv)
	y := &exchange{Cache: x.Cache, w: w, r: req, next: x.next, names: x.names, list: x.list}
	y.remains = &remains{x: y}
	y.expose() // first: the old placeholders tell of x, which goes on meanwhile
	if old, ok := x.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		// What matchers and handlers before have set. A copy of the list of
		// providers, which may yet grow; what they provide has a lock.
		known := *old
		repl.Map(known.Get)
	}
	for name, v := range vars {
		caddyhttp.SetVar(req.Context(), name, v)
	}
	if groups := routeGroups(req); groups != nil {
		maps.Copy(groups, routeGroups(x.r))
	}
	return y
}

// nowhere is a response writer whose client does not exist.
type nowhere struct{ header http.Header }

// isBackground reports whether there is no client.
func (x *exchange) isBackground() bool {
	_, ok := x.w.(*nowhere)
	return ok
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(int)             {}

// fields returns a header as the list that is stored, names in order, without
// those that drop reports.
func fields(h http.Header, drop func(name string) bool) []stored.Field {
	n := 0
	for _, values := range h {
		n += len(values)
	}
	out := make([]stored.Field, 0, n)
	for name, values := range h {
		if drop != nil && drop(name) {
			continue
		}
		for _, v := range values {
			out = append(out, stored.Field{Name: name, Value: v})
		}
	}
	// Of one name the lines stay in order, as they came together.
	slices.SortStableFunc(out, func(a, b stored.Field) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// drop removes fields that are not stored: those that the rules name, those
// that carry tags, and those that are made anew for each answer.
func drop(h http.Header, lists ...[]string) {
	for _, list := range lists {
		for _, name := range list {
			h.Del(name)
		}
	}
	h.Del("Age")
	h.Del("Content-Length")
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// contentLength returns the Content-Length of a header, −1 if there is none.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
