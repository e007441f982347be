package fluster

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// teller tells another queue what became of the messages of this one. It does so
// before the outcome is recorded, so that nothing goes untold; what is told twice,
// as a process died in between, has the same id both times.
type teller struct {
	from, destination string // whose messages
	to                string // the queue that is told
	client            *queue.Client
	count             *queueCounts // of the queue that is told
	logger            *zap.Logger
}

// maxTold bounds the response that a notice carries, in bytes.
const maxTold = 64 << 10

// notice is what `callback` puts into another queue, as JSON.
type notice struct {
	ID          string          `json:"id"`
	Queue       string          `json:"queue"`
	Destination string          `json:"destination,omitempty"`
	State       string          `json:"state"` // done
	Attempts    int             `json:"attempts"`
	Status      int             `json:"status,omitempty"`
	Method      string          `json:"method,omitempty"`
	Host        string          `json:"host,omitempty"`
	URI         string          `json:"uri,omitempty"`
	AcceptedAt  string          `json:"accepted_at"`
	Response    *noticeResponse `json:"response,omitempty"`
}

// noticeResponse is the response of the delivery, where it is short enough.
type noticeResponse struct {
	ContentType     string  `json:"content_type,omitempty"`
	ContentEncoding string  `json:"content_encoding,omitempty"`
	Body            *string `json:"body,omitempty"`        // where it is UTF-8
	Base64          []byte  `json:"body_base64,omitempty"` // where it is not
}

// What a copy of a dead letter says of it, beside what a message says.
const (
	headerDeadID       = "x-fluster-dead-id"
	headerDeadQueue    = "x-fluster-dead-queue"
	headerDeadReason   = "x-fluster-dead-reason"
	headerDeadAttempts = "x-fluster-dead-attempts"
	headerDeadStatus   = "x-fluster-dead-status"
)

// deadFields are the fields that a copy of a dead letter is delivered with.
var deadFields = map[string]string{
	headerDeadID:       "Fluster-Dead-Id",
	headerDeadQueue:    "Fluster-Dead-Queue",
	headerDeadReason:   "Fluster-Dead-Reason",
	headerDeadAttempts: "Fluster-Dead-Attempts",
	headerDeadStatus:   "Fluster-Dead-Status",
}

// done tells that d was delivered.
func (t *teller) done(ctx context.Context, d *queue.Delivery, res queue.Result) error {
	n := notice{
		ID: d.ID, Queue: t.from, Destination: t.destination, State: "done", Attempts: d.Attempt, Status: res.Status,
		Method: d.Header[headerMethod], Host: d.Header[headerHost], URI: d.Header[headerURI],
		AcceptedAt: d.AcceptedAt.UTC().Format(timeMillis), Response: noticeOf(res.Response),
	}
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return t.enqueue(ctx, func() *queue.Message {
		return &queue.Message{
			ID: t.id(d, "done"), Body: body,
			Header: map[string]string{"content-type": "application/json", headerCorrelation: d.ID},
		}
	})
}

func noticeOf(r *queue.Response) *noticeResponse {
	if r == nil || len(r.Body) > maxTold {
		return nil
	}
	n := &noticeResponse{ContentType: r.Header["content-type"], ContentEncoding: r.Header["content-encoding"]}
	if utf8.Valid(r.Body) {
		n.Body = new(string(r.Body))
	} else {
		n.Base64 = r.Body
	}
	return n
}

// dead puts a copy of a dead letter into the other queue: the request that it
// was, and why it died.
func (t *teller) dead(ctx context.Context, d *queue.Delivery, res queue.Result) error {
	header := maps.Clone(d.Header)
	if header == nil {
		header = map[string]string{}
	}
	delete(header, headerReplyTo)
	delete(header, headerMessageID)
	header[headerCorrelation] = d.ID
	header[headerDeadID], header[headerDeadQueue] = d.ID, t.from
	header[headerDeadReason], header[headerDeadAttempts] = fieldText(res.Reason, 256), strconv.Itoa(d.Attempt)
	if res.Status != 0 {
		header[headerDeadStatus] = strconv.Itoa(res.Status)
	}
	return t.enqueue(ctx, func() *queue.Message {
		m := &queue.Message{ID: t.id(d, "dead"), Header: header, Body: d.Body}
		if int64(len(d.Body)) != d.Size {
			m.Body, m.Reader = nil, d.Open()
		}
		return m
	})
}

// id is the id of what is told of d. No name of a queue holds a slash. Its destination
// may be another than the worker's: one that is in no configuration.
func (t *teller) id(d *queue.Delivery, what string) string {
	id := t.from + "/" + d.ID + "/" + what
	if d.Destination != "" {
		id += "/" + d.Destination
	}
	return id
}

// How often telling is tried, and how long it waits in between, before the
// message goes back: a node that fails is passed over within that time.
const (
	tellTries = 4
	tellPause = 500 * time.Millisecond
)

// enqueue puts a message in, which is made anew for each try. What is there
// already has been told.
func (t *teller) enqueue(ctx context.Context, make func() *queue.Message) (err error) {
	for try := range tellTries {
		if try > 0 {
			sleep(ctx, tellPause)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m := make()
		var receipt queue.Receipt
		receipt, err = t.client.Enqueue(ctx, m)
		if c, ok := m.Reader.(interface{ Close() error }); ok {
			c.Close()
		}
		switch {
		case err == nil:
			if receipt.Replayed {
				return nil // told before, and counted then
			}
			t.count.accepted(receipt.Node)
			if receipt.FailedOver != "" {
				t.count.failedOver(receipt.FailedOver)
			}
			return nil
		case errors.Is(err, queue.ErrMismatch):
			return nil // told before, of another attempt
		case errors.Is(err, queue.ErrTooLarge), errors.Is(err, queue.ErrMessage), errors.Is(err, queue.ErrTorn):
			// It never fits, or there is nothing whole to be told. The message itself is not lost by that.
			t.logger.Warn("the queue that is told can never take that", zap.String("to", t.to), zap.String("id", m.ID), zap.Error(err))
			return nil
		}
	}
	return err
}
