package fluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
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
	if _, err := onlyQuery(r); err != nil {
		return badAdminRequest(err)
	}
	return reply(w, http.StatusOK, app.queueStatuses(r.Context()))
}

func (q *liveQueue) serveStatus(w http.ResponseWriter, r *http.Request) error {
	if _, err := onlyQuery(r); err != nil {
		return badAdminRequest(err)
	}
	return reply(w, http.StatusOK, q.status(r.Context()))
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
