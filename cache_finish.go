package fluster

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/journal"
)

// await runs the handlers behind. One that breaks its response off does so by a
// panic; where something stored stands in for that response, or the client has its
// answer without the body, it says nothing more.
func (w *fillWriter) await(req *http.Request) (err error) {
	defer func() {
		if w.mode != replaced && !w.hasAnswer() {
			return
		}
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errBrokenOff
		default:
			panic(p)
		}
		if err != nil && w.hasAnswer() {
			w.spoil() // for those who take the body, if any
			err = nil
		}
	}()
	return w.x.serveNext(w, req)
}

// hasAnswer reports whether the client has its 304, whatever becomes of the body.
func (w *fillWriter) hasAnswer() bool { return w.answered || w.telling != nil }

// errBrokenOff says that the origin did not end its response.
var errBrokenOff = errors.New("fluster: the origin broke its response off")

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
		body, _ := w.fl.whole()
		return false, w.finishPart(body)
	case w.mode == confirmed && !w.x.open(w.f):
		// The origin has confirmed what is not there any more.
		w.fl.settle(alone)
		w.restore()
		return true, nil
	case w.mode == replaced && !w.mayStandIn():
		w.fl.settle(alone)
		w.restore()
		return true, nil // what the origin said is gone, and is all that there is
	case w.mode == replaced:
		return false, w.serveStale()
	}
	return false, w.serveConfirmed()
}

// awaitPump waits until the client has its response.
func (w *fillWriter) awaitPump() {
	if w.pump == nil {
		return
	}
	w.endPump()
	if w.pump.panicked != nil {
		panic(w.pump.panicked)
	}
	w.x.complete(w.fl, w.pump.off, w.pump.end)
}

// endPump waits for the client, which may be slow; nobody else is to wait for it.
func (w *fillWriter) endPump() {
	w.x.place.lock.letGoUnlessHanded()
	<-w.pump.done
	w.pump.addTrailers(w.x.w.Header())
}

// abort ends the exchange when a handler behind panics, which is how a response
// is broken off.
func (w *fillWriter) abort() {
	if w.done {
		return
	}
	w.end()
}

// end lets go of the flight, when the client has what it is to have.
func (w *fillWriter) end() {
	w.sendFirst()       //nolint:errcheck // it is not whole, and the client will see
	w.fl.settle(broken) // unless it has ended otherwise: nobody waits for ever
	w.fill.stop()
	defer w.fl.end()
	if w.pump != nil {
		w.endPump()
	}
	if t := w.telling; t != nil {
		w.x.place.lock.letGoUnlessHanded()
		if <-t.done; t.panicked != nil {
			panic(t.panicked)
		}
	}
}

// fail ends an exchange that got no response, or a part of one.
func (w *fillWriter) fail(err error) error {
	switch {
	case w.mode == waiting && isRefusal(err):
		w.outdate()
	case w.mode == waiting && w.f != nil && w.use.IfError && w.mayStandIn():
		return w.serveStale()
	}
	if w.mode == passing {
		w.fl.settle(broken)
		return err
	}
	w.fl.releaseTo(everybody)
	metrics.missAlone.Inc()
	w.x.status = httpcache.CacheStatus{Fwd: w.x.why}
	w.x.tell(w.Header())
	return err
}

// isRefusal reports whether a handler behind has answered by an error, which is about
// the request and no failure, as file_server does where there is no file.
func isRefusal(err error) bool {
	refusal, ok := errors.AsType[caddyhttp.HandlerError](err)
	return ok && 400 <= refusal.StatusCode && refusal.StatusCode < 500 && refusal.StatusCode != statusClientClosed
}

// outdate forgets what the near cache has, as the origin has said something else since.
func (w *fillWriter) outdate() {
	near := w.x.pool.near.Load()
	if w.f != nil {
		near.Delete(w.f.resp.Key)
	}
	if w.x.outdates != "" {
		near.Delete(w.x.outdates)
	}
}

// store keeps the copy if it is whole: the body ended where it said it would.
func (w *fillWriter) store() {
	if w.want >= 0 && w.got != w.want && w.x.r.Method != http.MethodHead {
		w.fl.settle(broken)
		return
	}
	if w.head != nil && w.stillTrue() {
		if w.fill.isAlive() {
			w.x.keepFilled(w.fl, w.head, w.fill, w.got)
		} else if body, ok := w.fl.whole(); ok {
			w.x.keepCame(w.fl, w.head, fit(body))
		}
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
	if w.x.place.learn == w.x.pool.book.Learnt() {
		return true
	}
	v, _ := w.x.pool.book.ValidNear(w.x.place.learn, w.x.selectors(w.head))
	return v != journal.Dead
}

// restore undoes what the handlers behind wrote to the header.
func (w *fillWriter) restore() {
	h := w.Header()
	clear(h)
	for name, values := range w.before {
		h[name] = slices.Clone(values) // it may be shared
	}
}

// addUnstored adds to what the client gets the fields of the origin's answer that are
// dropped from what is stored, like a cookie that is stripped: they are for this client,
// as they are where the answer goes to it whole. own is changed.
func (w *fillWriter) addUnstored(own http.Header, dropped []string) {
	h := w.Header()
	for _, name := range dropped {
		if len(own[name]) > 0 && !slices.Contains(w.x.tags, name) {
			h[name] = slices.Concat(h[name], own[name])
			delete(own, name) // it may be named twice
		}
	}
}

// mayStandIn reports whether the stored response may still be served in place of a
// failure, nobody has invalidated it since it was found, and it is there.
func (w *fillWriter) mayStandIn() bool {
	x, why := w.x, w.x.why
	x.now = time.Now() // the origin may have taken long to fail
	use := x.judge(w.f)
	x.why = why
	return use.IfError && w.x.open(w.f) && w.x.validity(w.f.entry) != journal.Dead && w.x.pool.book.Leased(time.Now())
}

// serveStale answers with the stored response in place of a failure.
func (w *fillWriter) serveStale() error {
	x := w.x
	w.fl.releaseTo(everybody)
	w.restore()
	metrics.requests.WithLabelValues("stale-if-error").Inc()
	x.status = httpcache.CacheStatus{Hit: true, TTL: w.f.termsAt(x.now).TTL(x.now), HasTTL: true}
	return x.write(w.f)
}

// confirmToClient answers a conditional request whose response is fetched
// whole: the client's own copy is still good.
func (w *fillWriter) confirmToClient(own http.Header, dropped []string) {
	own = maps.Clone(own)
	w.restore()
	w.addUnstored(own, dropped)
	w.x.writeHead(&found{entry: w.head}, httpcache.NotModifiedHeader(w.head.header()))
	w.ResponseWriter.WriteHeader(http.StatusNotModified)
	// Where the connection takes nothing, as its client reads nothing of what else was
	// sent there, this waits as long as the client likes: not the others, too.
	w.telling = w.x.beside(func(*pump) {
		http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // it only hurries
	})
}

// serveConfirmed answers with the stored response that the origin confirmed.
func (w *fillWriter) serveConfirmed() error {
	x := w.x
	header := maps.Clone(w.ownHeader())
	w.restore()
	e, v := x.freshen(w.f, header, w.times)
	w.addUnstored(header, v.Drop)
	w.noteServed(e.resp.Key, v.Store, e.field("Etag"))
	x.status = httpcache.CacheStatus{Fwd: x.why, FwdStatus: http.StatusNotModified, Stored: v.Store, Detail: v.Detail}
	metrics.requests.WithLabelValues("validated").Inc()
	if v.Store {
		x.keepAgain(e) // who comes when the others have it finds it; and if it is torn, it goes
		e = x.shareStored(w.fl, e)
	} else {
		e.forOne = true
		w.fl.settle(alone)
		x.pool.near.Load().Delete(w.f.resp.Key)
	}
	return x.write(&found{entry: e})
}
