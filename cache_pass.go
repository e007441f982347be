package fluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// isTunnel reports whether the request asks to leave HTTP, as WebSocket does.
// The offer to go on in HTTP/2 is none: any client may make it at any time.
func isTunnel(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return true
	}
	return r.Method == http.MethodGet && asksToUpgrade(r)
}

// asksToUpgrade reports whether the request asks to go on in a protocol that is not HTTP.
func asksToUpgrade(r *http.Request) bool {
	upgrade := first(r.Header["Upgrade"])
	return upgrade != "" && !strings.EqualFold(upgrade, "h2c") && hasMember(r.Header["Connection"], "upgrade")
}

// bypasses reports whether the request is one that never looks up nor stores.
// Conditions on the state of the origin (If-Match) are for the origin alone,
// and so is content: it is no part of the key, but an origin may answer by it.
// A request without a host, or with one that is none, is for nobody. Fields that
// Connection names do not reach the origin (RFC 9110, Section 7.6.1), so nothing
// may depend on them.
func (h *Cache) bypasses(r *http.Request) (bool, error) {
	if r.Header["If-Match"] != nil || r.Header["If-Unmodified-Since"] != nil || !isHost(r.Host) {
		return true, nil
	}
	if r.ContentLength != 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return true, nil
	}
	if c := r.Header["Connection"]; c != nil && namesFields(c) {
		return true, nil
	}
	if len(h.bypass) == 0 {
		return false, nil
	}
	return h.bypass.AnyMatchWithError(r)
}

// namesFields reports whether the lines of Connection name more than what is
// about the connection itself.
func namesFields(lines []string) bool {
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.Trim(option, " \t")) {
			case "", "close", "keep-alive", "upgrade", "te", "http2-settings":
			default:
				return true
			}
		}
	}
	return false
}

// hasMember reports whether the lines of a list have the member.
func hasMember(lines []string, member string) bool {
	for _, line := range lines {
		for m := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(m, " \t"), member) {
				return true
			}
		}
	}
	return false
}

// pass forwards the request without looking at what is stored, and lets the
// response through as it is.
func (x *exchange) pass(why string) error {
	x.why = why
	r := x.r
	if r != x.client {
		r = x.toNext(r.Context())
	}
	return x.serveNext(&passWriter{ResponseWriter: x.w, x: x}, r)
}

// change forwards a request whose method may change something. The response to
// a POST may say that it is what a GET would get, and is stored then.
func (x *exchange) change(bypass bool) error {
	x.nameBySearch()
	x.why = "method"
	if bypass {
		x.why = "bypass"
	}
	return x.fetch(x.pool.flights.solo(), nil, httpcache.Reuse{})
}

// invalidateChanged invalidates what a request with an unsafe method has
// changed (RFC 9111, Section 4.4; RFC 9875, Section 3), before its client learns
// that it was done. It reports whether the response itself may be stored: it is
// newer than what it invalidated, but nothing else that selects it may have
// been invalidated since it was asked for. It is stored in this process alone:
// whether the same holds for a journal, nobody can tell in time.
func (x *exchange) invalidateChanged(h http.Header, tags []string) bool {
	var targets []journal.Target
	add := func(k journal.Kind, value string) {
		if t, err := journal.NewTarget(k, value, false); err == nil && !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	for _, u := range append(httpcache.InvalidatedURIs(x.absoluteURL(), h), x.url) {
		add(journal.URL, u)
	}
	for _, g := range httpcache.CacheGroupInvalidation(h) {
		add(journal.Tag, groupTag(x.key, g))
	}
	records := x.pool.records(targets)
	for _, g := range httpcache.CacheGroups(h) {
		tags = append(tags[:len(tags):len(tags)], groupTag(x.key, g))
	}
	sel := journal.NewSelectors(x.url, tags).WithURL(x.asked)
	learn, ok := x.pool.book.LearnAfter(records, x.place.learn, &sel)
	x.place = place{learn: learn, sent: x.place.sent, came: x.place.came}
	if len(records) == 0 {
		return ok
	}
	// What the nodes do not have by then they are owed; this process has it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), time.Duration(x.pool.config.Timeout))
	defer cancel()
	if _, err := x.pool.publish(ctx, records); err != nil && !errors.Is(err, ErrQuorum) {
		x.logger.Warn("invalidating after an unsafe request", zap.Error(err))
	}
	return ok
}

// passWriter lets a response through that is not looked up nor stored, without the
// tags, and with this cache's word in Cache-Status.
type passWriter struct {
	http.ResponseWriter
	x      *exchange
	silent bool // there is no such word: the request asks to leave HTTP
	done   bool // the head is written
}

// WriteHeader tells what was done, once the head is final.
func (w *passWriter) WriteHeader(status int) {
	if status < 200 {
		w.x.writeInformational(w.ResponseWriter, status)
		return
	}
	if !w.done {
		w.done = true
		h := w.Header()
		for _, name := range w.x.tags {
			delete(h, name)
		}
		if !w.silent {
			w.x.status = httpcache.CacheStatus{Fwd: w.x.why, FwdStatus: status}
			w.x.tell(h)
			metrics.passed.Inc()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// writeInformational lets an informational response through, without the tags. The final
// one may yet have them.
func (h *Cache) writeInformational(w http.ResponseWriter, status int) {
	header, tags := w.Header(), http.Header{}
	for _, name := range h.tags {
		if lines, ok := header[name]; ok {
			tags[name] = lines
			delete(header, name)
		}
	}
	w.WriteHeader(status)
	maps.Copy(header, tags)
}

// Write sends a part of the body.
func (w *passWriter) Write(p []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom lets the operating system copy.
func (w *passWriter) ReadFrom(r io.Reader) (int64, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return io.Copy(w.ResponseWriter, r)
}

// FlushError sends on what was written; the head if that was nothing.
func (w *passWriter) FlushError() error {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over. Not everybody who switches protocols asks Unwrap.
func (w *passWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController what this writer does not change.
func (w *passWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
