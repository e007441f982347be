package fluster

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
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
	before              http.Header // the header before the handlers behind wrote to it
	times               httpcache.Times
	header              http.Header // the client's, which is asked for often

	mode     fillMode
	head     *entry // what is stored, without its body
	copying  bool   // a copy of the body is kept
	muted    bool   // the client gets no body, or is gone
	answered bool   // the client has its 304, and nobody wants the body
	fill     *fill  // stores the body in chunks, if it is long
	unfilled bool   // there was no place for such a one
	most     int64  // the longest body that is kept whole in memory
	pump     *pump  // writes to the client in place of Write, from pumpAfter on
	telling  *pump  // sends the client its 304, while the body comes for others
	kept     kept   // what waits to be written with the next part
	hijacked bool
	gotRange httpcache.ContentRange // of the part that came
	want     int64                  // Content-Length, −1 if there is none
	got      int64
	done     bool
}

// fillMode is what becomes of a response that the origin gives.
type fillMode uint8

const (
	waiting      fillMode = iota // for the head
	passing                      // the response goes to the client
	confirmed                    // it is a 304 for what is stored
	misconfirmed                 // it is a 304 for something else
	replaced                     // it is a failure, and what is stored is served instead
	completing                   // it is the missing part of what is stored
)

func newFillWriter(x *exchange, fl *flight, f *found, use httpcache.Reuse, sent time.Time) *fillWriter {
	h := x.w.Header()
	return &fillWriter{
		ResponseWriter: x.w, x: x, fl: fl, f: f, use: use, times: httpcache.Times{Sent: sent},
		header: h, before: headerBefore(h), want: -1,
	}
}

// WriteHeader decides what becomes of the response. Informational ones pass.
func (w *fillWriter) WriteHeader(status int) {
	if w.mode != waiting {
		return
	}
	if status < 200 {
		defer w.watch().Stop() // in HTTP/2 and /3 it is sent at once
		w.x.writeInformational(w.ResponseWriter, status)
		return
	}
	w.times.Received = time.Now()
	w.x.now, w.x.place.came = w.times.Received, w.x.pool.asks.Add(1)
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
			w.fl.length = got.Length // nobody else has this flight
		}
	case w.f != nil && status >= 500 && w.use.IfError && w.mayStandIn():
		w.mode = replaced
	default:
		w.mode = passing
		if w.f != nil && status == http.StatusOK && w.x.r.Method == http.MethodHead {
			w.x.freshenByHead(w.f, w.ownHeader(), w.times)
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
	if x.outdates != "" && status < 500 {
		x.pool.near.Load().Delete(x.outdates) // whether or not this one takes its place
	}
	if w.f != nil && w.use.Request && !v.Store && status < 500 {
		x.pool.near.Load().Delete(w.f.resp.Key) // it may be fresh, and is older
	}
	if httpcache.Invalidates(x.r.Method, status) && !x.invalidateChanged(own, tags) {
		v.Store = false
	}
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: status, Stored: v.Store, Detail: v.Detail}
	if !v.Store && status < 500 { // of a failure nobody says that it is newer
		w.noteUnstored(status, own)
	}
	if v.Store && !x.canStore(w.want) {
		x.status.Stored, x.status.Detail = false, "no-node"
	}
	for _, name := range x.tags {
		delete(h, name)
	}
	if c := x.logger.Check(zap.DebugLevel, "response forwarded"); c != nil {
		c.Write(zap.String("url", x.url), zap.Int("status", status), zap.Bool("stored", v.Store), zap.String("why_not", v.Detail))
	}
	if !v.Store {
		metrics.missAlone.Inc()
		w.settleAlone(status)
		if status == http.StatusOK && x.answersCondition(own) {
			w.muted, w.answered = true, true
			delete(h, "Content-Length")
			status = http.StatusNotModified
		}
		x.tell(h)
		w.ResponseWriter.WriteHeader(status)
		if w.answered {
			http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // it only hurries
		}
		return
	}
	metrics.missStored.Inc()
	x.unmarkAlone() // the next ones can share
	if w.want > lockedBody {
		x.place.lock.letGo(isLost)
	}
	w.head = w.newHead(status, own, v, tags)
	w.noteServed(w.head.resp.Key, true, first(own["Etag"]))
	w.copying, w.most = true, w.mostWhole()
	if w.want > w.most {
		w.fl.passBy()
	}
	w.fl.share(w.head, w.want)
	if status == http.StatusOK && x.answersCondition(own) {
		w.muted = true
		w.confirmToClient(own, v.Drop)
		w.answered = w.keepsToItself()
		return
	}
	x.tell(h)
	w.ResponseWriter.WriteHeader(status)
}

// mostWhole returns the longest body that is kept whole in memory while it comes: one
// that the near cache takes, or that lies in one value on the node; and where others
// wait for it, one that each of them would else have to read from the node in chunks.
func (w *fillWriter) mostWhole() int64 {
	most := max(inlineBody, int64(w.x.pool.near.Load().Largest()))
	if w.fl.isAwaited() {
		most = max(most, awaitedBody)
	}
	return min(w.x.maxBody, most)
}

// Write sends a part of the body to the client and to the copy.
func (w *fillWriter) Write(p []byte) (int, error) {
	if w.mode == waiting {
		w.WriteHeader(http.StatusOK)
	}
	switch w.mode {
	case completing:
		w.got += int64(len(p))
		w.copying = w.fl.add(p, maxJoined)
		return len(p), nil
	case passing:
	default:
		return len(p), nil
	}
	if w.answered && max(w.want, w.got+int64(len(p))) > pumpAfter {
		return 0, errAnswered // to read a short one costs less than the origin's connection
	}
	early := w.want <= w.most && w.got+int64(len(p)) <= pumpAfter // then the copy waits for nobody
	if early {
		w.toCopy(p)
	}
	if err := w.toClient(p); err != nil {
		w.spoil()
		return 0, err
	}
	if !early {
		w.toCopy(p)
	}
	w.got += int64(len(p))
	if w.got > lockedBody {
		w.x.place.lock.letGo(isLost)
	}
	if w.pump != nil && !w.copying {
		return 0, errNobodyWants
	}
	return len(p), nil
}

// toCopy adds the next part of the body to the copy, from which others take it.
func (w *fillWriter) toCopy(p []byte) {
	w.toNode(p)
	if w.copying && !w.fl.add(p, w.most) {
		w.copying = w.isFollowed()
	}
}

// spoil gives the copy up, as it lacks what could not be written. Not every handler ends
// its response when it hears of that: encode writes what is left, and says nothing.
func (w *fillWriter) spoil() {
	w.head, w.copying = nil, false
	w.fill.giveUp()
	w.fl.settle(broken)
}

// toNode stores the next part of the body on the node, if it is a long one.
func (w *fillWriter) toNode(p []byte) {
	switch n := w.got + int64(len(p)); {
	case w.head == nil:
		return
	case n > w.x.maxBody:
		w.head = nil
		w.fill.giveUp()
		return
	case w.unfilled, w.fill == nil && max(n, w.want) <= inlineBody:
		return
	case w.fill == nil:
		w.fill = w.x.startFill(keepFor(&w.head.resp.Terms, time.Now()), w.want)
		if w.unfilled = w.fill == nil; w.unfilled {
			return
		}
		w.fl.feed(w.fill) // what came before
	}
	w.fill.add(p)
}

// errNobodyWants ends a forward whose clients have all gone.
var errNobodyWants = errors.New("fluster: all clients have gone")

// errAnswered ends a forward whose only client has a 304.
var errAnswered = errors.New("fluster: the client has the body already")

// ReadFrom lets the operating system copy what is not kept.
func (w *fillWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.mode == waiting {
		w.WriteHeader(http.StatusOK)
	}
	if w.mode == passing && !w.copying && !w.muted && w.pump == nil && !w.fill.isAlive() {
		if err := w.sendFirst(); err != nil {
			return 0, err
		}
		n, err := io.Copy(w.ResponseWriter, r)
		w.got += n
		return n, err
	}
	return io.Copy(struct{ io.Writer }{w}, r)
}

// FlushError sends on what was written, if it was for the client.
func (w *fillWriter) FlushError() error {
	if w.mode == waiting {
		w.WriteHeader(http.StatusOK) // the client's writer would, unseen
	}
	defer w.watch().Stop()
	w.pumpStreams()
	if w.mode > passing || w.muted || w.pump != nil {
		return nil // the pump does it by itself
	}
	if err := w.sendFirst(); err != nil {
		return err
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
