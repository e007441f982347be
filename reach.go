package fluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// warnUnreachable warns of each fluster_cache and fluster_queue that no request can
// reach, as a handler before it always answers. A cache that silently does nothing
// is the commonest mistake with route orders.
func (a *App) warnUnreachable(ctx caddy.Context) {
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return // no HTTP at all
	}
	for _, name := range slices.Sorted(maps.Keys(app.(*caddyhttp.App).Servers)) {
		srv := app.(*caddyhttp.App).Servers[name]
		walkRoutes(srv.Routes, fmt.Sprintf("server %s (%s)", name, strings.Join(srv.Listen, " ")), func(directive, place string) {
			a.logger.Warn("no request can reach this "+directive+": a handler before it always answers", zap.String("place", place))
		})
	}
}

// walkRoutes tells of the handlers that cannot be reached, and reports whether a
// request can get past these routes.
func walkRoutes(routes caddyhttp.RouteList, place string, unreachable func(directive, place string)) (passes bool) {
	passes = true
	for i, r := range routes {
		here := fmt.Sprintf("%s, route %d", place, i+1)
		if !walkHandlers(r.Handlers, passes, here, unreachable) && len(r.MatcherSets) == 0 {
			passes = false
		}
	}
	return passes
}

func walkHandlers(handlers []caddyhttp.MiddlewareHandler, reached bool, place string, unreachable func(directive, place string)) (passes bool) {
	passes = true
	for _, h := range handlers {
		switch h := h.(type) {
		case *Cache:
			if !reached || !passes {
				unreachable("fluster_cache", place)
			}
		case *Queue:
			if !reached || !passes {
				unreachable("fluster_queue", place)
			}
		case *caddyhttp.Subroute:
			tell := unreachable
			if !reached || !passes {
				tell = func(string, string) {}
				walkHandlers(flatten(h.Routes), false, place, unreachable)
			}
			if !walkRoutes(h.Routes, place, tell) {
				passes = false
			}
		case *caddyhttp.StaticResponse, caddyhttp.StaticResponse, *caddyhttp.StaticError, caddyhttp.StaticError, *reverseproxy.Handler:
			passes = false
		case *fileserver.FileServer:
			passes = passes && h.PassThru
		}
	}
	return passes
}

// flatten returns all handlers of the routes, whatever their matchers say.
func flatten(routes caddyhttp.RouteList) (out []caddyhttp.MiddlewareHandler) {
	for _, r := range routes {
		out = append(out, r.Handlers...)
	}
	return out
}
