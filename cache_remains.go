package fluster

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// remains is what remains of an exchange when the request is answered: what
// placeholders and access logs are told then, and the values of the response's
// header. The exchange itself may be used again, as that of another request: it is
// most of what a hit allocates, and would take 0.6 µs of it, garbage collection included.
type remains struct {
	x *exchange // of which it remains, until that is used again

	lastKey  string // of x, when it was used again
	lastNode *node
	lastText string // what String returns
	lastHit  bool

	room [12]string // of header values, enough for most responses; all takes 256 bytes
}

// exchanges are those that may be used again. They are zero.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// begin returns the exchange of a request. It ends by end.
func (h *Cache) begin(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) *exchange {
	x := exchanges.Get().(*exchange)
	x.Cache, x.w, x.r, x.client, x.next = h, w, r, r, next
	x.now, x.patience = time.Now(), time.Duration(h.pool.config.Timeout)
	x.remains = &remains{x: x}
	x.lines = x.remains.room[:0]
	return x
}

// end gives back what the exchange held, and itself if it is nobody else's. It is
// the last that is done with x.
func (x *exchange) end() {
	x.giveBack()
	x.letNodeGo()
	x.leaveBehind()
	if !x.unshared {
		return
	}
	if !x.sending {
		x.loan.Return()
	}
	o := x.remains
	o.lastText, o.lastHit = o.String(), x.status.Hit
	o.x, o.lastKey, o.lastNode = nil, x.key, x.node
	*x = exchange{}
	exchanges.Put(x)
}

// giveBack returns what the exchange held of what all bodies may take.
func (x *exchange) giveBack() {
	if x.held > 0 {
		x.pool.flights.recorded.Add(-x.held)
	}
}

// own returns a copy of values in memory of the response's own. Those of a stored
// response are shared by all requests, and whoever changes a header in place
// must not change theirs.
func (x *exchange) own(values ...string) []string {
	n := len(x.lines)
	x.lines = append(x.lines, values...)
	return x.lines[n:len(x.lines):len(x.lines)]
}

// expose makes the placeholders known, and the field `fluster` of access logs.
func (x *exchange) expose() {
	ctx := x.r.Context()
	if srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && srv != nil && srv.Logs != nil {
		if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
			extra.Set(zap.Stringer("fluster", x.remains))
		}
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(x.remains.placeholder)
	}
}

// placeholder returns the value of a placeholder that begins with http.fluster.
func (o *remains) placeholder(name string) (any, bool) {
	what, ok := strings.CutPrefix(name, "http.fluster.")
	if !ok {
		return nil, false
	}
	switch what {
	case "cache_status":
		return o.String(), true
	case "hit":
		return o.hit(), true
	case "key":
		return o.key(), true
	case "node":
		if n := o.node(); n != nil {
			return n.label, true
		}
		return "", true
	}
	return nil, false
}

// String is this cache's member of Cache-Status, whatever the client is told.
func (o *remains) String() string {
	switch {
	case o.x == nil:
		return o.lastText
	case o.x.text != "":
		return o.x.text
	}
	return memberText(o.x.status)
}

func (o *remains) hit() bool {
	if o.x == nil {
		return o.lastHit
	}
	return o.x.status.Hit
}

func (o *remains) key() string {
	if o.x == nil {
		return o.lastKey
	}
	return o.x.key
}

// node is the one that was asked last, nil if none was.
func (o *remains) node() *node {
	if o.x == nil {
		return o.lastNode
	}
	return o.x.node
}
