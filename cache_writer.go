package fluster

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// fillWriter is what the handlers behind the cache write a response to. It
// streams the response to the client while a copy is kept, unless the response
// is not for the client: a 304 that confirms what is stored, or a failure that
// something stored stands in for.
type fillWriter struct {
	http.ResponseWriter // the client's
	x                   *exchange
	fl                  *flight
	f                   *found // what is validated, or nil
	use                 httpcache.Reuse
	sent                time.Time
	before              http.Header // the header before the handlers behind wrote to it
	times               httpcache.Times

	mode     fillMode
	status   int    // of the failure that is replaced
	head     *entry // what is stored, without its body
	copying  bool   // a copy of the body is kept
	muted    bool   // the client gets no body, or is gone
	pump     *pump  // writes to the client in place of Write, from pumpAfter on
	hijacked bool
	gotRange httpcache.ContentRange // of the part that came
	want     int64                  // Content-Length, −1 if there is none
	got      int64
	done     bool
}

type fillMode uint8

const (
	waiting      fillMode = iota // for the head
	passing                      // the response goes to the client
	confirmed                    // it is a 304 for what is stored
	misconfirmed                 // it is a 304 for something else
	replaced                     // it is a failure, and what is stored is served instead
	completing                   // it is the missing part of what is stored
)

func newFillWriter(x *exchange, fl *flight, f *found, use httpcache.Reuse) *fillWriter {
	return &fillWriter{
		ResponseWriter: x.w, x: x, fl: fl, f: f, use: use, sent: time.Now(),
		before: maps.Clone(x.w.Header()), want: -1,
	}
}

// WriteHeader decides what becomes of the response. Informational ones pass.
func (w *fillWriter) WriteHeader(status int) {
	if w.mode != waiting {
		return
	}
	if status < 200 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.times = httpcache.Times{Sent: w.sent, Received: time.Now()}
	h := w.Header()
	switch {
	case w.f != nil && status == http.StatusNotModified && w.x.r.Method == http.MethodGet:
		w.mode = misconfirmed
		if httpcache.SelectedBy304(w.f.header(), h) {
			w.mode = confirmed
		}
	case w.x.part != nil && status != http.StatusOK:
		w.mode = misconfirmed
		if got, ok := w.x.part.completes(status, h, w.x.maxBody); ok {
			w.mode, w.gotRange = completing, got
		}
	case w.f != nil && status >= 500 && w.use.IfError && w.mayStandIn():
		w.mode, w.status = replaced, status
	default:
		w.mode = passing
		if w.f != nil && status == http.StatusOK && w.x.r.Method == http.MethodHead {
			w.x.freshenByHead(w.f, h, w.times)
		}
		w.pass(status, h)
	}
}

// pass lets the response through, and begins its copy if it may be stored.
func (w *fillWriter) pass(status int, h http.Header) {
	x := w.x
	w.want = contentLength(h)
	own := w.ownHeader()
	v, tags := w.judge(status, own)
	if httpcache.Invalidates(x.r.Method, status) && !x.invalidateChanged(own, tags) {
		v.Store = false
	}
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: status, Stored: v.Store, Detail: v.Detail}
	if v.Store && !x.canStore() {
		x.status.Stored, x.status.Detail = false, "no-node"
	}
	for _, name := range x.tags {
		delete(h, name)
	}
	if c := x.logger.Check(zap.DebugLevel, "response forwarded"); c != nil {
		c.Write(zap.String("url", x.url), zap.Int("status", status), zap.Bool("stored", v.Store), zap.String("why_not", v.Detail))
	}
	if !v.Store {
		metrics.requests.WithLabelValues("miss").Inc()
		w.settleAlone()
		if status == http.StatusOK && x.answersCondition(own) {
			w.muted = true
			delete(h, "Content-Length")
			status = http.StatusNotModified
		}
		x.tell(h)
		w.ResponseWriter.WriteHeader(status)
		return
	}
	metrics.requests.WithLabelValues("stored").Inc()
	w.head = w.newHead(status, own, v, tags)
	w.copying = true
	w.fl.share(w.head, x.place.learn, w.want)
	if status == http.StatusOK && x.answersCondition(own) {
		w.muted = true
		w.confirmToClient()
		return
	}
	x.tell(h)
	w.ResponseWriter.WriteHeader(status)
}

// canStore reports whether there is a place for what may be stored.
func (x *exchange) canStore() bool {
	return x.place.node != nil && x.place.ok || x.pool.near.Load() != nil
}

// answersCondition reports whether the client's conditions, which were not sent
// on, make the answer to it a 304.
func (x *exchange) answersCondition(header http.Header) bool {
	return x.r.Method == http.MethodGet && x.isConditional() && x.r.Header["Range"] == nil &&
		httpcache.EvaluatePreconditions(x.r.Method, x.r.Header, http.StatusOK, header, x.now)
}

// judge asks the rules, and what the operator chose beyond them.
func (w *fillWriter) judge(status int, h http.Header) (v httpcache.Verdict, tags []string) {
	x := w.x
	v = x.policy.MayStore(x.asRequest(), status, h, w.times)
	no := func(detail string) (httpcache.Verdict, []string) {
		return httpcache.Verdict{Detail: detail}, nil
	}
	switch {
	case !v.Store && x.why == "method", x.why == "bypass":
		return no("") // that says it all
	case strings.HasPrefix(h.Get("Content-Type"), "text/event-stream"):
		return no("event-stream") // it has no end, and each client wants its own
	case headerSize(h) > maxHeader:
		return no("max-header")
	case !v.Store:
		return v, nil
	case status == http.StatusPartialContent && x.r.Header["Range"] == nil:
		return no("range") // nobody asked for a part
	case x.Store != nil && !x.Store.Match(status, h):
		return no("store")
	case w.want > x.maxBody:
		return no("max-body")
	case !httpcache.TagsFit(h, x.tags):
		return no("tags")
	}
	return v, httpcache.Tags(h, x.tags)
}

// maxHeader bounds the header that is stored: it lies in one value, and all
// small values share a connection.
const maxHeader = 64 << 10

func headerSize(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}

// settleAlone releases all who wait for this response, and spares those to come
// the waiting for a while.
func (w *fillWriter) settleAlone() {
	if w.fl.settle(alone) {
		x := w.x
		x.pool.notes.Set(aloneKey(x.key), &entry{aloneUntil: x.now.Add(aloneFor).UnixMilli()})
	}
}

// newHead returns the response as it is stored, without its body: of the
// header, what the handlers behind the cache have written.
func (w *fillWriter) newHead(status int, h http.Header, v httpcache.Verdict, tags []string) *entry {
	x := w.x
	own := httpcache.EndToEnd(h)
	drop(own, v.Drop, x.tags)
	if own["Date"] == nil {
		own.Set("Date", w.times.Received.UTC().Format(http.TimeFormat))
	}
	x.noteSearch(h)
	resp := &stored.Response{
		Key: x.key, URL: x.url, Status: status, Header: w.fields(own), Terms: v.Terms,
		Tags: tags, Groups: httpcache.CacheGroups(h),
	}
	if len(v.Nominated) > 0 {
		resp.Nominated = nominate(v.Nominated, x.r.Header)
		resp.Key = variantKey(x.key, resp.Nominated)
	}
	return newEntry(resp, x.place.learn)
}

// confirmToClient answers a conditional request whose response is fetched
// whole: the client's own copy is still good.
func (w *fillWriter) confirmToClient() {
	h := w.Header()
	clear(h)
	maps.Copy(h, w.before)
	w.x.writeHead(&found{entry: w.head}, httpcache.NotModifiedHeader(w.head.header()))
	w.ResponseWriter.WriteHeader(http.StatusNotModified)
	http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // it only hurries
}

// pumpAfter is how much of a body that others may share is written to the
// client at once: as much as the system takes without waiting for it.
const pumpAfter = 16 << 10

// Write sends a part of the body to the client and to the copy.
func (w *fillWriter) Write(p []byte) (int, error) {
	if w.mode == waiting {
		w.WriteHeader(http.StatusOK)
	}
	switch w.mode {
	case completing:
		w.got += int64(len(p))
		w.copying = w.fl.add(p, w.x.maxBody)
		return len(p), nil
	case passing:
	default:
		return len(p), nil
	}
	if w.copying && w.pump == nil && !w.muted && w.fl.key != "" && w.got+int64(len(p)) > pumpAfter {
		w.pump = w.x.startPump(w.fl, w.got)
	}
	w.got += int64(len(p))
	if w.copying && !w.fl.add(p, w.x.maxBody) {
		w.copying = w.fl.isWanted()
		w.head = nil // too long to be stored
	}
	switch {
	case w.pump != nil && !w.copying:
		return 0, errNobodyWants
	case w.pump != nil || w.muted:
		return len(p), nil
	}
	n, err := w.ResponseWriter.Write(p)
	if err != nil && w.copying && w.fl.isWanted() {
		w.muted = true // the client has gone; the others have not
		return len(p), nil
	}
	return n, err
}

// errNobodyWants ends a forward whose clients have all gone.
var errNobodyWants = errors.New("fluster: all clients have gone")

// ReadFrom lets the operating system copy what is not kept.
func (w *fillWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.mode == waiting {
		w.WriteHeader(http.StatusOK)
	}
	if w.mode == passing && !w.copying && !w.muted {
		n, err := io.Copy(w.ResponseWriter, r)
		w.got += n
		return n, err
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}

// FlushError sends on what was written, if it was for the client.
func (w *fillWriter) FlushError() error {
	if w.mode > passing || w.muted || w.pump != nil {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over; there is no response any more.
func (w *fillWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hijacked, w.copying = true, false
	w.fl.settle(alone)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController what this writer does not change.
func (w *fillWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish ends the exchange after the handlers behind have returned err. again
// says that the origin has to be asked once more, without a condition.
func (w *fillWriter) finish(err error) (again bool, _ error) {
	w.done = true
	defer w.end()
	if w.hijacked {
		return false, err
	}
	if w.mode == waiting && err == nil {
		w.WriteHeader(http.StatusOK) // an empty response
	}
	switch {
	case w.mode == waiting || w.mode == passing && err != nil:
		return false, w.fail(err)
	case w.mode == passing:
		w.store()
		w.awaitPump()
		return false, nil
	case w.mode == misconfirmed:
		w.fl.settle(alone)
		w.restore()
		return true, nil
	case w.mode == completing && (err != nil || w.got != w.gotRange.Length || !w.copying):
		w.restore()
		return true, nil
	case w.mode == completing:
		return false, w.finishPart(w.fl.body)
	case w.mode == replaced:
		return false, w.serveStale(w.status, err)
	}
	return false, w.serveConfirmed()
}

// awaitPump waits until the client has its response. One that was cut off must
// not take what it has for the whole.
func (w *fillWriter) awaitPump() {
	if w.pump == nil {
		return
	}
	<-w.pump.done
	if !w.pump.ok {
		panic(http.ErrAbortHandler)
	}
}

// abort ends the exchange when a handler behind panics, which is how a response
// is broken off.
func (w *fillWriter) abort() {
	if w.done {
		return
	}
	w.fl.settle(broken)
	w.end()
}

// end lets go of the flight, when the client has what it is to have.
func (w *fillWriter) end() {
	if w.pump != nil {
		<-w.pump.done
	}
	w.fl.end()
}

// fail ends an exchange that got no response, or a part of one.
func (w *fillWriter) fail(err error) error {
	if w.mode == waiting && w.f != nil && w.use.IfError {
		return w.serveStale(http.StatusBadGateway, err)
	}
	if w.mode == passing {
		w.fl.settle(broken)
		return err
	}
	w.fl.settle(alone)
	metrics.requests.WithLabelValues("miss").Inc()
	w.x.status = httpcache.CacheStatus{Fwd: w.x.why}
	w.x.tell(w.Header())
	return err
}

// store keeps the copy if it is whole: the body ended where it said it would.
func (w *fillWriter) store() {
	if w.want >= 0 && w.got != w.want && w.x.r.Method != http.MethodHead {
		w.fl.settle(broken)
		return
	}
	w.fl.mu.Lock()
	body, base := w.fl.body, w.fl.base
	w.fl.mu.Unlock()
	if w.head != nil && base == 0 && w.stillTrue() {
		w.x.keepWhole(w.head, fit(body))
	}
	w.fl.settle(whole)
}

// fit returns the body in memory of about its own size.
func fit(body []byte) []byte {
	if cap(body)-len(body) > len(body)/8 {
		return bytes.Clone(body)
	}
	return slices.Clip(body)
}

// stillTrue reports whether nothing that selects the response was learnt since
// it was asked for. If something was, it would only be refused later.
func (w *fillWriter) stillTrue() bool {
	v, _ := w.x.pool.book.ValidNear(w.x.place.learn, w.x.selectors(w.head))
	return v != journal.Dead
}

// ownHeader returns the fields that the handlers behind wrote; of one that had
// lines before, the lines that they added.
func (w *fillWriter) ownHeader() http.Header {
	own := make(http.Header, len(w.Header()))
	for name, values := range w.Header() {
		before := w.before[name]
		switch {
		case name == "Server" || len(before) == 0:
			own[name] = values
		case w.grew(name, values):
			own[name] = values[len(before):]
		case !slices.Equal(before, values):
			own[name] = values
		}
	}
	return own
}

// grew reports whether the handlers behind added lines to those there were.
func (w *fillWriter) grew(name string, values []string) bool {
	before := w.before[name]
	return name != "Server" && len(before) > 0 && len(values) > len(before) && slices.Equal(before, values[:len(before)])
}

// fields returns a header as it is stored. A field that is to be added to the
// lines that stand before it is marked.
func (w *fillWriter) fields(own http.Header) []stored.Field {
	out := fields(own)
	for i, f := range out {
		if w.grew(f.Name, w.Header()[f.Name]) {
			out[i].Name = added + f.Name
		}
	}
	return out
}

// restore undoes what the handlers behind wrote to the header.
func (w *fillWriter) restore() {
	h := w.Header()
	clear(h)
	maps.Copy(h, w.before)
}

// mayStandIn reports whether the stored response is still what nobody has
// invalidated since it was found.
func (w *fillWriter) mayStandIn() bool {
	return w.x.validity(w.f.entry) != journal.Dead && w.x.pool.book.Leased(time.Now())
}

// serveStale answers with the stored response in place of a failure.
func (w *fillWriter) serveStale(status int, err error) error {
	x := w.x
	w.fl.settle(alone)
	w.restore()
	if !w.mayStandIn() {
		return caddyhttp.Error(status, err)
	}
	metrics.requests.WithLabelValues("stale-if-error").Inc()
	x.status = httpcache.CacheStatus{Hit: true, TTL: w.f.termsAt(x.now).TTL(x.now), HasTTL: true}
	return x.write(w.f)
}

// serveConfirmed answers with the stored response that the origin confirmed.
func (w *fillWriter) serveConfirmed() error {
	x := w.x
	header := w.ownHeader()
	w.restore()
	e, v := x.freshen(w.f, header, w.times)
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: http.StatusNotModified, Stored: v.Store, Detail: v.Detail}
	metrics.requests.WithLabelValues("validated").Inc()
	if v.Store {
		w.fl.mu.Lock()
		w.fl.body = e.resp.Body
		w.fl.mu.Unlock()
		w.fl.all.recorded.Add(int64(len(e.resp.Body)))
		w.fl.share(e, x.place.learn, e.resp.BodySize)
		w.fl.settle(whole)
		x.keepWhole(e, e.resp.Body)
	} else {
		w.fl.settle(alone)
		x.pool.near.Load().Delete(e.resp.Key)
	}
	return x.write(&found{entry: e})
}
