package fluster

import (
	"context"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// validateLater validates a stale response after it was served, once for all
// who were served it (RFC 5861, Section 3). Where too many validations are under way
// whoever is served it next sees to it.
func (x *exchange) validateLater(e *entry) {
	fl, leads := x.pool.flights.join(x.flightKey() + "\nlater")
	if !leads {
		fl.mu.Lock()
		fl.waiting--
		fl.mu.Unlock()
		return
	}
	if atomic.AddInt32(&x.later, 1) > maxLater || !x.pool.goLater(x.validation(fl, e)) {
		atomic.AddInt32(&x.later, -1)
		fl.settle(alone)
	}
}

// validation returns what validates a stale response in the background.
func (x *exchange) validation(fl *flight, e *entry) func(end context.Context) {
	y := x.background()
	return func(end context.Context) {
		defer atomic.AddInt32(&y.later, -1)
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
	}
}

// recover ends a panic of the handlers behind: the one by which they break off a
// response says nothing, others are told.
func (x *exchange) recover() {
	if p := recover(); p != nil && p != http.ErrAbortHandler {
		x.logger.Error("validating in the background", zap.Any("panic", p), zap.Stack("stack"))
	}
}

const (
	// laterTimeout bounds a validation in the background.
	laterTimeout = time.Minute
	// maxLater is how many of them one fluster_cache has under way. No client waits for
	// them, so that nothing else bounds them where many URLs are stale and the origin is
	// slow: each takes about 60 KiB and a connection to it.
	maxLater = 256
)

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
	original := req.Context().Value(caddyhttp.OriginalRequestCtxKey)
	req = caddyhttp.PrepareRequest(req, repl, w, srv)
	// What the client asked for is not what that was rewritten to, and the deadlines of
	// its connection are another request's by now. The placeholders are those of this
	// very request.
	ctx := caddyhttp.ContextWithIdleTimeouts(req.Context(), nil, nil)
	if original != nil {
		ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original)
	}
	*req = *req.WithContext(ctx)
	y := &exchange{Cache: x.Cache, w: w, r: req, client: req, next: x.next, names: x.names, list: x.list}
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

func (w *nowhere) Header() http.Header { return w.header }

func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (w *nowhere) WriteHeader(int) {}
