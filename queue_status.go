package fluster

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// messageState is what a client is told of its message. Errors of deliveries
// are not among it: they tell of the network behind.
type messageState struct {
	ID           string                   `json:"id"`
	Queue        string                   `json:"queue"`
	State        string                   `json:"state"`
	Attempts     int                      `json:"attempts"`
	LastStatus   int                      `json:"last_status,omitempty"`
	AcceptedAt   *time.Time               `json:"accepted_at,omitempty"`
	DueAt        *time.Time               `json:"due_at,omitempty"`
	Result       *messageResult           `json:"result,omitempty"`
	Destinations map[string]*messageState `json:"destinations,omitempty"` // where there are several
}

// messageResult is what the upstream has answered.
type messageResult struct {
	Status      int    `json:"status"`
	ContentType string `json:"content_type,omitempty"`
	// How the body is compressed, as the client of the message said it would take it.
	ContentEncoding string `json:"content_encoding,omitempty"`
	Body            string `json:"body,omitempty"`
	BodyBase64      []byte `json:"body_base64,omitempty"` // where it is not UTF-8
}

// askTime is how long the nodes have to tell of a message.
const askTime = time.Second

// asksFor reports whether the request asks for the state of a message, and of
// which. The path is the one that the client sent, as Location told it.
func (x *arrival) asksFor() (id string, is bool) {
	if x.rules.status == "" || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return "", false
	}
	u := x.r.URL
	if original, ok := x.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		u = original.URL
	}
	rest, ok := strings.CutPrefix(u.EscapedPath(), x.rules.status+"/")
	if !ok || rest == "" {
		return "", false
	}
	id, err := url.PathUnescape(rest)
	if err != nil || strings.Contains(rest, "/") {
		return "", true // of none that there is
	}
	return id, true
}

// tellStatus answers with the state of a message.
func (x *arrival) tellStatus(id string) error {
	unknown := &refusal{status: http.StatusNotFound, detail: "there is no such message, or its result is kept no more"}
	if !isMessageID(id) {
		return x.writeProblem(unknown)
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), askTime)
	defer cancel()
	infos, err := x.opened.client.FindTracked(ctx, id)
	switch {
	case errors.Is(err, queue.ErrNotFound) || err == nil && len(infos) == 0:
		return x.writeProblem(unknown)
	case err != nil:
		x.debug("finding", err)
		return x.writeProblem(&refusal{status: http.StatusServiceUnavailable, detail: "the state cannot be told now", after: x.opened.client.RetryAfter(err)})
	}
	body, err := json.Marshal(x.statusOf(id, infos))
	if err != nil {
		return err
	}
	h := x.w.Header()
	setKind(h, "application/json")
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return nil
	}
	if _, err := x.w.Write(append(body, '\n')); err != nil {
		x.debug("answering", err)
	}
	return nil
}

// The states of a message, the one that is farthest from its end first: with
// several destinations it is as far as the last of them.
var messageStages = []string{"delayed", "ready", "in_flight", "dead", "done"}

// statusOf says of a message what is known of it at each destination.
func (x *arrival) statusOf(id string, infos []queue.Info) *messageState {
	if len(infos) == 1 && infos[0].Destination == "" {
		return x.statusAt(id, &infos[0])
	}
	all := &messageState{ID: id, Queue: x.Name, Destinations: map[string]*messageState{}}
	for i := range infos {
		one := x.statusAt(id, &infos[i])
		all.Destinations[infos[i].Destination] = one
		all.Attempts += one.Attempts
		all.AcceptedAt = one.AcceptedAt
		if all.State == "" || slices.Index(messageStages, one.State) < slices.Index(messageStages, all.State) {
			all.State = one.State
		}
	}
	return all
}

func (x *arrival) statusAt(id string, i *queue.Info) *messageState {
	s := &messageState{ID: id, Queue: x.Name, State: i.State, Attempts: i.Attempts, LastStatus: i.LastStatus}
	if !i.AcceptedAt.IsZero() {
		s.AcceptedAt = new(i.AcceptedAt.UTC().Truncate(time.Millisecond))
	}
	if !i.DueAt.IsZero() && i.State == "delayed" {
		s.DueAt = new(i.DueAt.UTC().Truncate(time.Millisecond))
	}
	if i.Response == nil {
		return s
	}
	status, header, body, err := responseOf(i.Response)
	if err != nil {
		return s
	}
	s.Result = &messageResult{Status: status, ContentType: header.Get("Content-Type"), ContentEncoding: header.Get("Content-Encoding")}
	if utf8.Valid(body) {
		s.Result.Body = string(body)
	} else {
		s.Result.BodyBase64 = body
	}
	return s
}
