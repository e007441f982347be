package fluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// A request flows through here into the queue:
//
//	request → body → message → node → 202
//
// The rest of it is in queue_worker.go.

// arrival is one request on its way into a queue.
type arrival struct {
	*Queue // the handler that defines the queue, which need not be the one that is asked
	live   *liveQueue
	opened *openedQueue
	w      http.ResponseWriter
	r      *http.Request
	repl   *caddy.Replacer
	prefer preferences
	now    time.Time
	body   *bodyReader
	item   *batchItem // what {http.fluster.item.…} is about; nil: nothing
}

// ServeHTTP puts the request into the queue, or answers what became of an
// earlier one, or goes on to the next handler.
func (h *Queue) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, asked := isBehind(r); asked != nil {
		return caddyhttp.Error(http.StatusNotFound, errors.New("a fluster_queue takes the request")) // which is none
	}
	x := &arrival{Queue: h.live.definition(), live: h.live, w: w, r: r}
	id, isQuestion := x.asksFor()
	if !isQuestion && !x.isTaken() {
		return next.ServeHTTP(w, r)
	}
	var err error
	if x.opened, err = h.live.use(); err != nil {
		return x.refuse(&refusal{status: http.StatusServiceUnavailable, reason: "closed", detail: "the queue is not open", after: time.Second})
	}
	defer x.opened.leave()
	x.now = time.Now()
	x.repl, _ = r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if isQuestion {
		return x.tellStatus(id)
	}
	if err := x.accept(); err != nil {
		return x.refuse(err)
	}
	return nil
}

// isTaken reports whether the request is for the queue. It reads what the client prefers.
func (x *arrival) isTaken() bool {
	if !slices.Contains(x.rules.methods, x.r.Method) || asksToUpgrade(x.r) {
		return false
	}
	if x.r.Header["Prefer"] != nil {
		x.prefer = readPreferences(x.r.Header)
	}
	return x.When != "prefer" || x.prefer.async
}

// accept puts the request into the queue and answers it.
func (x *arrival) accept() error {
	if x.r.ContentLength > x.rules.maxBody {
		return errTooLarge // before the client has sent it
	}
	x.body = &bodyReader{r: http.MaxBytesReader(x.w, x.r.Body, x.rules.maxBody)}
	if x.mayBeBatch() {
		return x.acceptBatch()
	}
	m, err := x.message()
	if err != nil {
		return err
	}
	buffer := bodyBuffers.Get().(*bytes.Buffer)
	defer putBack(buffer)
	if err := x.addBody(m, buffer); err != nil {
		return err
	}
	return x.enqueue(m)
}

// message makes a message of the request, without its body.
func (x *arrival) message() (*queue.Message, error) {
	m, err := messageOf(x.r, x.rules.keep, x.now)
	if err != nil {
		return nil, &refusal{status: http.StatusRequestHeaderFieldsTooLarge, reason: "fields_too_large", detail: err.Error()}
	}
	return m, x.describe(m)
}

// describe adds what the options say of a message.
func (x *arrival) describe(m *queue.Message) (err error) {
	rules := &x.rules
	if m.ID = rules.id.value(x.repl); m.ID != "" && !isMessageID(m.ID) {
		return wrongRequest("the message's id must be at most 128 visible ASCII characters, none of { } : ~")
	}
	if m.DedupKey = rules.dedup.value(x.repl); m.DedupKey != "" {
		m.DedupWindow = rules.window
	}
	m.OrderKey = rules.order.value(x.repl)
	m.Class = rules.class.value(x.repl)
	m.Track = rules.status != ""
	if m.Delay, err = x.ahead(rules.delay, rules.mayDelay, "Fluster-Delay"); err != nil {
		return err
	}
	if m.Expire, err = x.ahead(rules.expire, rules.mayExpire, "Fluster-Expire"); err != nil {
		return err
	}
	if m.Expire < 0 || m.Expire > 0 && m.Expire <= m.Delay {
		return wrongRequest("the message would expire before it may be delivered")
	}
	return nil
}

// ahead returns a time ahead by option, or by the client's field where it may say
// so. What is over already is negative.
func (x *arrival) ahead(t template, may bool, field string) (time.Duration, error) {
	text := ""
	if may {
		text = x.r.Header.Get(field)
	}
	if text == "" {
		text = t.value(x.repl)
	}
	if text == "" {
		return 0, nil
	}
	d, err := parseAhead(text, x.now)
	if err != nil {
		return 0, wrongRequest(strings.ToLower(strings.TrimPrefix(field, "Fluster-")) + ": " + err.Error())
	}
	if d == 0 && field == "Fluster-Expire" {
		return -1, nil
	}
	return d, nil
}

// maxMessageID is the longest id that a client may choose.
const maxMessageID = 128

// isMessageID reports whether s may be the id of a message: it becomes a part of
// keys, where : ~ { and } mean something.
func isMessageID(s string) bool {
	return s != "" && len(s) <= maxMessageID && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("{}:~", r)
	})
}

// bodyBuffers hold bodies until they are in messages, which have copies: a fifth
// of what a request takes of memory.
var bodyBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxBuffer is the largest buffer that is kept for other bodies.
const maxBuffer = 64 << 10

// putBack gives a buffer back that nobody has a part of any more.
func putBack(b *bytes.Buffer) {
	if b.Cap() > maxBuffer {
		return
	}
	b.Reset()
	bodyBuffers.Put(b)
}

// addBody adds the body to the message: in b where it is short, else as it comes.
func (x *arrival) addBody(m *queue.Message, b *bytes.Buffer) error {
	if x.r.ContentLength == 0 {
		return nil
	}
	short := x.rules.inlineBody + 1
	if n := x.r.ContentLength; n > 0 && n < short {
		short = n + 1
	}
	if x.r.ContentLength > 0 {
		b.Grow(int(min(short, 4<<10)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(&io.LimitedReader{R: x.body, N: short}); err != nil {
		return x.body.refusal()
	}
	if int64(b.Len()) <= x.rules.inlineBody {
		m.Body = b.Bytes()
		return nil
	}
	m.Reader = io.MultiReader(bytes.NewReader(b.Bytes()), x.body)
	return nil
}

// enqueue puts the message in and answers the request.
func (x *arrival) enqueue(m *queue.Message) error {
	waiting := x.expectReply(m)
	defer waiting.forget()
	// A client that hangs up now has sent all of its request; the message is in,
	// or nobody knows. What is still to be read of the body fails by itself.
	receipt, err := x.opened.client.Enqueue(context.WithoutCancel(x.r.Context()), m)
	if err != nil {
		return x.refusalOf(err)
	}
	x.count(receipt)
	x.repl.Set("http.fluster.message_id", receipt.ID)
	if !receipt.Replayed && waiting.answer(x, receipt.ID) {
		return nil
	}
	return x.acknowledge(m, receipt)
}

// count counts an accepted message.
func (x *arrival) count(receipt queue.Receipt) {
	if receipt.Replayed {
		return // it was counted when it came first
	}
	x.live.count.accepted(receipt.Node)
	if receipt.FailedOver != "" {
		x.live.count.failedOver(receipt.FailedOver)
	}
}

// acknowledge answers 202.
func (x *arrival) acknowledge(m *queue.Message, receipt queue.Receipt) error {
	h := x.w.Header()
	setKind(h, "application/json")
	h["Fluster-Message-Id"] = []string{receipt.ID}
	if x.rules.status != "" {
		h["Location"] = []string{x.location(receipt.ID)}
	}
	if receipt.Replayed {
		h["Idempotency-Replayed"] = []string{"true"}
	}
	if p := x.heeded(); p != "" {
		h["Preference-Applied"] = []string{p}
	}
	b := make([]byte, 0, 128)
	b = append(b, '{')
	b = appendAccepted(b, x.Name, receipt, m.Delay > 0)
	b = append(b, '}', '\n')
	x.w.WriteHeader(http.StatusAccepted)
	if _, err := x.w.Write(b); err != nil && !errors.Is(err, context.Canceled) {
		x.debug("answering", err)
	}
	return nil
}

// setKind sets the fields that all answers have. The values are this answer's own:
// other directives may change them where they are.
func setKind(h http.Header, contentType string) {
	own := []string{contentType, "no-store"}
	h["Content-Type"], h["Cache-Control"] = own[:1:1], own[1:]
}

// appendAccepted appends the members id, queue and state. Names of queues and ids
// need no escapes but for two characters.
func appendAccepted(b []byte, name string, receipt queue.Receipt, isDelayed bool) []byte {
	state := "ready"
	switch {
	case receipt.Replayed:
		state = "accepted" // how far it is by now, its status tells
	case isDelayed:
		state = "delayed"
	}
	b = append(b, `"id":"`...)
	for i := range len(receipt.ID) {
		if c := receipt.ID[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, receipt.ID[i])
	}
	b = append(b, `","queue":"`...)
	b = append(b, name...)
	b = append(b, `","state":"`...)
	b = append(b, state...)
	return append(b, '"')
}

// heeded is what Preference-Applied says with a 202.
func (x *arrival) heeded() string {
	p := x.prefer
	if x.rules.wait == 0 {
		p.wait = 0
	}
	return p.applied()
}

// location is where the state of a message is told.
func (x *arrival) location(id string) string { return x.rules.status + "/" + url.PathEscape(id) }

func (x *arrival) debug(doing string, err error) {
	if c := x.logger.Check(zap.DebugLevel, "a request for the queue"); c != nil {
		c.Write(zap.String("queue", x.Name), zap.String("doing", doing), zap.Error(err))
	}
}

// bodyReader reads a request's body, and keeps in mind how that failed: what
// comes back from Enqueue may be the fault of a node or of the client.
type bodyReader struct {
	r    io.Reader
	read bool // something was
	err  error
}

// Read reads on. After an error it is over.
func (b *bodyReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.read = true
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// refusal returns why the body could not be read; nil if it could.
func (b *bodyReader) refusal() error {
	if b.err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](b.err); ok {
		return errTooLarge
	}
	return &refusal{status: http.StatusBadRequest, reason: "unread", detail: "the body could not be read to its end"}
}
