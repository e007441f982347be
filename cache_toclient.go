package fluster

import (
	"net/http"
	"time"
)

// pumpAfter is how much of a body that others may share is written to the client
// at once: as much as the system takes without waiting for it. It is what a proxy
// reads at one time, so that the first byte waits for nothing else.
const pumpAfter = 32 << 10

// toClient sends the next part of the body to the client, unless the pump does.
func (w *fillWriter) toClient(p []byte) error {
	if w.pump != nil || w.keepFirst(p) {
		return nil
	}
	defer w.watch().Stop()
	err := w.sendFirst()
	if w.got+int64(len(p)) > pumpAfter {
		w.startPump()
	}
	w.pumpStreams()
	if w.pump != nil || w.muted {
		return nil
	}
	if err == nil {
		_, err = w.ResponseWriter.Write(p)
	}
	if w.got == 0 && w.want > pumpAfter {
		http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // it only hurries
	}
	if err == nil || !w.copying || !w.fl.goOn() {
		return err
	}
	w.muted = true // the client has gone; the others have not
	return nil
}

// watch frees those who share the forward, or wait for its lock, from a client whose
// connection takes nothing of what is written to it beside the pump: they wait for it no
// longer than for a follower. The timer is to be stopped when it is written.
func (w *fillWriter) watch() *time.Timer {
	if w.fl.key == "" || w.mode == passing && !w.copying { // it is for this client alone, and the lock was let go of
		return noTimer
	}
	lock := w.x.place.lock
	return time.AfterFunc(slowest, func() {
		w.fl.leaveStuck()
		lock.letGo(isLost)
	})
}

// noTimer is one that does not run.
var noTimer = time.AfterFunc(0, func() {})

// pumpStreams starts the pump where even the first write may wait for the client:
// in HTTP/2 and /3, for as long as that likes.
func (w *fillWriter) pumpStreams() {
	if w.x.r.ProtoMajor > 1 {
		w.startPump()
	}
}

// startPump lets the client take the body beside the forward, if others may share
// it, who must not wait for that client.
func (w *fillWriter) startPump() {
	if w.pump == nil && w.copying && !w.muted && w.fl.key != "" && w.fl.isShared() && !w.keepsToItself() {
		if w.got > 0 { // the first byte is not to wait until the pump has its turn
			http.NewResponseController(w.ResponseWriter).Flush() //nolint:errcheck // the pump will see
		}
		w.pump = w.x.startPump(w.fl, w.got)
	}
}

// keepsToItself ends the copy, where it could be kept neither in memory nor on a node and
// nobody shares it yet: who comes from now on would find its beginning gone. What is
// left to do is what a proxy does.
func (w *fillWriter) keepsToItself() bool {
	if w.want <= w.most || w.fill != nil || !w.unfilled && w.x.canFill() || !w.fl.seal() {
		return false
	}
	w.head, w.copying = nil, false
	w.x.place.lock.letGo(isLost) // others wait for what will not be stored
	return true
}

// isFollowed reports whether the copy, which is not kept whole, is for anybody.
// While the forward goes on for its own client without it, others may yet come.
func (w *fillWriter) isFollowed() bool {
	switch {
	case w.fl.key == "":
		return false
	case w.pump == nil || w.pump.lost.Load():
		return true
	}
	return w.fl.goOn()
}
