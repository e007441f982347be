package fluster

import (
	"context"
	"crypto/rand"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// maxWaiting is how many requests may wait for the upstream's own answers, of
// one queue in this process. Those beyond are answered 202 at once.
const maxWaiting = 1000

// readyFor is how long a request waits until responses are received at all: the
// first one after a start may be quicker than the subscriptions.
const readyFor = 100 * time.Millisecond

// awaited is the upstream's own answer, which a request waits for. The zero value
// waits for nothing.
type awaited struct {
	response <-chan *queue.Response
	end      func()
	patience time.Duration
	count    *atomic.Int64
}

// expectReply makes the message one whose response comes back here, if the
// client wants to wait and may.
func (x *arrival) expectReply(m *queue.Message) *awaited {
	patience := min(x.prefer.wait, x.rules.wait)
	if patience == 0 {
		return &awaited{}
	}
	count := &x.opened.waiting
	if count.Add(1) > maxWaiting {
		count.Add(-1)
		return &awaited{}
	}
	x.opened.receiveReplies()
	ctx, cancel := context.WithTimeout(x.r.Context(), readyFor)
	defer cancel()
	x.opened.replies.Ready(ctx) // if not, the answer may go past it, and the client gets its 202
	// A name of its own: the same message may come twice, and be waited for twice.
	token := rand.Text()
	m.Header[headerCorrelation], m.Header[headerReplyTo] = token, x.opened.replies.ReplyTo()
	response, end := x.opened.replies.Expect(token)
	return &awaited{response, end, patience, count}
}

// forget ends the waiting.
func (p *awaited) forget() {
	if p.response != nil {
		p.end()
		p.count.Add(-1)
	}
}

// answer waits for the upstream's answer and passes it on. It reports whether it
// came in time; also if the client went away.
func (p *awaited) answer(x *arrival, id string) bool {
	if p.response == nil {
		return false
	}
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case response := <-p.response:
		return response != nil && x.passOn(id, response)
	case <-timer.C:
		return false
	case <-x.r.Context().Done():
		return true
	}
}

// passOn answers with what the upstream has answered.
func (x *arrival) passOn(id string, response *queue.Response) bool {
	status, header, body, err := responseOf(response)
	if err != nil {
		x.debug("reading the response", err)
		return false
	}
	h := x.w.Header()
	maps.Copy(h, header)
	h.Set("Fluster-Message-Id", id)
	h.Add("Preference-Applied", preferences{wait: x.prefer.wait}.applied())
	x.w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		if _, err := x.w.Write(body); err != nil {
			x.debug("answering", err)
		}
	}
	return true
}
