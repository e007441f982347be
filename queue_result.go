package fluster

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/queue"
)

// errNoAnswer is what a delivery fails with that no directive has answered. Done
// would be a message lost by a matcher that was forgotten.
var errNoAnswer = errors.New("no directive of the deliver block answered")

func notDelivered(http.ResponseWriter, *http.Request) error { return errNoAnswer }

// maxRetryAfter bounds what a response may ask for: a message that sleeps for
// years is as good as lost.
const maxRetryAfter = 24 * time.Hour

// judge says what comes of a delivery that was answered with this status and
// header, and ended with err.
//
//	2xx                          done
//	error, panic, cut off        tried again
//	3xx, retry_status            tried again, after what Retry-After says at least
//	any other status             dead letter
func (c *QueueDelivery) judge(status int, h http.Header, err error, now time.Time) queue.Result {
	if err != nil {
		return failed(status, err)
	}
	r := queue.Result{Status: status, Reason: statusText(status)}
	switch {
	case status >= 200 && status <= 299:
		r.Outcome, r.Reason = queue.Done, ""
	case status < 400 || c.retry.has(status):
		r.Outcome, r.After = queue.Retry, waitAskedFor(h, now)
	default:
		r.Outcome = queue.Dead
	}
	return r
}

// failed is the result of a delivery that ended with an error, after a head with
// this status (0: none).
func failed(status int, err error) queue.Result {
	r := queue.Result{Outcome: queue.Retry, Reason: err.Error()}
	if status != 0 {
		// The head had come, and promised more than what followed.
		r.Reason = statusText(status) + ", but " + r.Reason
		return r
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if !isDelivered(he.StatusCode) { // it was not
			r.Status = he.StatusCode
		}
		r.Reason = statusText(he.StatusCode)
		if he.Err != nil {
			r.Reason += ": " + he.Err.Error()
		}
	}
	return r
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// waitAskedFor is the wait that a response asks for; 0 where it asks for none.
// RFC 9110, Section 10.2.3.
func waitAskedFor(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, ok := httpcache.ParseDate(v, now)
	if !ok {
		return 0
	}
	// The other side's clock may be wrong: by its Date it says what it takes for now.
	if date, ok := httpcache.ParseDate(h.Get("Date"), now); ok {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// fieldText makes text fit to be a field's value: no control characters, and no
// more than n bytes.
func fieldText(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return strings.TrimSpace(s)
}
