package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// claimEvery is how often a source looks for deliveries whose visibility is over.
	claimEvery = time.Second
	// claimPages bounds how many commands one such look takes.
	claimPages = 16
	// consumerIdle is how long a consumer that has nothing must have been silent
	// before it is taken for one that is gone.
	consumerIdle = 10 * time.Minute
)

func (s *source) claimIsDue() bool { return !time.Now().Before(s.nextClaim) }

// claim takes up to n deliveries whose visibility is over: those of workers that
// died, and what was given back. It returns how many it has begun.
//
// That a delivery was taken so is counted by XPENDING: a message that kills its
// worker uses up its attempts.
func (s *source) claim(ctx context.Context, n int) (begun int, err error) {
	s.claimLater()
	ctx = s.p.with(context.WithoutCancel(ctx))
	if err := s.followLanes(ctx); err != nil {
		return 0, err
	}
	for _, in := range s.inlets {
		for range claimPages {
			if begun == n {
				s.nextClaim = time.Now().Add(restPoll) // there may be more
				return begun, nil
			}
			var ms []redis.XMessage
			ms, in.cursor, err = s.p.client().XAutoClaim(ctx, &redis.XAutoClaimArgs{
				Stream: in.key, Group: group, Consumer: s.name,
				MinIdle: s.w.client.o.Visibility, Start: in.cursor, Count: int64(n - begun),
			}).Result()
			if err != nil {
				in.cursor = "0-0"
				return begun, err
			}
			got, err := s.beginClaimed(ctx, in, ms)
			begun += got
			if err != nil {
				return begun, err
			}
			if in.cursor == "0-0" {
				break
			}
		}
	}
	return begun, s.sweep(ctx)
}

func (s *source) claimLater() { s.nextClaim = time.Now().Add(claimEvery - rand.N(claimEvery/4)) }

// mayClaim reports whether there are deliveries whose visibility is over. Where there
// are none it has looked as claim does.
func (s *source) mayClaim(ctx context.Context) (bool, error) {
	ctx = s.p.with(context.WithoutCancel(ctx))
	if err := s.followLanes(ctx); err != nil {
		return false, err
	}
	for _, in := range s.inlets {
		pending, err := s.p.client().XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: in.key, Group: group, Idle: s.w.client.o.Visibility, Start: "-", End: "+", Count: 1,
		}).Result()
		if len(pending) > 0 || err != nil && !errors.Is(err, redis.Nil) {
			return err == nil, err
		}
	}
	s.claimLater()
	return false, s.sweep(ctx)
}

// beginClaimed begins the deliveries of entries that were claimed, in the order of
// their ids. How often they were delivered before, only XPENDING says.
func (s *source) beginClaimed(ctx context.Context, in *inlet, ms []redis.XMessage) (begun int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	pending, err := s.p.client().XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: in.key, Group: group, Start: ms[0].ID, End: ms[len(ms)-1].ID, Count: 4 * maxUnrecorded, Consumer: s.name,
	}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err // they are pending to this consumer, and are given back as stray
	}
	counts := make(map[string]int, len(pending))
	for _, p := range pending {
		counts[p.ID] = int(p.RetryCount)
	}
	for _, m := range ms {
		// One that is not there is another's by now.
		if n, ok := counts[m.ID]; ok && m.Values != nil && s.begins(in, m, n) {
			begun++
		}
	}
	return begun, nil
}

// sweepScript takes consumers off that have nothing and were not heard of for
// long, which is one step, so that none of them can have got something meanwhile.
//
//	KEYS    streams
//	ARGV[1] group
//	ARGV[2] ms
var sweepScript = newScript(`
for _, key in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  for _, c in ipairs(consumers) do -- none where the stream is gone
    local name, pending, idle
    for i = 1, #c, 2 do
      if c[i] == 'name' then name = c[i+1] elseif c[i] == 'pending' then pending = c[i+1] elseif c[i] == 'idle' then idle = c[i+1] end
    end
    if pending == 0 and idle > tonumber(ARGV[2]) then redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], name) end
  end
end
return 1
`)

// sweep takes off the consumers of workers that are gone, now and then.
func (s *source) sweep(ctx context.Context) error {
	if time.Now().Before(s.nextSweep) {
		return nil
	}
	s.nextSweep = time.Now().Add(consumerIdle/2 + rand.N(consumerIdle))
	return sweepScript.run(ctx, s.p, s.streams(), group, consumerIdle.Milliseconds()).Err()
}
