package fluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

const (
	// journalLength is about how many records a node keeps, if there are up to
	// eight. What was stored before the oldest of them is refused.
	journalLength = 1 << 18
	// recordTTL is how long a node remembers that it has a record, in seconds. A
	// record that is relayed later than that is appended again, which costs hits
	// and is never wrong.
	recordTTL = 24 * 60 * 60
	// journalPage is how many entries one command reads.
	journalPage = 1000
	// appendBatch is how many records one script appends.
	appendBatch = 128
)

// lengthFor is about how many records each of so many nodes keeps. All keep the
// same ones, and a process remembers the fewer the more nodes it has to compare.
func lengthFor(nodes int) int { return journalLength / ((max(1, nodes) + 7) / 8) }

// appendSource appends records to the journal, each unless it is there already,
// and makes a new journal when there is no head that ParseHead reads, or when the
// stream takes no entry behind the head: it is no stream, or somebody has put its
// last id further on. A record key holds the inc of the journal that has the
// record: one that outlived its journal says nothing. It is written when the record
// is in the stream, as a script that fails is not undone; so what it can do without
// (UNLINK, PUBLISH) must not make it fail, for a user who may not.
//
//	KEYS[1]        head
//	KEYS[2]        journal
//	KEYS[3], [4]…  for each record: its record key, the entry key to unlink
//	ARGV[1]        inc of a new journal, 16 hex digits
//	ARGV[2]        nonce of a new journal's first entry
//	ARGV[3]        channel to tell of each new entry
//	ARGV[4]        seconds that a record key lives
//	ARGV[5]        about how many entries the journal keeps
//	ARGV[6]        number of the bucket, which the channel is told
//	ARGV[7]…       for each record: id, nonce, kind ("~" before it: soft), value, "1" to unlink
//
// It returns the head, for each record its seq, 0 if it was there already, and
// the nonce of the entry before the first new one.
const appendSource = `
local h = redis.call('GET', KEYS[1])
local inc, seq, nonce
if h then inc, seq, nonce = string.match(h, '^(%x+):([1-9]%d*):(%x+)$') end
if inc and (#inc ~= 16 or #seq > 15 or #nonce ~= 16 or inc == '0000000000000000') then inc = nil end
local out, news, before
local function begin()
  redis.call('UNLINK', KEYS[2])
  inc, seq, nonce = ARGV[1], 1, ARGV[2]
  redis.call('XADD', KEYS[2], '1-0', 'i', '', 'n', nonce, 'k', 'b', 'v', '')
end
local function append()
  out, news, before = {}, {}, nonce
  local a, k = 7, 3
  while a <= #ARGV do
    local id, n, kind, value = ARGV[a], ARGV[a+1], ARGV[a+2], ARGV[a+3]
    if redis.call('GET', KEYS[k]) ~= inc then
      local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], string.format('%.0f', seq + 1) .. '-0', 'i', id, 'n', n, 'k', kind, 'v', value)
      if type(added) == 'table' then return added end
      redis.call('SET', KEYS[k], inc, 'EX', ARGV[4])
      local after = nonce
      seq, nonce = seq + 1, n
      if ARGV[a+4] == '1' then redis.pcall('UNLINK', KEYS[k+1]) end
      out[#out+1] = seq
      news[#news+1] = ARGV[6] .. ' ' .. inc .. ':' .. string.format('%.0f', seq) .. ':' .. n .. ' ' .. after .. ' ' .. id .. ' ' .. kind .. ' ' .. value
    else
      out[#out+1] = 0
    end
    a, k = a + 5, k + 2
  end
end
if inc then seq = tonumber(seq) else begin() end
local refused = append()
if refused and (string.find(refused.err, 'WRONGTYPE') or string.find(refused.err, 'equal or smaller') or string.find(refused.err, 'exhausted')) then
  begin()
  refused = append()
end
if refused then return refused end
local head = inc .. ':' .. string.format('%.0f', seq) .. ':' .. nonce
redis.call('SET', KEYS[1], head)
for _, m in ipairs(news) do redis.pcall('PUBLISH', ARGV[3], m) end
return {head, out, before}
`

// A full node must still take invalidations: allow-oom, which Redis has since
// version 7; older servers get the script without it.
var (
	appendScript    = redis.NewScript("#!lua flags=allow-oom\n" + appendSource)
	appendScriptOld = redis.NewScript(appendSource)
)

// journalOn is the journal on one node.
type journalOn struct {
	node    *shard.Node
	bucket  bucket
	number  int    // of the bucket
	channel string // on which the node tells of new entries
	length  int    // about how many records it keeps

	replicas *replicas // that are to confirm what is appended; nil if there are none
}

// replicas remembers that the replicas of a master are slow, or that it has none.
type replicas struct{ notBefore atomic.Int64 }

// waitAgain is for how long nobody waits for replicas that did not confirm an
// append in time. Each wait costs an invalidation half of the time-out.
const waitAgain = 10 * time.Second

// areAwaited reports whether an append is to wait until a replica has it. A time
// that is too far ahead is from before the clock was set back.
func (r *replicas) areAwaited(now time.Time) bool {
	if r == nil {
		return false
	}
	left := time.Duration(r.notBefore.Load() - now.UnixNano())
	return left <= 0 || left > waitAgain
}

// lag notes that none has confirmed.
func (r *replicas) lag(now time.Time) { r.notBefore.Store(now.Add(waitAgain).UnixNano()) }

// appended is what a script has done.
type appended struct {
	head    journal.Head
	entries []journal.Entry  // the new ones
	known   []journal.Record // those that were there already
}

// appendRecords appends what is not there yet, in one script.
func (j journalOn) appendRecords(ctx context.Context, records []journal.Record) (a appended, err error) {
	keys := []string{j.bucket.head(), j.bucket.journal()}
	args := []any{nonZeroHex(), nonZeroHex(), j.channel, recordTTL, j.length, j.number}
	nonces := make([]uint64, len(records))
	for i, r := range records {
		unlink := "0"
		if r.Target.Kind == journal.URL && !r.Target.Soft {
			unlink = "1"
		}
		nonce := nonZeroHex()
		nonces[i], _ = strconv.ParseUint(nonce, 16, 64)
		keys = append(keys, j.bucket.record(r.ID), j.bucket.entry(r.Target.Value))
		args = append(args, r.ID, nonce, r.Target.Code(), r.Target.Value, unlink)
	}
	if len(records) == 1 && records[0].Target.Kind == journal.Mark {
		j.replicas = nil // without it more is validated
	}
	res, err := j.run(ctx, appendScript, keys, args)
	if err != nil && strings.Contains(err.Error(), "compiling script") {
		res, err = j.run(ctx, appendScriptOld, keys, args)
	}
	if err != nil {
		return a, fmt.Errorf("appending to the journal on node %q: %w", j.node.Name(), err)
	}
	return parseAppended(res, records, nonces)
}

// run runs a script, and where there are replicas waits until one has what it
// did: without that it may be lost with its master. It waits briefly, and goes on
// in any case.
func (j journalOn) run(ctx context.Context, script *redis.Script, keys []string, args []any) ([]any, error) {
	if now := time.Now(); j.replicas.areAwaited(now) {
		cmd, confirmed, err := j.confirm(ctx, script.EvalSha, keys, args)
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			cmd, confirmed, err = j.confirm(ctx, script.Eval, keys, args)
		}
		if err == nil && confirmed == 0 {
			j.replicas.lag(now)
		}
		if !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
			if err != nil {
				return nil, err
			}
			return cmd.Slice()
		}
	}
	return script.Run(j.node.With(ctx), j.node.Client(), keys, args...).Slice()
}

// evalFunc sends a script, by its source or by its hash.
type evalFunc func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// confirm runs a script and returns how many replicas have what it did.
func (j journalOn) confirm(ctx context.Context, eval evalFunc, keys []string, args []any) (cmd *redis.Cmd, confirmed int64, err error) {
	confirmed, err = j.node.Confirm(ctx, keys[0], func(pipe redis.Pipeliner) { cmd = eval(ctx, pipe, keys, args...) })
	return cmd, confirmed, err
}

// parseAppended reads what the script returned.
func parseAppended(res []any, records []journal.Record, nonces []uint64) (a appended, err error) {
	if len(res) != 3 {
		return a, journal.ErrForeign
	}
	text, _ := res[0].(string)
	seqs, _ := res[1].([]any)
	before, _ := res[2].(string)
	var ok bool
	after, err := strconv.ParseUint(before, 16, 64)
	if a.head, ok = journal.ParseHead(text); !ok || err != nil || len(seqs) != len(records) {
		return a, journal.ErrForeign
	}
	for i, s := range seqs {
		seq, _ := s.(int64)
		if seq <= 0 {
			a.known = append(a.known, records[i])
			continue
		}
		a.entries = append(a.entries, journal.Entry{Record: records[i], Seq: uint64(seq), Nonce: nonces[i], After: after})
		after = nonces[i]
	}
	return a, nil
}

// read returns the head, and up to journalPage entries from seq on; ok is false
// when there is no head.
func (j journalOn) read(ctx context.Context, from uint64) (head journal.Head, entries []journal.Entry, ok bool, err error) {
	ctx = j.node.With(ctx)
	pipe := j.node.Client().Pipeline()
	h := pipe.Get(ctx, j.bucket.head())
	page := pipe.XRangeN(ctx, j.bucket.journal(), strconv.FormatUint(max(from, 1), 10)+"-0", "+", journalPage)
	_, err = pipe.Exec(ctx)
	if redis.HasErrorPrefix(err, "WRONGTYPE") || redis.HasErrorPrefix(page.Err(), "WRONGTYPE") {
		return head, nil, true, journal.ErrForeign
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return head, nil, false, fmt.Errorf("reading the journal on node %q: %w", j.node.Name(), err)
	}
	if head, ok = journal.ParseHead(h.Val()); !ok {
		return head, nil, false, nil
	}
	for _, m := range page.Val() {
		e, err := journal.ParseEntry(m.ID, func(name string) string { s, _ := m.Values[name].(string); return s })
		if err != nil {
			return head, nil, true, err
		}
		entries = append(entries, e)
	}
	return head, entries, true, nil
}

// seeHead reads the head alone.
func (j journalOn) seeHead(ctx context.Context) (head journal.Head, ok bool, err error) {
	s, err := j.node.Client().Get(j.node.With(ctx), j.bucket.head()).Result()
	if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return head, false, err
	}
	head, ok = journal.ParseHead(s)
	return head, ok, nil // who reads on sees what lies there instead
}

// nonZeroHex returns 64 random bits in hexadecimal, never zero.
func nonZeroHex() string {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return fmt.Sprintf("%016x", n)
		}
	}
}

// probe does what the node will be asked to do: it writes and reads.
func (j journalOn) probe(ctx context.Context) error {
	ctx = j.node.With(ctx)
	pipe := j.node.Client().Pipeline()
	pipe.Set(ctx, j.bucket.probe(), "1", 10*time.Second)
	pipe.MGet(ctx, j.bucket.probe(), j.bucket.head()) // as lookups do
	_, err := pipe.Exec(ctx)
	return err
}

// reset gives up a journal that holds what is not ours. The next append makes
// a new one, and nothing that was stored under the old one is served again.
func (j journalOn) reset(ctx context.Context) error {
	return j.node.Client().Unlink(j.node.With(ctx), j.bucket.head(), j.bucket.journal()).Err()
}
