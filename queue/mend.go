package queue

import (
	"context"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"
)

// A node that has lost its data has lost firsts and second copies. For messages
// that are ready it is enough to wait until their copies are overdue. Dead letters
// and what is delayed may lie for days, in which the other node may be lost as well.
// So a partition has an incarnation, a name that it loses with its data. Some of the
// data may be lost without the name, as with a snapshot of before: so the run of the
// server, which ends when it ends, is part of it. Who looks
// at a partition sees those of the others, and where one is new, here
//
//   - the copies of dead letters that were there are overdue at once;
//   - dead letters and what is delayed get a second copy again, if theirs was there.
//
// A dead letter that was a copy until now gets one on some other node.

const (
	// incarnationFor is for how long an incarnation is kept that nobody looks at.
	incarnationFor = 7 * 24 * time.Hour
	// mendAgain is how long to wait before it is tried again to write second copies
	// that no node took.
	mendAgain = 30 * time.Second
)

// mending is what a process knows of the incarnations of partitions. Its zero value
// is ready; taken's mutex guards it.
type mending struct {
	incarnation string                // this partition's, with the run of its server; empty: not known
	seen        map[*partition]string // those of others for which all is done here
	wanted      time.Time             // when something here is to get a copy that has none; zero: nothing
	next        time.Time             // when somebody is to look again
}

// wantsMending says that something on the partition has no second copy, and that
// it is to get one in a while.
func (t *taken) wantsMending(in time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mending.wanted = time.Now().Add(in)
}

// incarnationScript returns the incarnation. A server that does not tell its run, as the
// user may not ask for it, has the same one always.
//
//	KEYS[1] incarnation
//	ARGV[1] what it is if it has none
//	ARGV[2] for how many ms it is kept
var incarnationScript = newScript(`
local is = redis.call('GET', KEYS[1])
if not is then
  is = ARGV[1]
  redis.call('SET', KEYS[1], is, 'PX', ARGV[2])
elseif redis.call('PTTL', KEYS[1]) < ARGV[2] / 2 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local server = redis.pcall('INFO', 'server')
return is .. ' ' .. (type(server) == 'string' and string.match(server, 'run_id:(%w+)') or '')
`)

// keepCopies is the loop that sees to what other partitions have lost, until ctx
// ends. What it does may take long; what is due does not wait for it.
func (s *source) keepCopies(ctx context.Context) {
	t, every := &s.p.taken, min(choresEvery, s.w.client.o.Visibility)
	for s.w.client.o.Copies > 1 && sleep(ctx, every/4) {
		if !s.p.resting() && t.every(&t.mending.next, every) {
			s.trouble(ctx, "seeing to second copies", s.mend(ctx))
		}
	}
}

// mend sees to what other partitions have lost.
func (s *source) mend(ctx context.Context) error {
	is, err := incarnationScript.run(ctx, s.p, []string{s.p.keys.incarnation()}, newID(), incarnationFor.Milliseconds()).Text()
	if err != nil {
		return err
	}
	others, wanted := s.p.taken.newIncarnations(is, s.w.client.partitions)
	if len(others) > 0 {
		if err := s.hurryDead(ctx, others); err != nil {
			return err
		}
	}
	if len(others) > 0 || !wanted.IsZero() {
		if err := s.copyAgain(ctx, others); err != nil {
			return err
		}
	}
	s.p.taken.mended(others, wanted)
	return nil
}

// newIncarnations takes the partition's incarnation, and returns those others that
// have another one than was seen; and since when something is to get a copy that has
// none, or zero.
func (t *taken) newIncarnations(is string, all []*partition) (others map[*partition]string, wanted time.Time) {
	t.mu.Lock()
	t.mending.incarnation = is
	seen := t.mending.seen
	if !time.Now().Before(t.mending.wanted) {
		wanted = t.mending.wanted
	}
	t.mu.Unlock()
	others = map[*partition]string{}
	for _, p := range all {
		if &p.taken == t {
			continue
		}
		p.taken.mu.Lock()
		now := p.taken.mending.incarnation
		p.taken.mu.Unlock()
		if now != "" && now != seen[p] {
			others[p] = now
		}
	}
	return others, wanted
}

// mended says that all is done for these incarnations, and for what had no copy
// then.
func (t *taken) mended(others map[*partition]string, wanted time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := maps.Clone(t.mending.seen) // who reads the old one has no lock
	if seen == nil {
		seen = map[*partition]string{}
	}
	maps.Copy(seen, others)
	t.mending.seen = seen
	if t.mending.wanted.Equal(wanted) {
		t.mending.wanted = time.Time{}
	}
}

// scan calls do with the members of a sorted set, some at a time.
func (s *source) scan(ctx context.Context, key string, do func(rids []string) error) error {
	for cursor := uint64(0); ; {
		flat, next, err := s.p.client().ZScan(s.p.with(ctx), key, cursor, "", noteMost).Result()
		if err != nil {
			return err
		}
		rids := make([]string, 0, len(flat)/2)
		for i := 0; i < len(flat); i += 2 {
			rids = append(rids, flat[i])
		}
		if len(rids) > 0 {
			if err := do(rids); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// hurryDead makes the copies of dead letters overdue whose firsts are on one of
// these partitions. Those of messages that live are left alone: a first may be only
// just on its way, or be under delivery still, and they have not long to wait.
func (s *source) hurryDead(ctx context.Context, others map[*partition]string) error {
	return s.scan(ctx, s.p.keys.seconds(), func(rids []string) error {
		pipe := s.p.client().Pipeline()
		cmds := make([]*redis.SliceCmd, len(rids))
		for i, rid := range rids {
			cmds[i] = pipe.HMGet(s.p.with(ctx), s.p.keys.second(rid), "s", "c")
		}
		if err := readAll(s.p.with(ctx), pipe); err != nil {
			return err
		}
		var hurried []redis.Z
		for i, rid := range rids {
			f := textsOf(cmds[i], 2)
			if _, ok := others[s.w.client.byRef(f[1])]; ok && f[0] == stateDead {
				hurried = append(hurried, redis.Z{Member: rid})
			}
		}
		if len(hurried) == 0 {
			return nil
		}
		return s.p.client().ZAddArgs(s.p.with(ctx), s.p.keys.seconds(), redis.ZAddArgs{XX: true, Members: hurried}).Err()
	})
}

// copyAgain writes second copies of dead letters and of what is delayed, where
// theirs is gone, or was never: those whose copies were on one of these partitions,
// and those that have none. It takes partitions out of them that are to be seen to again.
func (s *source) copyAgain(ctx context.Context, others map[*partition]string) error {
	for _, key := range []string{s.p.keys.dead(), s.p.keys.delayed()} {
		err := s.scan(ctx, key, func(rids []string) error {
			missing, err := s.withoutCopy(ctx, rids, others)
			if err != nil {
				return err
			}
			for rid, on := range missing {
				over, err := s.copyOne(ctx, key, rid, on)
				if err != nil {
					return err
				}
				if !over {
					delete(others, on)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withoutCopy returns those records that have no second copy, and where theirs is to
// be; nil: anywhere.
func (s *source) withoutCopy(ctx context.Context, rids []string, others map[*partition]string) (map[string]*partition, error) {
	fields, err := s.p.recordFields(ctx, rids, "c")
	if err != nil {
		return nil, err
	}
	missing, ask := map[string]*partition{}, map[*partition][]string{}
	for i, rid := range rids {
		on := s.w.client.byRef(fields[i][0])
		if on == nil {
			missing[rid] = nil
		} else if _, ok := others[on]; ok {
			ask[on] = append(ask[on], rid)
		}
	}
	for on, rids := range ask {
		pipe := on.client().Pipeline()
		cmds := make([]*redis.IntCmd, len(rids))
		for i, rid := range rids {
			cmds[i] = pipe.Exists(on.with(ctx), on.keys.second(rid))
		}
		if _, err := pipe.Exec(on.with(ctx)); err != nil {
			on.report(ctx, err)
			return nil, err
		}
		for i, rid := range rids {
			if cmds[i].Val() == 0 {
				missing[rid] = on
			}
		}
	}
	return missing, nil
}
