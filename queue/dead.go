package queue

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrCursor: it is no cursor that Dead has returned.
var ErrCursor = errors.New("queue: not a cursor of a listing")

// deadMost is how many dead letters one script replays or deletes.
const deadMost = 100

// A deadCursor is where a listing goes on: after the letter that died then, on
// that partition, with that record id.
type deadCursor struct {
	At       int64  `json:"t"` // ms
	Ref      string `json:"p"`
	RecordID string `json:"m"`
}

func (c deadCursor) String() string {
	text, _ := json.Marshal(c) //nolint:errchkjson // a number and two strings
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseDeadCursor(s string) (c deadCursor, err error) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %q", ErrCursor, s)
	}
	return c, nil
}

// precedes reports whether a letter comes after the cursor.
func (c deadCursor) precedes(at int64, ref, recordID string) bool {
	return cmp.Or(cmp.Compare(c.At, at), cmp.Compare(c.Ref, ref), cmp.Compare(c.RecordID, recordID)) < 0
}

// Dead returns up to limit dead letters after a cursor ("" at first), the oldest
// first, and the next cursor, which is "" at the end. Where some partition does not
// answer, it returns those of the others, and an error that is ErrNoNode.
func (c *Client) Dead(ctx context.Context, limit int, after string) ([]Info, string, error) {
	cursor := deadCursor{At: -1}
	if after != "" {
		var err error
		if cursor, err = parseDeadCursor(after); err != nil {
			return nil, "", err
		}
	}
	limit = max(limit, 1)
	found := make([][]Info, len(c.partitions))
	err := c.onAll(func(p *partition) (err error) {
		found[p.index], err = p.deadAfter(ctx, cursor, limit+1)
		return err
	}, "listing dead letters")
	all := slices.Concat(found...)
	slices.SortFunc(all, oldestFirst)
	if len(all) <= limit {
		return all, "", err
	}
	all = all[:limit]
	last := all[limit-1]
	return all, deadCursor{last.DiedAt.UnixMilli(), last.ref, last.recordID}.String(), err
}

// deadAfter returns up to n dead letters of a partition that come after the cursor.
func (p *partition) deadAfter(ctx context.Context, cursor deadCursor, n int) (out []Info, err error) {
	const page = 200
	for offset := int64(0); len(out) < n; offset += page {
		letters, err := p.client().ZRangeArgsWithScores(p.with(ctx), redis.ZRangeArgs{
			Key: p.keys.dead(), ByScore: true, Start: strconv.FormatInt(cursor.At, 10), Stop: "+inf", Offset: offset, Count: page,
		}).Result()
		if err != nil {
			return out, err
		}
		infos, err := p.deadInfos(ctx, cursor, letters, n-len(out))
		out = append(out, infos...)
		if err != nil || len(letters) < page {
			return out, err
		}
	}
	return out, nil
}

// deadInfos reads the records of those letters that come after the cursor, n at most.
func (p *partition) deadInfos(ctx context.Context, cursor deadCursor, letters []redis.Z, n int) (out []Info, err error) {
	pipe := p.client().Pipeline()
	var cmds []*redis.MapStringStringCmd
	var chosen []redis.Z
	for _, z := range letters {
		rid, _ := z.Member.(string)
		if len(chosen) < n && cursor.precedes(int64(z.Score), p.ref, rid) {
			chosen = append(chosen, z)
			cmds = append(cmds, pipe.HGetAll(p.with(ctx), p.keys.record(rid)))
		}
	}
	if len(cmds) == 0 {
		return nil, nil
	}
	if err := readAll(p.with(ctx), pipe); err != nil {
		return nil, err
	}
	for i, z := range chosen {
		r, _ := parseRecord(cmds[i].Val()) // what cannot be read is why it is dead, perhaps
		r.state = stateDead
		rid, _ := z.Member.(string)
		out = append(out, p.infoOfRecord(rid, &r, time.UnixMilli(int64(z.Score))))
	}
	return out, nil
}

// replayScript makes dead letters ready, as if they were new, but for their last
// status: one that was delivered, and only not told of, is known by it. Lanes that
// were abandoned are so from now on.
//
//	KEYS[1]  dead letters
//	KEYS[2]  counts
//	KEYS[3]  orders
//	KEYS[4]  T:l
//	KEYS[5]… streams of all lanes; for each letter its record, and the list of what waits for its order key
//	ARGV[1]  how many of an order key may be in flight
//	ARGV[2]  number of lanes
//	ARGV[3]… their names; the record ids
//
// It returns how many are ready.
var replayScript = newWriteScript(luaReady + luaLanes + luaPut + `
local lanes, n = lanesAt(4, 2)
local done = 0
for i = 3 + n, #ARGV do
  local at = 5 + n + 2 * (i - 3 - n)
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    local record = redis.pcall('HGETALL', KEYS[at]) -- an error has no fields either
    local fresh, u = {}, ''
    for j = 1, #record, 2 do
      local name = record[j]
      if name == 'u' then u = record[j+1] end
      if name ~= 'a' and name ~= 'x' and name ~= 'e' and name ~= 'd' then
        fresh[#fresh+1] = name
        fresh[#fresh+1] = record[j+1]
      end
    end
    local lane = #record > 0 and put(fresh, KEYS[at], KEYS[2], KEYS[3], KEYS[at+1], tonumber(ARGV[1]), lanes, u)
    if lane then
      done = done + 1
      if redis.call('HGET', lanes.known, lane) then redis.call('HSET', lanes.known, lane, '0') end
    end
    if lane or #record == 0 then redis.call('ZREM', KEYS[1], ARGV[i]) end
  end
end
return done
`)

// Replay makes dead letters ready again, under their ids, with all attempts
// before them; with no ids, all. It returns how many; progress (may be nil) is told on the way.
func (c *Client) Replay(ctx context.Context, ids []string, progress func(done int)) (int, error) {
	return c.onDead(ctx, ids, progress, c.replayOn, "replaying")
}

// Drop deletes dead letters; with no ids, all.
func (c *Client) Drop(ctx context.Context, ids []string, progress func(done int)) (int, error) {
	return c.onDead(ctx, ids, progress, c.dropOn, "dropping")
}

// onDead does something to dead letters, on all partitions at once. Without ids
// it ends with those that are there now: what dies again meanwhile is left alone.
func (c *Client) onDead(ctx context.Context, ids []string, progress func(int),
	do func(context.Context, *partition, []string) (int, error), doing string,
) (int, error) {
	var mu sync.Mutex
	total := 0
	did := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		total += n
		if progress != nil && n > 0 {
			progress(total)
		}
	}
	over := func(p *partition, rids []string) error {
		return inParts(rids, func(part []string) error {
			n, err := do(ctx, p, part)
			did(n)
			return err
		})
	}
	err := c.onAll(func(p *partition) error {
		if len(ids) > 0 {
			others, err := c.otherRecordIDs(ctx, p, ids)
			if err != nil {
				return err
			}
			return over(p, append(c.recordIDsOf(ids), others...))
		}
		all, err := p.client().ZRange(p.with(ctx), p.keys.dead(), 0, -1).Result()
		if err != nil {
			return err
		}
		return over(p, all)
	}, doing)
	return total, err
}

// inParts calls do with parts of ids, until it fails.
func inParts(ids []string, do func(part []string) error) error {
	for part := range slices.Chunk(ids, deadMost) {
		if err := do(part); err != nil {
			return err
		}
	}
	return nil
}

// recordFields returns some fields of records, in the order of names.
func (p *partition) recordFields(ctx context.Context, rids []string, names ...string) ([][]string, error) {
	pipe := p.client().Pipeline()
	cmds := make([]*redis.SliceCmd, len(rids))
	for i, rid := range rids {
		cmds[i] = pipe.HMGet(p.with(ctx), p.keys.record(rid), names...)
	}
	if err := readAll(p.with(ctx), pipe); err != nil {
		return nil, err
	}
	out := make([][]string, len(rids))
	for i, cmd := range cmds {
		out[i] = textsOf(cmd, len(names))
	}
	return out, nil
}

func (c *Client) replayOn(ctx context.Context, p *partition, rids []string) (int, error) {
	fields, err := p.recordFields(ctx, rids, "o", "c", "g")
	if err != nil {
		return 0, err
	}
	revived := map[string][]string{}
	of := make([]string, len(rids))
	for i := range rids {
		of[i] = fields[i][2]
	}
	lanes, names := p.laneKeys(p.lanesWith(of...))
	keys := append([]string{p.keys.dead(), p.keys.counters(), p.keys.orders()}, lanes...)
	args := append([]any{c.o.PerKey}, names...)
	for i, rid := range rids {
		keys = append(keys, p.keys.record(rid), p.keys.order(fields[i][0]))
		args = append(args, rid)
		revived[fields[i][1]] = append(revived[fields[i][1]], rid)
	}
	n, err := replayScript.run(ctx, p, keys, args...).Int()
	for ref, rids := range revived {
		if to := c.byRef(ref); to != nil && err == nil && !to.resting() {
			// One that does not hear it asks in time.
			to.report(ctx, runEach(ctx, to, []*call{to.reviveCall(rids, c.o.overdueAfter(0))}))
		}
	}
	return n, err
}

// dropScript deletes dead letters with their bodies. Of one that has a second copy
// it leaves a tombstone: where that copy cannot be deleted now, it would be taken for
// one whose first is lost.
//
//	KEYS[1]  dead letters
//	KEYS[2]… for each letter its tombstone, its record, then its chunks
//	ARGV[1]  for how many ms a tombstone stands
//	ARGV[2]… for each letter its record id, and how many chunks it has
//
// It returns a list of 1 for each that was deleted, 0 for each that was not there.
var dropScript = newScript(`
local at, out = 2, {}
for i = 2, #ARGV, 2 do
  local n = redis.call('ZREM', KEYS[1], ARGV[i])
  out[#out+1] = n
  if n == 1 then
    if redis.pcall('HEXISTS', KEYS[at+1], 'c') == 1 then redis.call('SET', KEYS[at], '1', 'PX', ARGV[1]) end
    for j = at + 1, at + 1 + ARGV[i+1] do redis.call('UNLINK', KEYS[j]) end
  end
  at = at + 2 + ARGV[i+1]
end
return out
`)

// dropOn deletes dead letters of one partition.
func (c *Client) dropOn(ctx context.Context, p *partition, rids []string) (dropped int, err error) {
	err = inParts(rids, func(part []string) error {
		n, err := c.dropPart(ctx, p, part)
		dropped += n
		return err
	})
	return dropped, err
}

func (c *Client) dropPart(ctx context.Context, p *partition, rids []string) (int, error) {
	fields, err := p.recordFields(ctx, rids, "n", "c")
	if err != nil {
		return 0, err
	}
	keys, args, sizes := []string{p.keys.dead()}, []any{tombstoneFor.Milliseconds()}, make([]int64, len(rids))
	for i, rid := range rids {
		size, _ := strconv.ParseInt(fields[i][0], 10, 64)
		if size < 0 || size > maxChunked {
			size = 0
		}
		sizes[i] = size
		chunks := p.keys.chunks(rid, size)
		keys = append(append(keys, p.keys.tombstone(rid), p.keys.record(rid)), chunks...)
		args = append(args, rid, len(chunks))
	}
	codes, err := dropScript.run(ctx, p, keys, args...).Int64Slice()
	if err != nil {
		return 0, err
	}
	dropped := 0
	var errs []error
	for i, code := range codes {
		if code != 1 {
			continue
		}
		dropped++
		if to := c.byRef(fields[i][1]); to != nil {
			err := runEach(ctx, to, []*call{to.deleteCopiesCall(goneCopy{rids[i], sizes[i]})})
			if err == nil && !strings.HasSuffix(fields[i][1], strayMark) { // else another one asks
				err = p.client().Unlink(p.with(ctx), p.keys.tombstone(rids[i])).Err()
			}
			errs = append(errs, err)
		}
	}
	return dropped, errors.Join(errs...)
}
