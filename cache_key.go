package fluster

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// names are what a request is called.
type names struct {
	key   string // the cache key (RFC 9111, Section 2)
	url   string // the URL that the key stands for: what is stored, and selected by invalidations
	asked string // the URL as the client asked for it, which selects as well
	plain string // the cache key before No-Vary-Search

	pathless bool // no path was asked for, and so no URL
}

// name returns what r is called, and the request as it is to be sent on: what
// the key leaves out of the query is not sent either, nor how the host was written, so
// that the origin cannot answer by it.
//
// A URL is written as the client asked for it, before any rewrite: scheme, Host
// in lower case without the default port, raw path, raw query. Where nothing
// else counts it is the key. What else counts is on lines of its own below it;
// no URL has line breaks.
func (k *Key) name(r *http.Request) (names, *http.Request) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	host := journal.TrimDefaultPort(scheme, strings.ToLower(r.Host))
	uri, pathless := target(r.RequestURI, r.URL)
	asked := uri
	if u, p, ok := originalTarget(r); ok {
		asked, pathless = u, p
	}
	n := names{asked: scheme + "://" + host + asked, pathless: pathless}
	site := n.asked[:len(n.asked)-len(asked)]
	var extra []string
	if uri != asked {
		extra = append(extra, "uri "+k.filterURI(uri)) // rewritten
	}
	if err := errorOf(r); err != nil {
		extra = append(extra, "error "+statusOf(err)) // in handle_errors
	}
	n.url = n.asked
	if k.filters() {
		n.url = site + k.filterURI(asked)
	}
	sent := asNamed(r, host, uri)
	if k == nil {
		n.key = joinKey(n.url, extra)
		return n, sent
	}
	n.key = n.url
	if k.IgnoreHost {
		n.key = scheme + "://*" + n.url[len(site):]
	}
	n.key = joinKey(n.key, k.appendFields(extra, r))
	return n, k.filterRequest(sent)
}

// asNamed returns r, or a copy whose Host and target are written like this. A target in
// absolute form has more in it than counts: user information, a scheme of any name.
func asNamed(r *http.Request, host, uri string) *http.Request {
	if r.RequestURI == "" {
		uri = "" // a request made by this process
	}
	if r.Host == host && r.RequestURI == uri {
		return r
	}
	out := new(http.Request)
	*out = *r
	out.Host, out.RequestURI = host, uri
	return out
}

// isForError reports whether the request is in handle_errors.
func isForError(r *http.Request) bool { return errorOf(r) != nil }

// errorOf returns the error that the request is in handle_errors for, if any.
func errorOf(r *http.Request) error {
	err, _ := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	return err
}

// statusOf returns the status that a handler's error stands for, "" if it names none.
func statusOf(err error) string {
	failure, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok {
		return ""
	}
	return strconv.Itoa(failure.StatusCode)
}

// target returns the path and query that a request is for. It says whether there is
// no path. What a client may write there instead (http:.au/ is a URL without one) must
// not run into the host.
func target(requestURI string, u *url.URL) (uri string, pathless bool) {
	if strings.HasPrefix(requestURI, "/") {
		return requestURI, false
	}
	uri = u.RequestURI() // absolute form, or a request made by this process
	if !strings.HasPrefix(uri, "/") {
		return "/" + uri, true
	}
	return uri, u.Path == ""
}

// originalTarget is target before any rewrite. (It is apart, so that the copy of the request
// that Caddy keeps is off the stack when the rest is done.)
func originalTarget(r *http.Request) (uri string, pathless, ok bool) {
	o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return "", false, false
	}
	uri, pathless = target(o.RequestURI, o.URL)
	return uri, pathless, true
}

// isHost reports whether a request may be for the host. HTTP/3 lets a client write
// anything there, also what in a URL belongs to the path; and a * in a key stands
// for all hosts.
func isHost(host string) bool {
	return host != "" && httpguts.ValidHostHeader(host) && strings.IndexByte(host, '*') < 0
}

// appendFields appends what counts of the request's header. What is not there is
// another thing than what is empty, and than what did not count when a response was
// stored.
func (k *Key) appendFields(extra []string, r *http.Request) []string {
	add := func(what string, values []string) {
		if len(values) == 0 {
			extra = append(extra, what)
		}
		for _, v := range values {
			extra = append(extra, what+" "+v)
		}
	}
	for _, name := range k.Header {
		add("header "+strings.ToLower(name), r.Header.Values(name))
	}
	for _, name := range k.Cookie {
		add("cookie "+name, rawCookies(r.Header, name))
	}
	return extra
}

// rawCookies returns the values of a cookie as they were sent. A parser that
// leaves some out would not see what the origin sees.
func rawCookies(h http.Header, name string) (values []string) {
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			n, v, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if strings.Trim(n, " \t") == name {
				values = append(values, v)
			}
		}
	}
	return values
}

func joinKey(url string, extra []string) string {
	if len(extra) == 0 {
		return url
	}
	return url + "\n" + strings.Join(extra, "\n")
}

func (k *Key) filters() bool {
	return k != nil && (len(k.QueryAllow)+len(k.QueryDeny) > 0 || k.QuerySort)
}

// filterURI returns a path and query without the parameters that do not count.
func (k *Key) filterURI(uri string) string {
	path, query, ok := strings.Cut(uri, "?")
	if !ok || !k.filters() {
		return uri
	}
	if query = k.filter(query); query == "" {
		return path
	}
	return path + "?" + query
}

// filterRequest returns r, or a copy without the parameters that do not count.
func (k *Key) filterRequest(r *http.Request) *http.Request {
	u := k.filterURL(r.URL)
	if u == r.URL {
		return r
	}
	out := new(http.Request)
	*out = *r
	out.URL, out.RequestURI = u, u.RequestURI()
	return out
}

// filterURL returns u, or a copy without the parameters that do not count. Where no
// parameter is there, the key has no "?" either.
func (k *Key) filterURL(u *url.URL) *url.URL {
	if !k.filters() {
		return u
	}
	query := k.filter(u.RawQuery)
	if query == u.RawQuery && !u.ForceQuery {
		return u
	}
	out := *u
	out.RawQuery, out.ForceQuery = query, false
	return &out
}

// filter returns the raw query without the parameters that do not count. What
// remains stays as it was written.
func (k *Key) filter(raw string) string {
	params := strings.Split(raw, "&")
	params = slices.DeleteFunc(params, func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if len(k.QueryAllow) > 0 && !matchesAny(k.QueryAllow, name) {
			return true
		}
		return matchesAny(k.QueryDeny, name)
	})
	if k.QuerySort {
		// By name only: the order of the values of one name may mean something.
		slices.SortStableFunc(params, func(a, b string) int {
			an, _, _ := strings.Cut(a, "=")
			bn, _, _ := strings.Cut(b, "=")
			return strings.Compare(an, bn)
		})
	}
	return strings.Join(params, "&")
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return wild && strings.HasPrefix(name, prefix) || p == name
	})
}
