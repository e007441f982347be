package fluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// Invalidation says what is to be served no more. As JSON it is what
// POST /fluster/invalidate takes.
type Invalidation struct {
	journal.Message
	// Wait makes the acknowledgement come when nobody who reaches a node serves it
	// any more, which is a second later.
	Wait bool `json:"wait,omitempty"`
	// Pool whose caches are meant. Empty: the one without a name.
	Pool string `json:"pool,omitempty"`
}

// ErrQuorum says that an invalidation is on too few nodes to be acknowledged.
// It holds in this process and is retried all the same.
var ErrQuorum = errors.New("fluster: not enough nodes have the invalidation")

// errNotRunning says that an app is not started, or stopped.
var errNotRunning = errors.New("fluster: the app is not running")

// Running returns the app of the configuration that is in force; false where
// there is none. Caddy modules may as well ask for it by
// ctx.AppIfConfigured("fluster"). It changes with each reload, so it is asked
// for when it is needed and not kept.
func Running() (*App, bool) {
	a := runningApp.Load()
	return a, a != nil
}

// Invalidate makes what i selects dead (stale, where it is soft) in this process
// at once and on all nodes, and returns when it is safe: on every node in use,
// and at least on one (quorum strict: on more than half of all). The error is
// ErrQuorum where that cannot be had, with the acknowledgement as it is; another
// one says what is wrong with i, of which nothing was done then. A done ctx ends
// the waiting, not the invalidation.
func (a *App) Invalidate(ctx context.Context, i Invalidation) (Acknowledgement, error) {
	targets, err := i.Targets()
	if err != nil {
		return Acknowledgement{}, fmt.Errorf("reading the invalidation: %w", err)
	}
	p, err := a.pool(i.Pool)
	if err != nil {
		return Acknowledgement{}, err
	}
	if runningApp.Load() != a {
		return Acknowledgement{}, errNotRunning
	}
	return p.invalidate(ctx, targets, i.Wait)
}

// add adds a target to what is selected.
func (i *Invalidation) add(t journal.Target) {
	i.Soft = t.Soft
	switch t.Kind {
	case journal.URL:
		i.URL = append(i.URL, t.Value)
	case journal.Prefix:
		i.Prefix = append(i.Prefix, t.Value)
	case journal.Tag:
		i.Tag = append(i.Tag, t.Value)
	case journal.Host:
		i.Host = append(i.Host, t.Value)
	case journal.All:
		i.All = true
	}
}
