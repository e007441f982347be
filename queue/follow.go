package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// tellAbandoned tells the observer of destinations that are abandoned now, each once.
func (s *source) tellAbandoned(ctx context.Context) error {
	found, err := s.p.abandoned(ctx)
	if err != nil {
		return err
	}
	t := &s.p.stray
	t.mu.Lock()
	was := t.told
	t.told = map[string]bool{}
	for d, n := range found {
		t.told[d] = was[d] || n > 0
	}
	t.mu.Unlock()
	for d, n := range found {
		if n > 0 && !was[d] {
			s.w.o.Observe.Abandoned(s.p.node.Name(), d, n)
		}
	}
	return nil
}

// luaLeave defines leave(), which takes a consumer off a lane if it has nothing
// pending there, and with the last one the stream itself, if nothing is in it. One
// that has nothing and was silent for long does not count: it is gone, or makes the
// stream again. It returns whether the consumer is off.
const luaLeave = `
local function leave(known, name, stream, group, me, long)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  local others, off = 0, true
  if not consumers.err then
    for _, c in ipairs(consumers) do
      local name, pending, idle
      for i = 1, #c, 2 do
        if c[i] == 'name' then name = c[i+1] elseif c[i] == 'pending' then pending = c[i+1] elseif c[i] == 'idle' then idle = c[i+1] end
      end
      if name == me and pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
      elseif pending > 0 or name ~= '-' and idle < long then
        others = others + 1
        off = off and name ~= me
      end
    end
  end
  if redis.call('EXISTS', stream) == 0 then
    redis.call('HDEL', known, name)
  elseif others == 0 and redis.call('XLEN', stream) == 0 and #redis.call('XINFO', 'GROUPS', stream) <= 1 then
    redis.call('UNLINK', stream)
    redis.call('HDEL', known, name)
  end
  return off
end
`

// followScript joins a consumer to lanes that the options do not have as long as
// something is in them, and takes it off again.
//
//	KEYS[1]  T:l
//	KEYS[2]… streams
//	ARGV[1]  group
//	ARGV[2]  consumer
//	ARGV[3]  how many ms are long
//	ARGV[4]… for each stream the lane's name, and 1 if the consumer would take from it
//
// It returns for each 1 if the consumer is to take from it, or may have something pending.
var followScript = newScript(luaLeave + `
local out = {}
for i = 2, #KEYS do
  local name, joins = ARGV[2*i], ARGV[2*i+1] == '1' and redis.call('XLEN', KEYS[i]) > 0
  if joins then
    -- A full node before Redis 7 makes no group; to read without one would hold up all lanes.
    local r = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], '0')
    joins = not r.err or string.find(r.err, 'BUSYGROUP', 1, true)
  end
  out[i-1] = (joins or not leave(KEYS[1], name, KEYS[i], ARGV[1], ARGV[2], tonumber(ARGV[3]))) and 1 or 0
end
return out
`)

// followLanes takes up lanes that the options do not have, and leaves them when
// they are empty. The read loop alone calls it.
func (s *source) followLanes(ctx context.Context) error {
	names, wanted := s.strayInlets()
	if len(names) == 0 || time.Now().Before(s.nextFollow) {
		return nil
	}
	s.nextFollow = time.Now().Add(lanesEvery)
	keys := append([]string{s.p.keys.lanes()}, s.p.laneStreams(names)...)
	args := []any{group, s.name, (5 * blockFor).Milliseconds()}
	for i, name := range names {
		args = append(args, name, flag(wanted[i]))
	}
	res, err := followScript.run(ctx, s.p, keys, args...).Int64Slice()
	if err != nil {
		return err
	}
	inlets := slices.Clone(s.inlets[:s.configured])
	for i, name := range names {
		if i < len(res) && res[i] == 1 {
			inlets = append(inlets, s.strayInlet(name))
		}
	}
	s.inlets = inlets
	return nil
}

// strayInlets returns the lanes that this source takes from or might, though the
// options do not have them, and which of them it should.
func (s *source) strayInlets() (names []string, wanted []bool) {
	for _, l := range s.p.stray.all() {
		destination, _ := splitLane(l.name)
		mine := destination == s.w.o.Destination
		// One worker of a process buries what is abandoned.
		buries := l.isDead(time.Now()) && s.w.o.Destination == s.w.client.o.Destinations[0]
		if mine || buries {
			names, wanted = append(names, l.name), append(wanted, true)
		}
	}
	for _, in := range s.inlets[s.configured:] {
		if !slices.Contains(names, in.name) {
			names, wanted = append(names, in.name), append(wanted, false)
		}
	}
	return names, wanted
}

// strayInlet returns the inlet of a lane that the options do not have; always
// the same one, as entries are held by it.
func (s *source) strayInlet(name string) *inlet {
	if in := s.strays[name]; in != nil {
		return in
	}
	in := newInlet(name, s.p.keys, 1)
	in.abandoned = in.destination != s.w.o.Destination
	s.strays[name] = in
	return in
}

// buryAbandoned makes a message a dead letter whose destination no process has. One that
// has it may have come meanwhile, or somebody who replays: then it is theirs.
func (s *source) buryAbandoned(ctx context.Context, h *held) *result {
	since, err := s.p.client().HGet(s.p.with(ctx), s.p.keys.lanes(), h.lane.name).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.trouble(ctx, "asking whether a lane is abandoned", err)
		return &result{held: h, ending: endRelease}
	}
	if since == 0 || s.p.taken.nodeTime().Sub(time.UnixMilli(since)) < buryAfter {
		s.p.stray.renew(h.lane.name)
		return &result{held: h, ending: endRelease}
	}
	d := h.d
	return &result{held: h, ending: endDead, attempts: d.Attempt - 1,
		said: Result{Outcome: Dead, Status: h.entry.lastStatus, Reason: noBlock(d.Destination)}}
}

// noBlock is the reason of dead letters whose destination is in no configuration.
func noBlock(destination string) string {
	if destination == "" {
		return "no deliver block without a name for a day"
	}
	return "no deliver block named " + destination + " for a day"
}
