package fluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// explain answers GET /fluster/explain?url=…&header=Name:%20value.
func (a *adminAPI) explain(app *App, w http.ResponseWriter, r *http.Request) error {
	e, err := app.explain(r)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, e)
}

// explain explains what the admin endpoint is asked for, by a request that goes through
// the routes of a server that has the URL's port. Several have, where sites are bound to
// addresses of their own: which one a client connects to the URL does not say, so it is
// the first one that has a cache for it. An error is a [caddy.APIError].
func (a *App) explain(r *http.Request) (*Explanation, error) {
	e := &Explanation{Nodes: []ExplainedNode{}}
	if _, err := explainedRequest(r, e); err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	servers, err := a.serversFor(r.URL.Query().Get("url"))
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	status := 0
	for _, srv := range servers {
		req, err := explainedRequest(r, e) // handlers may change it
		if err != nil {
			return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		answer := &unread{header: http.Header{}}
		answer.serve(srv, req)
		if e.Would != "" {
			return e, nil
		}
		status = cmp.Or(status, answer.status)
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound,
		Err: fmt.Errorf("the request reaches no fluster_cache: it was answered with status %d", status)}
}

// explainedRequest returns the request that is to be explained.
func explainedRequest(r *http.Request, e *Explanation) (*http.Request, error) {
	q := r.URL.Query()
	for name := range q {
		if name != "url" && name != "header" {
			return nil, fmt.Errorf("there is no parameter %s: it takes url and header", name)
		}
	}
	u, err := url.Parse(q.Get("url"))
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("url must be one as a client asks for it: http://host/path or https://host/path")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("url must have neither a user nor a fragment: no server is told of them")
	}
	req, err := http.NewRequestWithContext(context.WithValue(r.Context(), behindKey{}, e), http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if req.Header, err = fieldLines(q["header"]); err != nil {
		return nil, err
	}
	takeHost(req)
	// As a server has it.
	req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), r.RemoteAddr
	if u.Scheme == "https" {
		req.TLS = &tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, ServerName: u.Hostname()}
	}
	req.URL = &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery}
	if req.URL.Path == "" {
		req.URL.Path = "/"
	}
	return req, nil
}

// fieldLines returns the field lines that lines like "Name: value" are.
func fieldLines(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("a header field must be Name: value, not %q", line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// takeHost makes what the header has as Host the request's.
func takeHost(r *http.Request) {
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	r.Header.Del("Host")
}

// serversFor returns the servers that listen to the port of a URL, by their names; those
// that do so at the URL's host, as it is an address, before others.
func (a *App) serversFor(raw string) ([]*caddyhttp.Server, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return nil, err
	}
	web := app.(*caddyhttp.App)
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = strconv.Itoa(orDefault(web.HTTPSPort, caddyhttp.DefaultHTTPSPort))
	default:
		port = strconv.Itoa(orDefault(web.HTTPPort, caddyhttp.DefaultHTTPPort))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	var there, others []*caddyhttp.Server
	for _, name := range slices.Sorted(maps.Keys(web.Servers)) {
		switch srv := web.Servers[name]; {
		case listens(srv, n, u.Hostname()):
			there = append(there, srv)
		case listens(srv, n, ""):
			others = append(others, srv)
		}
	}
	if len(there)+len(others) == 0 {
		return nil, fmt.Errorf("no server listens to port %s", port)
	}
	return append(there, others...), nil
}

// listens reports whether a server listens to a port; at that host, if one is named.
func listens(srv *caddyhttp.Server, port uint64, host string) bool {
	return slices.ContainsFunc(srv.Listen, func(listen string) bool {
		addr, err := caddy.ParseNetworkAddress(listen)
		return err == nil && uint64(addr.StartPort) <= port && port <= uint64(addr.EndPort) && (host == "" || addr.Host == host)
	})
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// unread is where handlers write a response that nobody reads.
type unread struct {
	header http.Header
	status int
}

// serve lets a server answer the request. A handler may break its response off.
func (u *unread) serve(srv *caddyhttp.Server, r *http.Request) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			panic(p)
		}
	}()
	srv.ServeHTTP(u, r)
}

// Header returns what nobody reads.
func (u *unread) Header() http.Header { return u.header }

// WriteHeader notes the status.
func (u *unread) WriteHeader(status int) {
	if u.status == 0 && status >= 200 {
		u.status = status
	}
}

// Write drops p.
func (u *unread) Write(p []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	return len(p), nil
}
