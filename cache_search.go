package fluster

import (
	"net/http"
	"strings"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// A response may say which differences between queries make none to it
// (No-Vary-Search). What the last response of a path said is noted under
// searchKey, and names the requests that come after it.

// searchKey is the key of that note: the cache key without its query.
func searchKey(key string) string {
	url, extra, _ := strings.Cut(key, "\n")
	path, _, _ := strings.Cut(url, "?")
	return path + "\nsearch\n" + extra
}

// searched returns the key under which all queries lie that v takes for equal.
func searched(key string, v httpcache.SearchVariance) string {
	url, extra, _ := strings.Cut(key, "\n")
	path, query, _ := strings.Cut(url, "?")
	return path + "?" + v.Canonical(query) + "\nsearched\n" + extra
}

// nameBySearch gives the exchange the key of its equivalents, if the path's
// responses are known to have such.
func (x *exchange) nameBySearch() {
	if !x.policy.NoVarySearch {
		return
	}
	x.plain = x.key
	if e, ok := x.pool.notes.Get(searchKey(x.key)); ok && e.search != nil {
		x.key = searched(x.plain, *e.search)
	}
}

// renameBySearch is nameBySearch by what was noted since.
func (x *exchange) renameBySearch() {
	x.key, x.list, x.varies, x.seen = x.plain, nil, nil, false
	x.nameBySearch()
}

// isSearchedBy reports whether the query of this request means the same as the one
// that the response was fetched for, by what the response itself says of that.
func (x *exchange) isSearchedBy(e *entry) bool {
	if !x.policy.NoVarySearch {
		return true
	}
	key := x.plain
	if lines := e.values("No-Vary-Search"); lines != nil {
		if v := httpcache.ParseNoVarySearch(http.Header{"No-Vary-Search": lines}); !v.IsDefault() {
			key = searched(key, v)
		}
	}
	return variantKey(key, e.resp.Nominated) == e.resp.Key
}

// noteSearch takes note of what a response that is stored says of queries, and
// gives it the key of its equivalents.
func (x *exchange) noteSearch(h http.Header) {
	if !x.policy.NoVarySearch {
		return
	}
	v := httpcache.ParseNoVarySearch(h)
	note := searchKey(x.plain)
	if v.IsDefault() {
		x.key = x.plain
		x.pool.notes.Delete(note)
		return
	}
	x.key = searched(x.plain, v)
	x.pool.notes.Set(note, &entry{search: &v})
}
