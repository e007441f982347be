package queue

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Each partition keeps the names of its lanes, because a name that is nowhere
// else would leave with the configuration that has it, and the messages be
// neither delivered nor counted. What always holds: a lane that has a stream has its
// name in T:l. So whatever makes a stream notes the name in the same step, a plain
// XADD makes none, and the name goes with the stream.
//
// Of lanes that the options do not have, one is
//
//	retired    if they have its destination: its class is gone, and the
//	           destination's workers take from it, with weight 1, until it is empty
//	abandoned  if they do not: that of other processes may. When no process had
//	           the destination for buryAfter, its messages become dead letters
//
// Beside the name in T:l is since when it is abandoned, by the node's clock; a process
// that has the destination sets it to 0 again, if it has a worker, of whichever
// destination, or counts: one that does nothing but enqueue says nothing.
const (
	// lanesEvery is how often a process looks which lanes there are.
	lanesEvery = 5 * time.Second
	// buryAfter is for how long a destination must have been in no configuration:
	// far longer than it takes to roll one out, or back.
	buryAfter = 24 * time.Hour
	// sayFor is for how long a process must have seen that: where a node was away, or
	// its clock was wrong, or all processes were, those that have the destination say so.
	sayFor = 3 * lanesEvery
)

// A strayLane is a lane that the options do not have.
type strayLane struct {
	name      string
	abandoned bool
	since     time.Duration // for how long it has been abandoned, when it was seen
	ripe      time.Time     // when it was first seen to be so for buryAfter; zero: it is not
}

// compare orders lanes by their names, those that are abandoned last.
func (l strayLane) compare(other strayLane) int {
	switch {
	case l.abandoned == other.abandoned:
		return strings.Compare(l.name, other.name)
	case l.abandoned:
		return 1
	}
	return -1
}

// isDead reports whether the messages of a lane are dead letters by now.
func (l strayLane) isDead(now time.Time) bool {
	return l.abandoned && !l.ripe.IsZero() && now.Sub(l.ripe) >= sayFor
}

// stray is which lanes a partition has that the options do not have. Its zero value
// is ready, and safe for concurrent use.
type stray struct {
	mu    sync.Mutex // guards all below
	lanes []strayLane
	told  map[string]bool // destinations of which the observer was told
}

func (s *stray) all() []strayLane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes
}

// see takes what a partition has told of its lanes.
func (s *stray) see(found []strayLane, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range found {
		l := &found[i]
		if !l.abandoned || l.since < buryAfter {
			continue
		}
		l.ripe = now
		for _, was := range s.lanes {
			if was.name == l.name && !was.ripe.IsZero() {
				l.ripe = was.ripe
			}
		}
	}
	slices.SortFunc(found, strayLane.compare)
	s.lanes = found
}

// renew notes that a lane is not abandoned for long.
func (s *stray) renew(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.Clone(s.lanes)
	for i := range found {
		if found[i].name == name {
			found[i].since, found[i].ripe = 0, time.Time{}
		}
	}
	s.lanes = found
}

// lanes returns the names of all lanes that there may be on the partition: those
// of the options first, in their order, and those that are abandoned last.
func (p *partition) lanes() []string {
	strays := p.stray.all()
	if len(strays) == 0 {
		return p.owner.lanes
	}
	out := slices.Clone(p.owner.lanes)
	for _, l := range strays {
		out = append(out, l.name)
	}
	return out
}

// aged returns how many of the lanes are not abandoned. A backlog's age is theirs: what
// nobody is to deliver says nothing of how fast the others are.
func (p *partition) aged(lanes []string) int {
	for i, name := range lanes[len(p.owner.lanes):] {
		if destination, _ := splitLane(name); !slices.Contains(p.owner.o.Destinations, destination) {
			return len(p.owner.lanes) + i
		}
	}
	return len(lanes)
}

// lanesWith returns the names of all lanes, and these.
func (p *partition) lanesWith(names ...string) []string {
	out := slices.Clone(p.lanes())
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// destinations returns the destinations of all lanes.
func (p *partition) destinations() []string {
	out := slices.Clone(p.owner.o.Destinations)
	for _, l := range p.stray.all() {
		if d, _ := splitLane(l.name); !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// laneKeys returns what a script with luaLanes is to know of lanes: T:l and
// the streams; how many they are, and their names.
func (p *partition) laneKeys(names []string) (keys []string, args []any) {
	keys, args = append(keys, p.keys.lanes()), append(args, len(names))
	for _, name := range names {
		keys = append(keys, p.laneStream(name))
		args = append(args, name)
	}
	return keys, args
}

// laneStreams returns the streams of lanes.
func (p *partition) laneStreams(names []string) (keys []string) {
	for _, name := range names {
		keys = append(keys, p.laneStream(name))
	}
	return keys
}

// laneStream returns the stream of a lane. What a record names may be anything;
// where it is no lane, it is taken for the first one.
func (p *partition) laneStream(name string) string {
	if !isLane(name) {
		name = p.owner.lanes[0]
	}
	return p.keys.stream(name)
}

// isLane reports whether it can be the name of a lane.
func isLane(name string) bool {
	destination, class, has := strings.Cut(name, "/")
	return name == "" || has && (destination == "" || isName(destination)) && (class == "" || isName(class)) && name != "/"
}

// luaUnpack defines unpacked(), which returns what waits in the list of an order key: a
// lane, then names and values; nothing for what somebody else put there. And addTo(),
// which adds to a counter, as if it were not there if it is no number.
const luaUnpack = `
local function unpacked(packed)
  local ok, e = pcall(cmsgpack.unpack, packed)
  if not ok or type(e) ~= 'table' or #e < 3 or #e % 2 == 0 then return nil end
  for _, v in ipairs(e) do
    if type(v) ~= 'string' then return nil end
  end
  return e
end

local function addTo(key, field, by)
  local n = redis.pcall('HINCRBY', key, field, by)
  if type(n) == 'number' then return n end
  if string.find(n.err, 'not an integer', 1, true) then redis.call('HDEL', key, field) end
  return redis.call('HINCRBY', key, field, by)
end
`

// luaLanes defines lanesAt(), which reads what laneKeys returns, and add(), which
// puts an entry into the stream of a lane. With the first one it notes the lane, and
// makes the group: FastStream would make it at the end, and never see what is there.
const luaLanes = luaUnpack + `
local function lanesAt(key, arg)
  local streams, n = {}, tonumber(ARGV[arg])
  for i = 1, n do streams[ARGV[arg+i]] = KEYS[key+i] end
  return {known = KEYS[key], streams = streams}, n
end

local function add(lanes, name, e)
  local q = redis.call('XADD', lanes.streams[name], 'NOMKSTREAM', '*', unpack(e))
  if q then return q end
  redis.call('HSETNX', lanes.known, name, '0')
  q = redis.call('XADD', lanes.streams[name], '*', unpack(e))
  redis.pcall('XGROUP', 'CREATE', lanes.streams[name], '` + group + `', '0') -- before Redis 7 a full node makes none
  return q
end
`

// strayScript tells which lanes there are beside those of the options, and keeps
// the time since when they are abandoned.
//
//	KEYS[1]  T:l
//	KEYS[2]… streams of the options' lanes
//	ARGV[1]  their number
//	ARGV[2]… their names
//
// It returns names, and behind each for how many ms it has been abandoned; -1: it is not.
var strayScript = newScript(luaNow + luaLanes + `
local lanes, n = lanesAt(1, 1)
local destinations, known, out = {}, {}, {}
local function destination(name) return string.match(name, '^([^/]*)/') or '' end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do known[all[i]] = all[i+1] end
for i = 1, n do
  local name = ARGV[1+i]
  destinations[destination(name)] = true
  if known[name] then
    if known[name] ~= '0' then redis.call('HSET', KEYS[1], name, '0') end
  elseif redis.call('EXISTS', KEYS[1+i]) == 1 then
    redis.call('HSET', KEYS[1], name, '0')
  end
end
local t = now()
for name, since in pairs(known) do
  if not lanes.streams[name] then
    local age = -1
    if not destinations[destination(name)] then
      since = tonumber(since) or 0
      if since == 0 then
        since = t
        redis.call('HSET', KEYS[1], name, string.format('%.0f', t))
      end
      age = math.max(t - since, 0)
    elseif since ~= '0' then
      redis.call('HSET', KEYS[1], name, '0')
    end
    out[#out+1] = name
    out[#out+1] = age
  end
end
return out
`)

// learnLanes asks the partition which lanes it has, if nobody did for a while, and
// reports whether it has asked.
func (p *partition) learnLanes(ctx context.Context) (asked bool, err error) {
	if !p.taken.every(&p.taken.nextLanes, lanesEvery) {
		return false, nil
	}
	return true, p.askLanes(ctx)
}

// askLanes asks the partition which lanes it has.
func (p *partition) askLanes(ctx context.Context) error {
	keys, args := p.laneKeys(p.owner.lanes)
	res, err := strayScript.run(ctx, p, keys, args...).Slice()
	if err != nil {
		return err
	}
	var found []strayLane
	for i := 0; i+1 < len(res); i += 2 {
		name, ok := res[i].(string)
		ms, is := res[i+1].(int64)
		if ok && is && isLane(name) {
			found = append(found, strayLane{name: name, abandoned: ms >= 0, since: time.Duration(max(ms, 0)) * time.Millisecond})
		}
	}
	p.stray.see(found, time.Now())
	return nil
}

// meet takes lanes into account that a record has.
func (p *partition) meet(names ...string) {
	p.stray.mu.Lock()
	defer p.stray.mu.Unlock()
	found := slices.Clone(p.stray.lanes)
	for _, name := range names {
		is := func(l strayLane) bool { return l.name == name }
		if !slices.Contains(p.owner.lanes, name) && !slices.ContainsFunc(found, is) {
			destination, _ := splitLane(name)
			found = append(found, strayLane{name: name, abandoned: !slices.Contains(p.owner.o.Destinations, destination)})
		}
	}
	slices.SortFunc(found, strayLane.compare)
	p.stray.lanes = found
}

// abandoned returns how many messages are ready or in flight in the lanes of
// destinations that the options do not have.
func (p *partition) abandoned(ctx context.Context) (map[string]int64, error) {
	var out map[string]int64
	for _, l := range p.stray.all() {
		if !l.abandoned {
			continue
		}
		n, err := p.client().XLen(p.with(ctx), p.laneStream(l.name)).Result()
		if err != nil {
			return out, err
		}
		if out == nil {
			out = map[string]int64{}
		}
		destination, _ := splitLane(l.name)
		out[destination] += n
	}
	return out, nil
}
