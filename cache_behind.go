package fluster

import (
	"context"
	"maps"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
)

// toNext returns the request for the handlers behind, with this context. They may
// change it in place, as request_header and rewrite do, and placeholders are to show
// that; so they get what the client's request is made of, and the exchange keeps a
// copy as it came: by that it is decided what may be stored and for whom, and that is
// what the origin is asked if it has to be asked again.
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
		return x.behind.WithContext(ctx)
	}
	*x.behind.URL = *x.r.URL
	clear(x.behind.Header)
	maps.Copy(x.behind.Header, x.r.Header.Clone())
	groups := routeGroups(x.behind)
	clear(groups)
	maps.Copy(groups, x.groups)
	return x.behind.WithContext(ctx)
}

// mark marks the request, unless this cache lets it by: the next one may store what
// a GET of it is answered with, and then has to invalidate that.
func (x *exchange) mark(ctx context.Context) context.Context {
	if x.why == "bypass" {
		return ctx
	}
	return putBehind(ctx)
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

// behindKey is the key in the context of a request that this cache has forwarded.
type behindKey struct{}

// routeGroups are the groups of Caddy's routes that are done with for this request,
// of each of which one route is run at most: the blocks of handle, and rewrites.
// Who runs the handlers behind twice has to undo what the first run has noted.
func routeGroups(r *http.Request) map[string]struct{} {
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	return groups
}
