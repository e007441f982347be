package fluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// messageStatus is what is told of a message.
type messageStatus struct {
	ID          string          `json:"id"`
	Queue       string          `json:"queue"`
	Destination string          `json:"destination,omitempty"`
	State       string          `json:"state"` // ready, in_flight, delayed, done, dead
	Class       string          `json:"class,omitempty"`
	Node        string          `json:"node,omitempty"`
	Attempts    int             `json:"attempts"`
	LastStatus  int             `json:"last_status,omitempty"`
	LastError   string          `json:"last_error,omitempty"`
	Reason      string          `json:"reason,omitempty"` // why it is a dead letter
	Method      string          `json:"method,omitempty"`
	Host        string          `json:"host,omitempty"`
	URI         string          `json:"uri,omitempty"`
	Size        int64           `json:"size"`
	AcceptedAt  *time.Time      `json:"accepted_at,omitempty"`
	DueAt       *time.Time      `json:"due_at,omitempty"`
	DiedAt      *time.Time      `json:"died_at,omitempty"`
	Body        *string         `json:"body,omitempty"`
	Base64      []byte          `json:"body_base64,omitempty"`
	Deliveries  []messageStatus `json:"deliveries,omitempty"` // of a message with several destinations
}

// messageOf tells of a message, as the queue tells it.
func (q *liveQueue) messageOf(i queue.Info) messageStatus {
	return messageStatus{
		ID: i.ID, Queue: q.name, Destination: i.Destination, State: i.State, Class: i.Class, Node: i.Node,
		Attempts: i.Attempts, LastStatus: i.LastStatus, LastError: i.LastError, Reason: i.Reason,
		Method: i.Header[headerMethod], Host: i.Header[headerHost], URI: i.Header[headerURI], Size: i.Size,
		AcceptedAt: timeOrNil(i.AcceptedAt), DueAt: timeOrNil(i.DueAt), DiedAt: timeOrNil(i.DiedAt),
	}
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC().Truncate(time.Millisecond))
}

func (q *liveQueue) messagesOf(infos []queue.Info) []messageStatus {
	out := make([]messageStatus, 0, len(infos))
	for _, i := range infos {
		out = append(out, q.messageOf(i))
	}
	return out
}

// maxShown bounds the body that is shown of a message.
const maxShown = 1 << 20

// serveMessage tells of one message; with ?body=true what it carries, too.
func (q *liveQueue) serveMessage(w http.ResponseWriter, r *http.Request) error {
	withBody, err := askedForBody(r)
	if err != nil {
		return badAdminRequest(err)
	}
	infos, err := q.opened.client.Find(r.Context(), r.PathValue("id"))
	if errors.Is(err, queue.ErrNotFound) {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("queue %s has no message %q", q.name, r.PathValue("id"))}
	}
	if err != nil {
		return unavailable(err)
	}
	m := wholeMessage(q.messagesOf(infos))
	if withBody {
		if err := q.addBody(r.Context(), &m, infos[0]); err != nil {
			return unavailable(err)
		}
	}
	return reply(w, http.StatusOK, m)
}

// askedForBody reads ?body=true.
func askedForBody(r *http.Request) (bool, error) {
	v, err := onlyQuery(r, "body")
	if err != nil || !v.Has("body") {
		return false, err
	}
	if text := v.Get("body"); text != "true" && text != "false" {
		return false, fmt.Errorf("body must be true or false, not %q", text)
	}
	return v.Get("body") == "true", nil
}

// wholeMessage is one message out of its deliveries: it is open as long as one of them
// is, and dead if one is.
func wholeMessage(all []messageStatus) messageStatus {
	if len(all) == 1 {
		return all[0]
	}
	rank := map[string]int{"in_flight": 5, "ready": 4, "delayed": 3, "dead": 2, "done": 1}
	m := all[0]
	for _, d := range all[1:] {
		if rank[d.State] > rank[m.State] {
			m = d
		}
	}
	m.Destination, m.Deliveries = "", all
	return m
}

func (q *liveQueue) addBody(ctx context.Context, m *messageStatus, i queue.Info) error {
	body := q.opened.client.Open(ctx, i)
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxShown+1))
	if err != nil {
		return err
	}
	if len(b) > maxShown {
		return fmt.Errorf("the body is longer than %d bytes", maxShown)
	}
	if utf8.Valid(b) {
		m.Body = new(string(b))
	} else {
		m.Base64 = b
	}
	return nil
}

// servePeek tells of messages that are ready or in flight, the oldest first.
func (q *liveQueue) servePeek(w http.ResponseWriter, r *http.Request) error {
	v, err := onlyQuery(r, "limit")
	if err != nil {
		return badAdminRequest(err)
	}
	n, err := pageSize(v)
	if err != nil {
		return badAdminRequest(err)
	}
	infos, err := q.opened.client.Peek(r.Context(), n)
	if err != nil {
		return unavailable(err)
	}
	return reply(w, http.StatusOK, q.messagesOf(infos))
}
