package fluster

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// refusal is why a request is not accepted, as its client is told.
type refusal struct {
	status int
	reason string // for metrics
	detail string // for people
	after  time.Duration
}

// Error returns the detail.
func (e *refusal) Error() string { return e.detail }

var errTooLarge = &refusal{status: http.StatusRequestEntityTooLarge, reason: "too_large", detail: "the body is longer than this queue takes"}

func wrongRequest(detail string) error {
	return &refusal{status: http.StatusBadRequest, reason: "bad_request", detail: detail}
}

// refusalOf says what an error of Enqueue means to the client. What is the
// matter with the nodes is not its business.
func (x *arrival) refusalOf(err error) *refusal {
	if r, ok := errors.AsType[*refusal](x.body.refusal()); ok {
		return r
	}
	switch {
	case errors.Is(err, queue.ErrTooLarge):
		return errTooLarge
	case errors.Is(err, queue.ErrMessage):
		return &refusal{status: http.StatusBadRequest, reason: "bad_request", detail: "the request cannot be a message"}
	case errors.Is(err, queue.ErrMismatch):
		return &refusal{status: http.StatusUnprocessableEntity, reason: "mismatch", detail: "the same key was used with another body before"}
	case errors.Is(err, queue.ErrBacklog):
		return &refusal{status: http.StatusTooManyRequests, reason: "backlog", detail: "the queue is full", after: x.opened.client.RetryAfter(err)}
	case errors.Is(err, queue.ErrDurability):
		return &refusal{status: http.StatusServiceUnavailable, reason: "durability", detail: "the message could not be made durable", after: x.opened.client.RetryAfter(err)}
	default:
		x.debug("enqueuing", err)
		return &refusal{status: http.StatusServiceUnavailable, reason: "no_node", detail: "the queue cannot take messages now", after: x.opened.client.RetryAfter(err)}
	}
}

// problem is the body of an answer that refuses. RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// refuse answers with what is the matter.
func (x *arrival) refuse(err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = x.refusalOf(err)
	}
	if x.live.count != nil { // nil: the queue was never opened
		x.live.count.refused(r.reason)
	}
	return x.writeProblem(r)
}

func (x *arrival) writeProblem(r *refusal) error {
	h := x.w.Header()
	setKind(h, "application/problem+json")
	if s := inSeconds(r.after); s != "" {
		h.Set("Retry-After", s)
	}
	if x.leavesBody() {
		h.Set("Connection", "close")
	}
	b, err := json.Marshal(problem{"about:blank", http.StatusText(r.status), r.status, r.detail})
	if err != nil {
		return err
	}
	x.w.WriteHeader(r.status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	if _, err := x.w.Write(append(b, '\n')); err != nil {
		x.debug("answering", err)
	}
	return nil
}

// maxLeft is how much of a body net/http reads that nobody wanted, so that the
// connection can be used again.
const maxLeft = 256 << 10

// leavesBody reports whether so much of the body is left that the connection is
// not worth reading on. A client that waits to be asked for its body
// (Expect: 100-continue) would wait in vain.
func (x *arrival) leavesBody() bool {
	if x.body != nil && x.body.read {
		return false
	}
	return x.r.ProtoMajor == 1 && (x.r.ContentLength > maxLeft || x.r.Header["Expect"] != nil)
}

// inSeconds is Retry-After for a time from now: whole seconds, at least one.
// Empty for none.
func inSeconds(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
