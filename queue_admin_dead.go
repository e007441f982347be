package fluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/queue"
)

// serveDead lists dead letters, the oldest first. Where there are more, the field
// Link names the next page.
func (q *liveQueue) serveDead(w http.ResponseWriter, r *http.Request) error {
	v, err := onlyQuery(r, "limit", "after")
	if err != nil {
		return badAdminRequest(err)
	}
	n, err := pageSize(v)
	if err != nil {
		return badAdminRequest(err)
	}
	infos, next, err := q.opened.client.Dead(r.Context(), n, v.Get("after"))
	if errors.Is(err, queue.ErrCursor) {
		return badAdminRequest(err)
	}
	if err != nil {
		return unavailable(err)
	}
	if next != "" {
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), url.Values{"limit": {strconv.Itoa(n)}, "after": {next}}.Encode()))
	}
	return reply(w, http.StatusOK, q.messagesOf(infos))
}

// whichDead says which dead letters something is about: some, or all.
type whichDead struct {
	IDs []string `json:"ids,omitempty"`
	All bool     `json:"all,omitempty"`
}

func readWhichDead(r *http.Request) (which whichDead, err error) {
	if _, err := onlyQuery(r); err != nil {
		return which, err
	}
	if err := journal.DecodeStrict(r.Body, &which); err != nil {
		return which, err
	}
	if which.All == (len(which.IDs) > 0) {
		return which, errors.New(`either ids or "all":true must be given`)
	}
	return which, nil
}

// serveReplay makes dead letters ready again.
func (q *liveQueue) serveReplay(w http.ResponseWriter, r *http.Request) error {
	return q.serveLong(w, r, "replayed", q.opened.client.Replay)
}

// serveDrop deletes dead letters.
func (q *liveQueue) serveDrop(w http.ResponseWriter, r *http.Request) error {
	return q.serveLong(w, r, "dropped", q.opened.client.Drop)
}

// mediaProgress is the type of an answer that tells how far it is: lines of JSON.
const mediaProgress = "application/x-ndjson"

// serveLong does what may take long. Who accepts lines of JSON is told how far it
// is as it goes on: {"replayed":1200}, and at the end the same with "end":true.
func (q *liveQueue) serveLong(w http.ResponseWriter, r *http.Request, done string, do func(context.Context, []string, func(int)) (int, error)) error {
	which, err := readWhichDead(r)
	if err != nil {
		return badAdminRequest(err)
	}
	if r.Header.Get("Accept") != mediaProgress {
		n, err := do(r.Context(), which.IDs, nil)
		return q.endLong(w, http.StatusOK, done, n, err)
	}
	w.Header().Set("Content-Type", mediaProgress)
	var last time.Time
	n, err := do(r.Context(), which.IDs, func(n int) {
		if time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		json.NewEncoder(w).Encode(map[string]any{done: n}) //nolint:errcheck // the client went away: its context ends
		http.NewResponseController(w).Flush()              //nolint:errcheck // likewise
	})
	return q.endLong(w, 0, done, n, err)
}

// endLong answers with how many it were; what failed is told beside. A status of
// 0 has been written already.
func (q *liveQueue) endLong(w http.ResponseWriter, status int, done string, n int, err error) error {
	q.logger.Info("dead letters "+done, zap.Int("messages", n), zap.Error(err))
	answer := map[string]any{done: n}
	if err != nil {
		answer["error"] = err.Error()
	}
	if status == 0 {
		answer["end"] = true
		return json.NewEncoder(w).Encode(answer)
	}
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	return reply(w, status, answer)
}
