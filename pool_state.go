package fluster

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/near"
)

// What outlives a config reload: the state of each pool, by its name and
// namespace, and each node's clients and keeper, by all that is configured of it.
var (
	states = caddy.NewUsagePool() // string → *poolState
	nodes  = caddy.NewUsagePool() // string → *node
)

// poolState is what a pool keeps over config reloads.
type poolState struct {
	book *journal.Book
	box  *penaltyBox
	near atomic.Pointer[near.Cache[*entry]] // points to nil while the near cache is off

	// notes are what is known of URLs beside their responses: how their queries
	// are compared, when their variants were used. They are never off.
	notes   *near.Cache[*entry]
	alone   *near.Cache[mark] // of keys whose responses cannot be shared
	marks   sync.Mutex        // one of those is changed at a time
	sighted sighted           // keys of which one response could not

	asks   atomic.Uint64 // of origin and nodes, and heads of the origin's answers, as they came
	newest newest        // URLs whose nodes may hold what is older than what was served

	name string

	flights flights        // the forwards under way
	fills   *fills         // what is being stored in chunks
	waits   waits          // for forwards of other processes
	listing sync.Mutex     // one variant is put on its URL's list at a time
	later   sync.WaitGroup // validations in the background
	ctx     context.Context
	end     context.CancelFunc // ends them

	mu      sync.Mutex // guards all below
	ended   bool
	running []*pool // in the order of their starts
	inForce *pool   // the last of them; the last that there was, when none runs
	gone    []*node // those that earlier ones had, and it has not
}

// maxNotes is the memory of the notes, and of the marks of those alone.
const maxNotes = 1 << 20

func newPoolState(name string) *poolState {
	s := &poolState{
		name:  name,
		book:  journal.NewBook(journal.Options{MaxBlind: defaultMaxBlind}, time.Now()),
		box:   newPenaltyBox(),
		notes: near.New(maxNotes, weighEntry),
		fills: newFills(),
		alone: near.New(maxNotes, weighAlone),
	}
	s.flights.open = map[string]*flight{}
	s.newest.seed = maphash.MakeSeed()
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// Destruct is called when no configuration uses the pool any more.
func (s *poolState) Destruct() error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.end()
	s.later.Wait()
	s.near.Load().Close()
	s.notes.Close()
	s.alone.Close()
	return nil
}

// goLater runs f in the background, unless the pool has ended; f is to return
// when its context ends.
func (s *poolState) goLater(f func(end context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.later.Go(func() { f(s.ctx) })
	}
	return !s.ended
}
