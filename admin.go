package fluster

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// adminAPI serves /fluster/ on Caddy's admin endpoint.
type adminAPI struct{}

// CaddyModule returns the module's information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.fluster", New: func() caddy.Module { return new(adminAPI) }}
}

// Routes returns what the admin endpoint is asked for.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return append(a.queueRoutes(),
		caddy.AdminRoute{Pattern: "/fluster/{$}", Handler: only(http.MethodGet, a.page)},
		caddy.AdminRoute{Pattern: "/fluster/status", Handler: only(http.MethodGet, a.status)},
		caddy.AdminRoute{Pattern: "/fluster/explain", Handler: only(http.MethodGet, a.explain)},
		caddy.AdminRoute{Pattern: "/fluster/invalidate", Handler: only(http.MethodPost, a.invalidate)},
	)
}

// only lets one method through, to the app that is running.
func only(method string, serve func(*App, http.ResponseWriter, *http.Request) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method {
			w.Header().Set("Allow", method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
		}
		app := appInForce()
		if app == nil {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the fluster app is not running")}
		}
		return serve(app, w, r)
	})
}

func reply(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// nodeStatus is what is told of a node.
type nodeStatus struct {
	Name    string     `json:"name"`
	Pool    string     `json:"pool,omitempty"`
	Address string     `json:"address"`
	State   string     `json:"state"`
	Since   time.Time  `json:"since"`
	Reason  string     `json:"reason,omitempty"`
	RetryAt *time.Time `json:"retry_at,omitempty"`
	Owed    int        `json:"owed"`               // invalidations that its journal lacks
	Parts   int        `json:"parts,omitempty"`    // of a Redis Cluster
	PartsUp int        `json:"parts_up,omitempty"` // those in use
	History []change   `json:"history,omitempty"`  // the last changes, oldest first
}

// nearStatus is what is told of a near cache.
type nearStatus struct {
	Pool    string `json:"pool,omitempty"`
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	Maximum uint64 `json:"maximum"`
}

// appStatus is what is told of all; Near is that of the default pool.
type appStatus struct {
	Nodes  []nodeStatus  `json:"nodes"`
	Near   nearStatus    `json:"near"`
	Nears  []nearStatus  `json:"pools,omitempty"`
	Queues []queueStatus `json:"queues"`
}

// status tells of the nodes, the near caches and the queues.
func (a *adminAPI) status(app *App, w http.ResponseWriter, r *http.Request) error {
	return reply(w, http.StatusOK, app.status(r.Context()))
}

func (a *App) status(ctx context.Context) appStatus {
	out := appStatus{Nodes: []nodeStatus{}, Queues: a.queueStatuses(ctx)}
	for _, name := range slices.Sorted(maps.Keys(a.pools)) {
		p := a.pools[name]
		out.Nodes = append(out.Nodes, p.nodeStatuses()...)
		s := nearStatus{Pool: name}
		s.Entries, s.Bytes, s.Maximum = p.near.Load().Stats()
		if name == "" {
			out.Near = s
		} else {
			out.Nears = append(out.Nears, s)
		}
	}
	return out
}

// nodeStatuses tells of each node; the parts of a cluster are one node, and in
// the state of the worst of them.
func (p *pool) nodeStatuses() []nodeStatus {
	out := []nodeStatus{}
	for _, n := range p.nodes {
		s := n.status(p.name)
		if len(out) == 0 || out[len(out)-1].Name != s.Name {
			out = append(out, s)
			continue
		}
		whole := &out[len(out)-1]
		s.Owed += whole.Owed
		s.Parts, s.PartsUp = whole.Parts+s.Parts, whole.PartsUp+s.PartsUp
		if whole.State != "up" {
			s.State, s.Since, s.Reason, s.RetryAt = whole.State, whole.Since, whole.Reason, whole.RetryAt
		}
		*whole = s
	}
	return out
}

func (n *node) status(pool string) nodeStatus {
	s := nodeStatus{Name: n.label, Pool: pool, Address: n.Address(), State: n.view.State().String(), Owed: n.view.Owes(), History: n.history().list()}
	since, reason, retryAt := n.seat.status()
	s.Since = since.UTC()
	if !n.inUse() && s.State == "up" {
		s.State = "penalty" // its keeper is about to say so
	}
	if n.isPart() {
		s.Parts = 1
		if s.State == "up" {
			s.PartsUp = 1
		}
	}
	if reason != nil && s.State != "up" {
		s.Reason = reasonOf(reason)
	}
	if !retryAt.IsZero() {
		retryAt = retryAt.UTC()
		s.RetryAt = &retryAt
	}
	return s
}

// invalidate is the durable way to invalidate: it answers when it is safe.
func (a *adminAPI) invalidate(app *App, w http.ResponseWriter, r *http.Request) error {
	var i Invalidation
	if err := journal.DecodeStrict(r.Body, &i); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	ack, err := app.Invalidate(r.Context(), i)
	for errors.Is(err, errNotRunning) { // a reload came while the body did
		next := appInForce()
		if next == nil || next == app {
			break
		}
		app = next
		ack, err = app.Invalidate(r.Context(), i)
	}
	switch {
	case errors.Is(err, ErrQuorum):
		return reply(w, http.StatusServiceUnavailable, ack)
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return reply(w, http.StatusOK, ack)
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
