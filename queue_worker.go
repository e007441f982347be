package fluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// A message flows through here on its way out of the queue:
//
//	receive → deliver → done | tried again | dead letter
//
// The queue package receives, renews and records; deliverer is the function that
// it calls. Each delivery is a request of its own, through the routes of a
// deliver block.

// deliverer delivers the messages of one destination of a queue, as one
// configuration has it.
type deliverer struct {
	config      *QueueDelivery
	destination *Destination
	queue       string
	count       *queueCounts
	callback    *teller // nil: nobody is told
	logger      *zap.Logger
}

// deliver delivers a message once, and says what came of it. ctx ends when the
// message was lost to another worker, or when this one has to stop.
func (w *deliverer) deliver(ctx context.Context, d *queue.Delivery) queue.Result {
	if isDelivered(d.LastStatus) {
		// It has been delivered before; what failed then was to tell of it. By now
		// there may be nobody to tell.
		return w.tell(ctx, d, queue.Result{Outcome: queue.Done, Status: d.LastStatus})
	}
	if d.Unheard {
		w.count.of(queueMetrics.duplicates, d)
	}
	rec := newRecorder(maxResponse)
	r, repl, err := w.request(ctx, d, rec)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errBody) {
			return queue.Result{Outcome: queue.Dead, Reason: err.Error()} // it will not get better
		}
		return w.interrupted(ctx, failed(0, err))
	}
	defer r.Body.Close()
	start := time.Now()
	err = w.serve(rec, r)
	if err == nil && rec.status == 0 {
		rec.WriteHeader(statusOfNoWord(repl))
	}
	res := w.config.judge(rec.status, rec.kept, err, time.Now())
	if res.Outcome != queue.Retry || err == nil && d.Attempt >= w.config.Attempts { // it is the last one
		res.Response = responseOfDelivery(rec)
	}
	w.log(d, r, repl, res, time.Since(start))
	if res.Outcome == queue.Done {
		return w.tell(ctx, d, res)
	}
	return w.interrupted(ctx, res)
}

// statusOfNoWord is the status of a response to which no handler has written: 200, as a
// server has it. But of an upstream that switches protocols unasked reverse_proxy says
// nothing either.
func statusOfNoWord(repl *caddy.Replacer) int {
	if status, _ := repl.Get("http.reverse_proxy.status_code"); status == http.StatusSwitchingProtocols {
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
}

func isDelivered(status int) bool { return status >= 200 && status <= 299 }

// interrupted hands a message back whose delivery failed as its context ended:
// that says nothing about the message.
func (w *deliverer) interrupted(ctx context.Context, res queue.Result) queue.Result {
	if ctx.Err() != nil && res.Outcome == queue.Retry {
		res.Outcome = queue.Release
	}
	return res
}

// tell tells the callback's queue that the message was delivered. Where that
// fails, the message stays, and keeps the status: the next attempt only tells.
func (w *deliverer) tell(ctx context.Context, d *queue.Delivery, res queue.Result) queue.Result {
	if w.callback == nil {
		return res
	}
	err := w.callback.done(ctx, d, res)
	if err == nil {
		return res
	}
	res = queue.Result{Outcome: queue.Retry, Status: res.Status, Reason: "delivered, but telling queue " + w.callback.to + ": " + err.Error()}
	if ctx.Err() != nil {
		// The worker has to stop. Handed back at once, it would be delivered again.
		res.Outcome, res.After = queue.Release, tellPause
	}
	return res
}

// errBody: the body of a message cannot be read now.
var errBody = errors.New("reading the body")

// request returns the request that delivers d, with the context, the replacer and
// the vars that Caddy's handlers look for, and the writer that they write to.
func (w *deliverer) request(ctx context.Context, d *queue.Delivery, rec *recorder) (*http.Request, *caddy.Replacer, error) {
	r, err := requestOf(d)
	if err != nil {
		return nil, nil, err
	}
	setDeliveryFields(r.Header, d)
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err == nil && client != "" {
		r.Header.Set("X-Forwarded-For", client)
	} else {
		r.Header.Del("X-Forwarded-For")
	}
	if len(w.config.secrets) > 0 {
		if err := w.sign(r.Header, d); err != nil {
			r.Body.Close()
			return nil, nil, err
		}
	}
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r.WithContext(ctx), repl, rec, w.config.server)
	// The client is the one that was there when the message was accepted; that it
	// was trusted, if it was, is in its address already.
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, false)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, client)
	w.setPlaceholders(repl, d)
	return r, repl, nil
}

// sign signs the message. Its body is opened for that alone.
func (w *deliverer) sign(h http.Header, d *queue.Delivery) error {
	var body io.ReadCloser = io.NopCloser(bytes.NewReader(d.Body))
	if int64(len(d.Body)) != d.Size {
		body = d.Open()
	}
	defer body.Close()
	if err := sign(h, w.config.secrets, d.ID, time.Now(), body); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	return nil
}

// timeMillis is RFC 3339 with milliseconds.
const timeMillis = "2006-01-02T15:04:05.000Z07:00"

// setDeliveryFields sets the fields that a delivery carries beside those of the
// request that it was. Nobody else can set them.
func setDeliveryFields(h http.Header, d *queue.Delivery) {
	h.Set("Fluster-Message-Id", fieldText(d.ID, 256))
	h.Set("Fluster-Attempt", strconv.Itoa(d.Attempt))
	h.Set("Fluster-Accepted-At", d.AcceptedAt.UTC().Format(timeMillis))
	h.Del("Fluster-Last-Error")
	if text := fieldText(d.LastError, 256); text != "" {
		h.Set("Fluster-Last-Error", text)
	}
	for name, field := range deadFields {
		if text := fieldText(d.Header[name], 256); text != "" {
			h.Set(field, text)
		}
	}
}

// setPlaceholders lets the directives of a deliver block know the message:
//
//	{http.fluster.queue.name}         the queue
//	{http.fluster.queue.destination}  the name of the deliver block, if it has one
//	{http.fluster.queue.id}           the message's id
//	{http.fluster.queue.class}        its priority
//	{http.fluster.queue.attempt}      the number of this attempt, from 1
//	{http.fluster.queue.attempts}     how many there may be
//	{http.fluster.queue.accepted_at}  when it was accepted, RFC 3339
//	{http.fluster.queue.age}          how long ago that was, in seconds
//	{http.fluster.queue.last_error}   how the attempt before failed
//	{http.fluster.queue.last_status}  with which status
//	{http.fluster.queue.node}         the node that it lies on
func (w *deliverer) setPlaceholders(repl *caddy.Replacer, d *queue.Delivery) {
	repl.Map(func(key string) (any, bool) {
		switch key {
		case "http.fluster.queue.name":
			return w.queue, true
		case "http.fluster.queue.destination":
			return w.destination.Name, true
		case "http.fluster.queue.id":
			return d.ID, true
		case "http.fluster.queue.class":
			return d.Class, true
		case "http.fluster.queue.attempt":
			return d.Attempt, true
		case "http.fluster.queue.attempts":
			return w.config.Attempts, true
		case "http.fluster.queue.accepted_at":
			return d.AcceptedAt.UTC().Format(timeMillis), true
		case "http.fluster.queue.age":
			return max(time.Since(d.AcceptedAt), 0).Seconds(), true
		case "http.fluster.queue.last_error":
			return fieldText(d.LastError, 256), true
		case "http.fluster.queue.last_status":
			return d.LastStatus, true
		case "http.fluster.queue.node":
			return d.Node, true
		}
		return nil, false
	})
}

// errCutOff: the response ended before its end, or a directive aborted it.
var errCutOff = errors.New("the response was cut off")

// serve runs the routes. A panic in them is a failure of the delivery, not of Caddy.
func (w *deliverer) serve(rec *recorder, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: //nolint:errorlint // it is a value that was panicked with
			err = errCutOff
		default:
			err = fmt.Errorf("a handler panicked: %v", p)
			w.logger.Error("panic in a delivery", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return w.destination.handler.ServeHTTP(rec, r)
}

// log writes a line for a delivery, like one of an access log, at level debug.
func (w *deliverer) log(d *queue.Delivery, r *http.Request, repl *caddy.Replacer, res queue.Result, took time.Duration) {
	c := w.logger.Check(zap.DebugLevel, "delivery")
	if c == nil {
		return
	}
	upstream, _ := repl.GetString("http.reverse_proxy.upstream.hostport")
	fields := []zap.Field{
		zap.String("id", d.ID), zap.Int("attempt", d.Attempt), zap.String("node", d.Node),
		zap.String("method", r.Method), zap.String("host", r.Host), zap.String("uri", r.RequestURI), zap.Int64("size", d.Size),
		zap.Int("status", res.Status), zap.Duration("duration", took),
	}
	if upstream != "" {
		fields = append(fields, zap.String("upstream", upstream))
	}
	if res.Reason != "" {
		fields = append(fields, zap.String("reason", res.Reason))
	}
	c.Write(fields...)
}

// responseOfDelivery is the response as the queue keeps and publishes it; nil
// where it is too long for that.
func responseOfDelivery(rec *recorder) *queue.Response {
	body, ok := rec.whole()
	if !ok || rec.status == 0 {
		return nil
	}
	return &queue.Response{Header: responseHeader(rec.status, rec.kept), Body: body}
}
