package fluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A lock on a node says that one of several Caddys forwards for all (`collapse
// cluster`). It is a convenience, never a promise: whoever cannot tell forwards
// for itself, so the worst is a forward too many.
//
//   - It is taken by SET NX with a random token, and let go of by a script that
//     compares the token, so that nobody takes away another's.
//   - While the forward runs it is renewed. A holder that dies costs the others
//     lockFor; none holds it for longer than lockMost.
//   - What became of the forward is published to those who wait. A message that
//     is lost costs them the time to the next look at the lock.
//   - A response that cannot be shared leaves a mark in place of the lock, so
//     that the next ones do not wait for each other.
type lock struct {
	n       *node
	key     string
	token   string
	release sync.Once
	over    chan struct{} // closed when it is let go of
	handed  bool          // to the store, which lets go of it; known to the leader alone
}

const (
	lockFor  = 2 * time.Second
	lockMost = time.Minute
	// lockedBody is the longest body that others wait for: they get it when all of
	// it is stored.
	lockedBody = 1 << 20
	// markAlone lies where the lock was, for aloneFor.
	markAlone = "alone"
)

// outcome is what became of a forward that others waited for.
type outcome string

const (
	wasStored outcome = "stored"
	isAlone   outcome = "alone" // its response is for one client
	isLost    outcome = "lost"  // it failed, could not be stored, or takes too long
	isUnheard outcome = ""      // nobody has said anything
)

// lockState is how an attempt to take a lock ended.
type lockState uint8

const (
	lockTaken lockState = iota
	heldByAnother
	markedAlone
	noLock // the node does not do it
)

// takeLock tries to take the lock at key for the caller.
func (n *node) takeLock(ctx context.Context, key string) (*lock, lockState) {
	l := &lock{n: n, key: key, token: nonZeroHex(), over: make(chan struct{})}
	v, err := n.Client().SetArgs(n.With(ctx), key, l.token, redis.SetArgs{Mode: "NX", Get: true, TTL: lockFor}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		n.state.goLater(l.renew)
		return l, lockTaken
	case err != nil:
		l.letGo(isLost) // it may have been taken all the same
		return nil, noLock
	case v == markAlone:
		return nil, markedAlone
	}
	return nil, heldByAnother
}

// renewSource lets a lock live on.
//
//	KEYS[1]  the lock
//	ARGV[1]  the token of its holder
//	ARGV[2]  for how long, in ms
//
// It returns 1, or 0 if the lock is not the caller's any more.
const renewSource = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`

// releaseSource lets go of a lock and tells of it.
//
//	KEYS[1]  the lock
//	ARGV[1]  the token of its holder
//	ARGV[2]  the channel
//	ARGV[3]  the message
//	ARGV[4]  what is to lie there instead, or ""
//	ARGV[5]  for how long, in ms
//
// It returns 1, or 0 if the lock is not the caller's any more.
const releaseSource = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[4] == '' then redis.call('UNLINK', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
`

var (
	renewScript   = redis.NewScript(renewSource)
	releaseScript = redis.NewScript(releaseSource)
)

// renew keeps the lock until it is let go of.
func (l *lock) renew(ctx context.Context) {
	tick := time.NewTicker(lockFor / 3)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < lockMost; {
		select {
		case <-ctx.Done():
			return
		case <-l.over:
			return
		case <-tick.C:
		}
		n, err := renewScript.Run(l.n.With(ctx), l.n.Client(), []string{l.key}, l.token, lockFor.Milliseconds()).Int()
		if err == nil && n == 0 {
			return
		}
	}
}

// letGo lets go of the lock and tells those who wait; only the first call
// counts. It does not wait for the node. A nil lock is none.
func (l *lock) letGo(o outcome) {
	if l == nil {
		return
	}
	l.release.Do(func() {
		close(l.over)
		l.n.state.goLater(func(ctx context.Context) { l.tellNode(ctx, o) })
	})
}

// tellNode lets go of the lock on the node. Where the node cannot be told, that is tried
// again until the lock has expired, or else all others would wait for that. A node that is
// out of use is left alone meanwhile.
func (l *lock) tellNode(ctx context.Context, o outcome) {
	ctx, cancel := context.WithTimeout(ctx, lockFor)
	defer cancel()
	mark := ""
	if o == isAlone {
		mark = markAlone
	}
	message := string(o) + " " + l.key
	for wait := firstStep; ctx.Err() == nil; wait = min(2*wait, longestStep) {
		if l.n.inUse() {
			err := releaseScript.Run(l.n.With(ctx), l.n.Client(), []string{l.key}, l.token, l.n.forwards, message, mark, aloneFor.Milliseconds()).Err()
			if err == nil {
				return
			}
		}
		sleep(ctx, wait)
	}
}

// letGoUnlessHanded lets go of the lock of a forward whose response is not stored.
func (l *lock) letGoUnlessHanded() {
	if l != nil && !l.handed {
		l.letGo(isLost)
	}
}

// hand notes that the lock is let go of by the store, and returns it.
func (l *lock) hand() *lock {
	if l != nil {
		l.handed = true
	}
	return l
}

// waits are those in this process who wait for forwards of others.
type waits struct {
	mu   sync.Mutex // guards open
	open map[string]map[chan outcome]bool
}

// add lets the caller wait for news of the lock at key; it calls end.
func (w *waits) add(key string) (news chan outcome, end func()) {
	news = make(chan outcome, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[string]map[chan outcome]bool{}
	}
	if w.open[key] == nil {
		w.open[key] = map[chan outcome]bool{}
	}
	w.open[key][news] = true
	return news, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.open[key], news); len(w.open[key]) == 0 {
			delete(w.open, key)
		}
	}
}

// heard passes on a message of a process that has let go of a lock.
func (w *waits) heard(message string) {
	what, key, _ := strings.Cut(message, " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	for news := range w.open[key] {
		select {
		case news <- outcome(what):
		default:
		}
	}
}
