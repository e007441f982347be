package fluster

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/near"
)

// Caddy starts a new configuration while the old one still runs, and stops the old
// one when all apps of the new one have started. Where one of them fails it stops
// the others, and the old configuration goes on. So the configuration in force is
// the one that was started last and not stopped, and while two of them run nothing
// is given up that the older one needs.

// enter puts p in force, and returns the nodes that were taken out, by p and before.
func (s *poolState) enter(p *pool) (gone []*node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, weights := map[string]bool{}, map[string]float64{}
	for _, n := range p.nodes {
		names[n.Name()], weights[n.Name()] = true, n.Weight()
	}
	known := s.gone
	for _, other := range s.running {
		known = slices.Concat(known, other.nodes)
	}
	for _, n := range known {
		if !names[n.Name()] {
			names[n.Name()] = true
			gone = append(gone, n)
		}
	}
	lighter := func(n *node) bool { w, stays := weights[n.Name()]; return stays && w < n.Weight() }
	if len(gone) > maxGone || slices.ContainsFunc(known, lighter) {
		// Keys go to nodes that may have had them before.
		for _, n := range p.nodes {
			n.seat.doubt()
		}
	}
	p.takenOut = gone[max(0, len(gone)-maxGone):]
	s.running = append(s.running, p)
	s.arrangeLocked()
	return p.takenOut
}

// withdraw takes p out of force. Where that is because its reload has failed, the
// one before it is in force again.
func (s *poolState) withdraw(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.running, p)
	if i < 0 {
		return // it was never started
	}
	failed := i > 0 && i == len(s.running)-1
	s.running = slices.Delete(s.running, i, i+1)
	s.arrangeLocked()
	if !failed {
		return
	}
	for _, n := range s.inForce.nodes {
		n.gone.Store(false)
		if p.asked.Load() {
			n.seat.doubt() // what p has stored may lie elsewhere
		}
	}
}

// arrangeLocked makes what may change while the pool goes on as the configuration
// in force has it.
func (s *poolState) arrangeLocked() {
	if len(s.running) == 0 {
		return // the nodes may yet have something to tell
	}
	p := s.running[len(s.running)-1]
	s.inForce, s.gone = p, p.takenOut
	s.box.setConfig(*p.config.Penalty)
	s.book.SetMaxBlind(time.Duration(*p.config.MaxBlind))
	s.book.SetStrict(p.config.Quorum == "strict")
	var most uint64
	for _, p := range s.running {
		if !p.config.Near.Off {
			most = max(most, p.config.Near.Bytes)
		}
	}
	s.sizeNearLocked(most)
}

// sizeNearLocked bounds the near cache; 0 turns it off.
func (s *poolState) sizeNearLocked(bytes uint64) {
	old := s.near.Load()
	switch {
	case bytes == 0:
		s.near.Store(nil)
		old.Close()
	case old == nil:
		s.near.Store(near.New(bytes, weighEntry))
	default:
		old.SetMaximum(bytes)
	}
}

// log returns the logger of the configuration in force.
func (s *poolState) log() *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inForce == nil {
		return zap.NewNop()
	}
	return s.inForce.logger
}

// event emits an event through the configuration in force.
func (s *poolState) event(name string, data map[string]any) {
	if p := s.poolInForce(); p != nil {
		p.emit(name, data)
	}
}

// herald returns that of the configuration in force; nil if there is none.
func (s *poolState) herald() *herald {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inForce == nil {
		return nil
	}
	return s.inForce.voice
}

// poolInForce returns the pool of the configuration in force; nil if there was none.
func (s *poolState) poolInForce() *pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inForce
}

// isInUse reports whether a configuration with nodes runs.
func (s *poolState) isInUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.running, func(p *pool) bool { return len(p.nodes) > 0 })
}

// has reports whether a configuration that runs has a node of this name.
func (s *poolState) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.running, func(p *pool) bool {
		return slices.ContainsFunc(p.nodes, func(n *node) bool { return n.Name() == name })
	})
}

// others returns the nodes of all configurations that run, and those that were
// taken out, but n.
func (s *poolState) others(n *node) (out []*node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.gone
	for _, p := range s.running {
		all = slices.Concat(all, p.nodes)
	}
	for _, other := range all {
		if other != n && !slices.Contains(out, other) {
			out = append(out, other)
		}
	}
	return out
}

// runningApps are those of the configurations that run, the one in force last.
var runningApps struct {
	mu   sync.Mutex // guards apps
	apps []*App
}

func enterApp(a *App) {
	runningApps.mu.Lock()
	defer runningApps.mu.Unlock()
	runningApps.apps = append(runningApps.apps, a)
}

func withdrawApp(a *App) {
	runningApps.mu.Lock()
	defer runningApps.mu.Unlock()
	runningApps.apps = slices.DeleteFunc(runningApps.apps, func(other *App) bool { return other == a })
}

// isRunning reports whether the app was started and not stopped.
func isRunning(a *App) bool {
	runningApps.mu.Lock()
	defer runningApps.mu.Unlock()
	return slices.Contains(runningApps.apps, a)
}

// appInForce returns the app of the configuration in force, or nil.
func appInForce() *App {
	runningApps.mu.Lock()
	defer runningApps.mu.Unlock()
	if n := len(runningApps.apps); n > 0 {
		return runningApps.apps[n-1]
	}
	return nil
}
