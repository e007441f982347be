package fluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/queue"
)

// queueRoutes are what the admin endpoint is asked about queues.
func (a *adminAPI) queueRoutes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/fluster/queues", Handler: only(http.MethodGet, a.queues)},
		{Pattern: "/fluster/queues/{name}", Handler: onQueue(methods{http.MethodGet: (*liveQueue).serveStatus})},
		{Pattern: "/fluster/queues/{name}/messages", Handler: onQueue(methods{http.MethodGet: (*liveQueue).servePeek})},
		{Pattern: "/fluster/queues/{name}/messages/{id}", Handler: onQueue(methods{http.MethodGet: (*liveQueue).serveMessage})},
		{Pattern: "/fluster/queues/{name}/pause", Handler: onQueue(methods{http.MethodPost: (*liveQueue).servePause})},
		{Pattern: "/fluster/queues/{name}/resume", Handler: onQueue(methods{http.MethodPost: (*liveQueue).serveResume})},
		{Pattern: "/fluster/queues/{name}/dead", Handler: onQueue(methods{http.MethodGet: (*liveQueue).serveDead, http.MethodDelete: (*liveQueue).serveDrop})},
		{Pattern: "/fluster/queues/{name}/dead/replay", Handler: onQueue(methods{http.MethodPost: (*liveQueue).serveReplay})},
	}
}

// methods are what is done on a queue, by the request's method.
type methods map[string]func(q *liveQueue, w http.ResponseWriter, r *http.Request) error

// onQueue lets the methods through that there are, to the queue that the path names.
func onQueue(m methods) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		serve, ok := m[r.Method]
		if !ok {
			for method := range m {
				w.Header().Add("Allow", method)
			}
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
		}
		app := appInForce()
		if app == nil {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the fluster app is not running")}
		}
		q := app.queues[r.PathValue("name")]
		if q == nil {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no queue %q in the configuration", r.PathValue("name"))}
		}
		return serve(q, w, r)
	})
}

func badAdminRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

// queueStatus is what is told of a queue.
type queueStatus struct {
	Name          string              `json:"name"`
	Pool          string              `json:"pool,omitempty"`
	Ready         int64               `json:"ready"`
	InFlight      int64               `json:"in_flight"`
	Delayed       int64               `json:"delayed"`
	Dead          int64               `json:"dead"`
	OldestSeconds float64             `json:"oldest_seconds"` // age of the oldest that is ready
	Paused        bool                `json:"paused"`
	Abandoned     map[string]int64    `json:"abandoned,omitempty"` // ready or in flight for deliver blocks that are not in the configuration
	Partial       bool                `json:"partial,omitempty"`   // some node did not tell: there may be more
	Workers       []queueWorkerStatus `json:"workers,omitempty"`   // those of this process
	Nodes         []queueNodeStatus   `json:"nodes,omitempty"`
}

// queueWorkerStatus is what is told of the worker of a destination.
type queueWorkerStatus struct {
	Destination string     `json:"destination,omitempty"`
	InFlight    int        `json:"in_flight"`
	RestsUntil  *time.Time `json:"rests_until,omitempty"` // the breaker is open
}

// queueNodeStatus is what is told of a queue's part on a node.
type queueNodeStatus struct {
	Node          string  `json:"node"`
	Partition     int     `json:"partition"`
	Ready         int64   `json:"ready"`
	InFlight      int64   `json:"in_flight"`
	Delayed       int64   `json:"delayed"`
	Dead          int64   `json:"dead"`
	OldestSeconds float64 `json:"oldest_seconds"`
	Error         string  `json:"error,omitempty"` // why it does not tell
}

// queueStatuses tells of all queues; they are asked at the same time.
func (a *App) queueStatuses(ctx context.Context) []queueStatus {
	queues := a.liveQueues()
	out := make([]queueStatus, len(queues))
	var wg sync.WaitGroup
	for i, q := range queues {
		wg.Go(func() {
			out[i] = q.status(ctx)
			out[i].Nodes, out[i].Workers = nil, nil
		})
	}
	wg.Wait()
	return out
}

// ask asks the nodes for the depth of the queue.
func (q *liveQueue) ask(ctx context.Context) depth {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	o, err := q.open()
	if err != nil {
		return depth{}
	}
	d := depth{counts: o.client.Counts(ctx)}
	d.paused, err = o.client.Paused(ctx)
	if err != nil {
		d.paused = false // no node tells: see the counts
	}
	return d
}

// status tells of the queue, also per node.
func (q *liveQueue) status(ctx context.Context) queueStatus {
	d := q.ask(ctx)
	s := queueStatus{Name: q.name, Pool: q.definition().Pool, Paused: d.paused}
	for _, c := range d.counts {
		n := queueNodeStatus{Node: c.Node, Partition: c.Partition, Ready: c.Ready, InFlight: c.InFlight, Delayed: c.Delayed, Dead: c.Dead, OldestSeconds: c.Oldest.Seconds()}
		if c.Err != nil {
			n.Error, s.Partial = c.Err.Error(), true
		}
		s.Nodes = append(s.Nodes, n)
		s.Ready, s.InFlight, s.Delayed, s.Dead = s.Ready+c.Ready, s.InFlight+c.InFlight, s.Delayed+c.Delayed, s.Dead+c.Dead
		for destination, n := range c.Abandoned {
			if n > 0 && s.Abandoned == nil {
				s.Abandoned = map[string]int64{}
			}
			if n > 0 {
				s.Abandoned[destination] += n
			}
		}
		s.OldestSeconds = max(s.OldestSeconds, n.OldestSeconds)
	}
	for _, w := range q.workers() {
		ws := queueWorkerStatus{Destination: w.destination, InFlight: w.InFlight()}
		if until, is := w.Resting(); is {
			until = until.UTC()
			ws.RestsUntil = &until
		}
		s.Workers = append(s.Workers, ws)
	}
	return s
}

// queues tells of all queues.
func (a *adminAPI) queues(app *App, w http.ResponseWriter, r *http.Request) error {
	return reply(w, http.StatusOK, app.queueStatuses(r.Context()))
}

func (q *liveQueue) serveStatus(w http.ResponseWriter, r *http.Request) error {
	return reply(w, http.StatusOK, q.status(r.Context()))
}

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
	withBody, err := onlyQuery(r, "body")
	if err != nil {
		return badAdminRequest(err)
	}
	infos, err := q.find(r.Context(), r.PathValue("id"))
	if errors.Is(err, queue.ErrNotFound) {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("queue %s has no message %q", q.name, r.PathValue("id"))}
	}
	if err != nil {
		return unavailable(err)
	}
	m := wholeMessage(q.messagesOf(infos))
	if withBody.Get("body") == "true" {
		if err := q.addBody(r.Context(), &m, infos[0]); err != nil {
			return unavailable(err)
		}
	}
	return reply(w, http.StatusOK, m)
}

// findTries is how often a message is looked for: one that moves from where has
// not been looked yet to where has been (a retry) is found the next time.
const findTries = 3

func (q *liveQueue) find(ctx context.Context, id string) (infos []queue.Info, err error) {
	for range findTries {
		infos, err = q.opened.client.Find(ctx, id)
		if !errors.Is(err, queue.ErrNotFound) {
			break
		}
	}
	return infos, err
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

func unavailable(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
}

// onlyQuery returns the query, in which nothing may be but the parameters named.
func onlyQuery(r *http.Request, names ...string) (url.Values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
next:
	for name, values := range v {
		for _, n := range names {
			if n == name && len(values) == 1 {
				continue next
			}
		}
		return nil, fmt.Errorf("unrecognized parameter %q", name)
	}
	return v, nil
}

// How many messages a page has, unless the request says otherwise, and at most.
const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(v url.Values) (int, error) {
	if v.Get("limit") == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(v.Get("limit"))
	if err != nil || n < 1 || n > maxPage {
		return 0, fmt.Errorf("limit must be from 1 to %d, not %q", maxPage, v.Get("limit"))
	}
	return n, nil
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

func (q *liveQueue) servePause(w http.ResponseWriter, r *http.Request) error {
	return q.setPaused(w, r, true, "queue_paused")
}

func (q *liveQueue) serveResume(w http.ResponseWriter, r *http.Request) error {
	return q.setPaused(w, r, false, "queue_resumed")
}

// setPaused stops the workers of all Caddys from taking messages, or lets them go on.
func (q *liveQueue) setPaused(w http.ResponseWriter, r *http.Request, paused bool, event string) error {
	if _, err := onlyQuery(r); err != nil {
		return badAdminRequest(err)
	}
	if err := q.opened.client.SetPaused(r.Context(), paused); err != nil {
		return unavailable(err)
	}
	q.logger.Info(event[len("queue_"):], zap.String("pool", q.definition().Pool))
	q.app.emit(event, map[string]any{"queue": q.name, "pool": q.definition().Pool})
	return reply(w, http.StatusOK, map[string]any{"name": q.name, "paused": paused})
}
