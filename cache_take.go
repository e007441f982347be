package fluster

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
)

// bodyEnd is how the taking of a body ended.
type bodyEnd uint8

const (
	atEnd  bodyEnd = iota // the client has the whole
	gone                  // the client has gone
	cutOff                // the origin broke the body off
	lost                  // the rest is not to be had from the flight
)

// takeBody writes the flight's body from off on to w as it comes, and returns
// how far it got, and how that ended. A client that goes away is nobody's fault.
func (x *exchange) takeBody(f *flight, w http.ResponseWriter, off int64) (int64, bodyEnd) {
	rc := http.NewResponseController(w)
	for {
		t := f.take(x, off)
		part := t.part
		switch {
		case t.state == alone: // its connection was taken over
			return off, cutOff
		case t.sentOff:
			return off, lost
		case t.fallen:
			var ok bool
			if part, ok = f.fill.read(x.r.Context(), off); !ok {
				return off, x.whyLost()
			}
		case len(part) == 0 && t.state == whole:
			return off, atEnd
		}
		if len(part) > 0 {
			_, err := w.Write(part)
			if t.block != nil {
				f.done(t.block, err == nil)
			}
			if err != nil {
				return off, gone
			}
			off += int64(len(part))
			continue
		}
		rc.Flush() //nolint:errcheck // it only hurries
		switch {
		case t.state == broken && t.stuck:
			return off, lost
		case t.state == broken:
			return off, cutOff
		}
		select {
		case <-t.changed:
		case <-x.r.Context().Done():
			return off, gone
		}
	}
}

func (x *exchange) whyLost() bodyEnd {
	if x.r.Context().Err() != nil {
		return gone
	}
	return lost
}

// takeFirst returns the beginning of the flight's body for one who comes when
// memory has it no more; nothing if it has. It returns false if the beginning is
// not to be had: nothing was sent yet, and the request can be forwarded.
func (x *exchange) takeFirst(f *flight) (first []byte, ok bool) {
	f.mu.Lock()
	late := f.base > 0
	f.mu.Unlock()
	if !late {
		return nil, true
	}
	return f.fill.read(x.r.Context(), 0)
}

// complete ends a response of which the client has what stands before off.
// Nobody must take a part for the whole.
func (x *exchange) complete(f *flight, off int64, end bodyEnd) {
	switch end {
	case cutOff:
		x.breakOff()
	case lost:
		length, ok := f.finalLength(x)
		if !ok {
			x.breakOff()
		}
		x.continueFrom(f.head, httpcache.Range{Start: off, Length: length - off})
	}
}

// breakOff ends a response so that its client sees that it is not whole. What was
// written of it is sent before, which the server would throw away.
func (x *exchange) breakOff() {
	http.NewResponseController(x.w).Flush() //nolint:errcheck // the client has gone, or will see
	panic(http.ErrAbortHandler)
}

// finalLength returns the length of the body, for which it waits if it must; the
// caller takes no more of it.
func (f *flight) finalLength(x *exchange) (n int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { // it needs the forward no more, however long it takes the rest
		delete(f.evicted, x)
		f.endIfUnwantedLocked()
		f.releaseLocked()
	}()
	delete(f.followers, x) // nobody is to wait for it
	f.changedLocked()
	if f.length >= 0 {
		return f.length, true
	}
	if !f.divisible { // to know it would not help
		return 0, false
	}
	f.waiting++
	defer func() { f.waiting-- }()
	f.waitWhileLocked(x.r.Context(), shared)
	return f.have, f.state == whole
}

// A pump writes a flight's body to its own leader's client, beside the forward,
// so that a client that reads slowly holds up nobody but itself.
type pump struct {
	// header is for the handlers behind, who write trailers to it. The client's is
	// the pump's: a writer in between, as encode, may yet read and change it.
	header, before http.Header

	lost atomic.Bool // the client needs the rest from elsewhere, when the forward is over
	done chan struct{}
	off  int64 // how much of the body the client has; known when done
	end  bodyEnd

	panicked any // with what the client's writer did, if it did; known when done
}

// startPump lets the leader's client take the rest of the body from off on.
func (x *exchange) startPump(f *flight, off int64) *pump {
	f.mu.Lock()
	f.followLocked(x, off)
	f.mu.Unlock()
	return x.beside(func(p *pump) { // it ends with the flight
		defer f.leave(x)
		p.off, p.end = x.takeBody(f, x.w, off)
		p.lost.Store(p.end == lost)
	})
}

// beside has a pump write to the client beside the forward, which waits for it in
// the end.
func (x *exchange) beside(write func(*pump)) *pump {
	p := &pump{header: x.w.Header().Clone(), done: make(chan struct{})}
	p.before = maps.Clone(p.header)
	go func() {
		defer close(p.done)
		defer func() { p.panicked = recover() }() // where it is, nobody else would
		write(p)
	}()
	return p
}

// addTrailers adds to the client's header, when the pump is done, what was written
// beside it.
func (p *pump) addTrailers(client http.Header) {
	for name, values := range p.header {
		if !slices.Equal(values, p.before[name]) {
			client[name] = values
		}
	}
}
