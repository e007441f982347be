package fluster

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/stored"
)

// headerBefore returns a copy of the header that there is before the handlers
// behind write to it. Usually that is Caddy's Server field alone, and then the
// copy is shared by all, read only.
func headerBefore(h http.Header) http.Header {
	if server := h["Server"]; len(h) == 1 && len(server) == 1 && server[0] == caddyServer["Server"][0] {
		return caddyServer
	}
	return maps.Clone(h)
}

var caddyServer = http.Header{"Server": {"Caddy"}}

// answersCondition reports whether the client's conditions, which were not sent
// on, make the answer to it a 304; also where it asks for a range, which counts
// only if they do not (RFC 9110, Section 13.2.2).
func (x *exchange) answersCondition(header http.Header) bool {
	return x.r.Method == http.MethodGet && x.isConditional() &&
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
	case x.why == "method" && x.asked != x.url:
		return no("") // a GET of the URL would not be sent on as this was
	case isEventStream(first(h["Content-Type"])):
		return no("event-stream") // it has no end, and each client wants its own
	case headerSize(h) > maxHeader:
		return no("max-header")
	case !v.Store:
		return v, nil
	case status == http.StatusPartialContent && x.r.Header["Range"] == nil:
		return no("range") // nobody asked for a part
	case status >= 400 && w.f == nil && x.goesAsItIs():
		return no("range") // file_server has its own status for what is empty, or a part
	case x.Store != nil && !x.Store.Match(status, h):
		return no("store")
	case w.want > x.maxBody:
		return no("max-body")
	case !slices.ContainsFunc(x.tags, func(name string) bool { return h[name] != nil }):
		return v, nil
	case !httpcache.TagsFit(h, x.tags):
		return no("tags")
	}
	return v, httpcache.Tags(h, x.tags)
}

// isEventStream reports whether a Content-Type, whose case does not count, is that of events.
func isEventStream(kind string) bool {
	const events = "text/event-stream"
	return len(kind) >= len(events) && strings.EqualFold(kind[:len(events)], events)
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

// newHead returns the response as it is stored, without its body: of the
// header, what the handlers behind the cache have written.
func (w *fillWriter) newHead(status int, h http.Header, v httpcache.Verdict, tags []string) *entry {
	x := w.x
	x.noteSearch(h)
	header, room := w.fields(h, v.Drop)
	w.fl.room = room
	head := &withResponse{response: stored.Response{
		Key: x.key, URL: x.url, Status: status, Header: header, Terms: v.Terms,
		Tags: tags, Groups: httpcache.CacheGroups(h),
	}}
	resp := &head.response
	if x.isRecoded(h) {
		resp.Terms.Flags |= httpcache.Recoded
	}
	if values, ok := h["Content-Type"]; ok && len(values) == 0 {
		resp.Terms.Flags |= httpcache.Untyped
	}
	if len(v.Nominated) > 0 {
		resp.Nominated = nominate(v.Nominated, x.r.Header)
		resp.Key = variantKey(x.key, resp.Nominated)
	}
	head.entry.init(resp, x.place.learn)
	x.date(&head.entry)
	return &head.entry
}

// Header returns the header of the response; while the pump writes, its own.
func (w *fillWriter) Header() http.Header {
	switch {
	case w.pump != nil:
		return w.pump.header
	case w.telling != nil:
		return w.telling.header
	}
	return w.header
}

// ownHeader returns the fields that the handlers behind wrote; of one that had
// lines before, the lines that they added. It may be the header itself.
func (w *fillWriter) ownHeader() http.Header {
	if _, ok := w.before["Server"]; len(w.before) == 0 || ok && len(w.before) == 1 {
		return w.Header()
	}
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

// fields returns a header as it is stored: end to end, without the fields of
// dropped, those that carry tags, and those that are made anew for each answer;
// with the date on which it came. A field that is to be added to the lines that
// stand before it is marked. Behind it, in the same piece of memory, there is room for
// the body, if both are short.
func (w *fillWriter) fields(own http.Header, dropped []string) (h stored.Header, room []byte) {
	named := httpcache.ConnectionOptions(own)
	var stack [usualHeader]byte
	text := appendFields(stack[:0], own, w.times.Received, func(name string) string {
		switch {
		case name == "Age", name == "Content-Length", httpcache.IsHopByHop(name), slices.Contains(named, name),
			slices.Contains(dropped, name), slices.Contains(w.x.tags, name):
			return ""
		case len(w.before) > 1 && w.grew(name, w.Header()[name]):
			return added + name
		}
		return name
	})
	// The body keeps all of that memory, also with another header (RFC 9111, Section 4.3.4).
	if w.want <= 0 || w.want >= blockSize || len(text) > usualHeader {
		return stored.Header(text), nil
	}
	memory := append(make([]byte, 0, len(text)+int(w.want)), text...)
	return stored.AliasHeader(memory), memory[len(text):]
}

// usualHeader is the length of most headers, or more.
const usualHeader = 1 << 10

// fields returns a header as it is stored, each field under the name that as gives it.
func fields(h http.Header, came time.Time, as func(name string) string) stored.Header {
	var stack [usualHeader]byte
	return stored.Header(appendFields(stack[:0], h, came, as))
}

// appendFields appends a header as it is stored: each field under the name that as
// gives it, and none without one; with as nil each under its own. If there is no date,
// it has that on which it came.
func appendFields(text []byte, h http.Header, came time.Time, as func(name string) string) []byte {
	dated := false
	for name, values := range h {
		asName := name
		if as != nil {
			asName = as(name)
		}
		if asName == "" {
			continue
		}
		dated = dated || name == "Date" && len(values) > 0
		for _, v := range values {
			text = stored.AppendField(text, asName, v)
		}
	}
	if !dated {
		text = stored.AppendField(text, "Date", came.UTC().Format(http.TimeFormat))
	}
	return text
}

// drop removes fields that are not stored: those that the rules name, those
// that carry tags, and those that are made anew for each answer.
func drop(h http.Header, lists ...[]string) {
	for _, list := range lists {
		for _, name := range list {
			h.Del(name)
		}
	}
	h.Del("Age")
	h.Del("Content-Length")
}
