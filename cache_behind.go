package fluster

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// toNext returns the request for the handlers behind, with this context. They may
// change it in place, as request_header and rewrite do, and placeholders are to show
// that; so they get what the client's request is made of, and the exchange keeps a
// copy as it came: by that it is decided what may be stored and for whom, and that is
// what the origin is asked if it has to be asked again.
//
// What the key leaves out, and codings that the response will not have, are taken out
// of the client's request, too: placeholders would tell the origin of them.
func (x *exchange) toNext(ctx context.Context) *http.Request {
	again := x.behind != nil
	if !again {
		came := &struct { // one piece of memory
			http.Request
			url url.URL
		}{*x.r, *x.r.URL}
		came.Header, came.URL = x.r.Header.Clone(), &came.url
		x.behind, x.r = x.client, &came.Request
		if groups := routeGroups(x.r); len(groups) > 0 {
			x.groups = maps.Clone(groups)
		}
		x.query, x.host = x.behind.URL.RawQuery, x.behind.Host
	}
	*x.behind.URL, x.behind.Host = *x.r.URL, x.r.Host
	switch {
	case again:
		clear(x.behind.Header)
		maps.Copy(x.behind.Header, x.r.Header.Clone())
		groups := routeGroups(x.behind)
		clear(groups)
		maps.Copy(groups, x.groups)
	case x.Encode != nil:
		x.accepts = x.behind.Header["Accept-Encoding"]
		x.behind.Header["Accept-Encoding"] = slices.Clone(x.r.Header["Accept-Encoding"])
	}
	if x.why != "method" && x.why != "bypass" {
		ctx = x.Key.filterOriginal(ctx)
	}
	req := x.behind.WithContext(ctx)
	req.RequestURI = x.r.RequestURI
	return req
}

// leaveBehind gives the handlers before the cache back what toNext has taken out.
func (x *exchange) leaveBehind() {
	if x.behind == nil {
		return
	}
	if u := x.behind.URL; u.RawQuery == x.r.URL.RawQuery { // else it was rewritten behind
		u.RawQuery = x.query
	}
	if x.behind.Host == x.r.Host { // likewise
		x.behind.Host = x.host
	}
	if x.Encode != nil {
		delete(x.behind.Header, "Accept-Encoding")
		if x.accepts != nil {
			x.behind.Header["Accept-Encoding"] = x.accepts
		}
	}
	ctx := x.behind.Context()
	if _, less := x.Key.original(ctx); !less {
		return
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		for _, name := range originals {
			repl.Delete(name)
		}
	}
}

// originals are the placeholders that tell what the client asked for, as it wrote that.
var originals = [...]string{"http.request.orig_uri", "http.request.orig_uri.query", "http.request.orig_uri.prefixed_query"}

// original returns what the client asked for, before any rewrite, less what the key
// leaves out of it; false if there is nothing to leave out.
func (k *Key) original(ctx context.Context) (o http.Request, less bool) {
	o, ok := ctx.Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return o, false
	}
	uri, _ := target(o.RequestURI, o.URL)
	u := k.filterURL(o.URL)
	if u != o.URL {
		o.URL, uri = u, u.RequestURI()
	}
	less = o.RequestURI != uri
	o.RequestURI = uri
	return o, less
}

// filterOriginal returns a context in which what the client asked for, before any
// rewrite, lacks what does not count. FastCGI tells the origin of it.
func (k *Key) filterOriginal(ctx context.Context) context.Context {
	o, less := k.original(ctx)
	if !less {
		return ctx
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		query := o.URL.RawQuery
		values := [len(originals)]string{o.RequestURI, query}
		if query != "" {
			values[2] = "?" + query
		}
		for i, name := range originals {
			repl.Set(name, values[i])
		}
	}
	return context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, o)
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
// Of a request that is to be explained it returns the explanation.
func isBehind(r *http.Request) (bool, *Explanation) {
	switch mark := r.Context().Value(behindKey{}).(type) {
	case nil:
		return false, nil
	case *Explanation:
		return false, mark
	default:
		return mark == r.Context().Value(caddy.ReplacerCtxKey), nil
	}
}

// behindKey is the key in the context of a request that this cache has forwarded, or is
// to explain: most requests are neither, and it costs them one look.
type behindKey struct{}

// routeGroups are the groups of Caddy's routes that are done with for this request,
// of each of which one route is run at most: the blocks of handle, and rewrites.
// Who runs the handlers behind twice has to undo what the first run has noted.
func routeGroups(r *http.Request) map[string]struct{} {
	groups, _ := r.Context().Value(caddy.CtxKey("route_group")).(map[string]struct{})
	return groups
}
