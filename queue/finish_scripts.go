package queue

// The scripts by which a delivery ends. Each begins by asking whose the entry
// is: a worker that was stopped for longer than the visibility must do nothing to
// what another one has by now. An entry that is pending to nobody (its group was
// made anew) may be ended by who had it: nobody else does. But it must be of the same
// message: where two servers have changed places, or a replica that lacked it has become
// master, another one may have its id.

// luaOwner defines owner(), which says whose an entry is: 1 ours, 0 another
// consumer's, 2 nobody's.
const luaOwner = `
local function owner(stream, group, me, id)
  local p = redis.pcall('XPENDING', stream, group, id, id, 1)
  if p.err then
    if string.find(p.err, 'NOGROUP', 1, true) then return 2 end
    error(p.err)
  end
  if #p == 0 then return 2 end
  if p[1][2] == me then return 1 end
  return 0
end
`

// luaOf defines of(), which says whether an entry, if any, is of the message with this
// id. One that has no id in it is taken to be.
const luaOf = `
local function of(found, name)
  if #found == 0 then return false end
  local e, is = found[1][2], name
  for i = 1, #e, 2 do
    if e[i] == 'i' then is = e[i+1] end -- of several the last, as who has read it says
  end
  return is == name
end
`

// luaOrder defines what has to do with order keys and with what is counted:
// advance() ends one message of an order key and makes ready as many of those
// that wait as may be in flight, in own where their lane is not known: all of a key
// have the same destination; decount() takes from a counter. A counter at zero is no
// field.
const luaOrder = luaLanes + `
local function decount(key, field, by)
  local n = addTo(key, field, -by)
  if n <= 0 then redis.call('HDEL', key, field) end
  return n
end

local function advance(order, orders, waiting, counts, perKey, lanes, own)
  local n = math.max(decount(orders, order, 1), 0)
  while n < perKey do
    local packed = redis.call('LPOP', waiting)
    if not packed then return end
    local e = unpacked(packed)
    if e then
      decount(counts, 'w', 1)
      local name = table.remove(e, 1)
      if not lanes.streams[name] then name = own end
      add(lanes, name, e)
      n = addTo(orders, order, 1)
    end
  end
end
`

// ackScript ends entries of one lane that are nothing but entries. Which are ours
// it asks once for all from the first to the last; only of those that this did
// not tell, one by one: a sixth of the node's time for a message.
//
//	KEYS[1]   stream
//	ARGV[1]   group
//	ARGV[2]   this consumer
//	ARGV[3]…  ids of entries, in their order
//
// It returns for each 1 if it is ended, 0 if another consumer has it, 2 if nobody has:
// then doneScript is to look at it.
var ackScript = newScript(luaOwner + `
local out, mine, ours = {}, {}, {}
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[#ARGV], 2 * #ARGV, ARGV[2])
if not pending.err then
  for _, p in ipairs(pending) do ours[p[1]] = 1 end
end
for i = 3, #ARGV do
  local o = ours[ARGV[i]] or owner(KEYS[1], ARGV[1], ARGV[2], ARGV[i])
  out[#out+1] = o
  if o == 1 then mine[#mine+1] = ARGV[i] end
end
if #mine > 0 then
  redis.pcall('XACK', KEYS[1], ARGV[1], unpack(mine))
  redis.call('XDEL', KEYS[1], unpack(mine))
end
return out
`)

// doneScript ends one message that has an order, a record, chunks, or another
// copy, or counts for bytes.
//
//	KEYS[1]  stream
//	KEYS[2]  record
//	KEYS[3]  counts
//	KEYS[4]  orders
//	KEYS[5]  list of what waits for the order key
//	KEYS[6]  tombstone
//	KEYS[7]  T:l
//	KEYS[8]… streams of the destination's lanes, this one first; then the chunks
//	ARGV[1]  group
//	ARGV[2]  this consumer
//	ARGV[3]  id of the entry
//	ARGV[4]  order hash, or empty
//	ARGV[5]  bytes that it counts for
//	ARGV[6]  how many of an order key may be in flight
//	ARGV[7]  for how many ms its record is kept with the result; 0: not at all
//	ARGV[8]  for how many ms a tombstone stands; 0: none
//	ARGV[9]  the message's id, as the entry has it
//	ARGV[10] 1: an entry that is ours may be of another message for all that
//	ARGV[11] number of lanes
//	ARGV[12]… names of the lanes, then names and values of the record
//
// It returns 1 if it is ended, 0 if another consumer has it, 2 if it was gone.
var doneScript = newScript(luaOwner + luaOf + luaOrder + `
local o = owner(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
if o == 0 then return 0 end
if (o == 2 or ARGV[10] == '1') and not of(redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]), ARGV[9]) then return 2 end
local lanes, n = lanesAt(7, 11)
redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[3])
if redis.call('XDEL', KEYS[1], ARGV[3]) == 0 then return 2 end
if ARGV[4] ~= '' then advance(ARGV[4], KEYS[4], KEYS[5], KEYS[3], tonumber(ARGV[6]), lanes, ARGV[12]) end
if ARGV[5] ~= '0' then decount(KEYS[3], 'b', ARGV[5]) end
if ARGV[7] ~= '0' then
  redis.call('HSET', KEYS[2], 's', 'done', unpack(ARGV, 12 + n))
  redis.call('HDEL', KEYS[2], 'q', 'x', 'e', 'r', 'd', 'z', 'n', 'o', 'c', '__data__')
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
elseif redis.call('HGET', KEYS[2], 's') ~= 'delayed' then -- that is of another entry with its id
  redis.call('UNLINK', KEYS[2])
end
if ARGV[8] ~= '0' then redis.call('SET', KEYS[6], '1', 'PX', ARGV[8]) end
for i = 8 + n, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
`)

// retryScript puts a message back for later, but no later than it expires: then it
// is a dead letter, and holds up nothing. A full node refuses it, and the message
// stays in flight, which is to become visible again.
//
//	KEYS[1]  stream
//	KEYS[2]  record
//	KEYS[3]  what is delayed
//	ARGV[1]  group
//	ARGV[2]  this consumer
//	ARGV[3]  id of the entry
//	ARGV[4]  record id
//	ARGV[5]  for how many ms it is kept
//	ARGV[6]  the message's id, as the entry has it
//	ARGV[7]… names and values of the record
//
// It returns 1 if it is put back, 0 if another consumer has it, 2 if it was gone, 3 if
// one of its name waits already: a message may be here twice that was put in without an
// answer. As one, they would end one turn of their order key, and have begun two.
var retryScript = newWriteScript(luaOwner + luaOf + luaNow + `
if owner(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) == 0 then return 0 end
if not of(redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]), ARGV[6]) then return 2 end
if redis.call('ZSCORE', KEYS[3], ARGV[4]) then return 3 end
redis.call('HSET', KEYS[2], 's', 'delayed', unpack(ARGV, 7))
redis.call('HDEL', KEYS[2], 'q', 'r', 'd', 'v')
local t = now()
local due = t + ARGV[5]
for i = 7, #ARGV, 2 do
  local expires = ARGV[i] == 'x' and tonumber(ARGV[i+1])
  if expires and expires > t then due = math.min(due, expires) end
end
redis.call('ZADD', KEYS[3], string.format('%.0f', due), ARGV[4])
redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
`)

// deadScript makes a message a dead letter. A full node refuses it.
//
//	KEYS[1]  stream
//	KEYS[2]  record
//	KEYS[3]  counts
//	KEYS[4]  orders
//	KEYS[5]  list of what waits for the order key
//	KEYS[6]  dead letters
//	KEYS[7]  T:l
//	KEYS[8]… streams of the destination's lanes, this one first
//	ARGV[1]  group
//	ARGV[2]  this consumer
//	ARGV[3]  id of the entry
//	ARGV[4]  order hash, or empty
//	ARGV[5]  bytes that it counts for
//	ARGV[6]  how many of an order key may be in flight
//	ARGV[7]  record id
//	ARGV[8]  the message's id, as the entry has it
//	ARGV[9]  number of lanes
//	ARGV[10]… names of the lanes, then names and values of the record
//
// It returns 1 if it is ended, 0 if another consumer has it, 2 if it was gone.
var deadScript = newWriteScript(luaOwner + luaOf + luaOrder + luaNow + `
if owner(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) == 0 then return 0 end
if not of(redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]), ARGV[8]) then return 2 end
local lanes, n = lanesAt(7, 9)
redis.call('HSET', KEYS[2], 's', 'dead', unpack(ARGV, 10 + n))
redis.call('HDEL', KEYS[2], 'q', 'd', 'v', 'f')
redis.call('ZADD', KEYS[6], string.format('%.0f', now()), ARGV[7])
redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then advance(ARGV[4], KEYS[4], KEYS[5], KEYS[3], tonumber(ARGV[6]), lanes, ARGV[10]) end
if ARGV[5] ~= '0' then decount(KEYS[3], 'b', ARGV[5]) end
return 1
`)

// releaseScript gives entries of one lane back, to nobody.
//
//	KEYS[1]   stream
//	ARGV[1]   group
//	ARGV[2]   this consumer
//	ARGV[3]   the consumer that stands for nobody
//	ARGV[4]   for how many ms they count as having been idle
//	ARGV[5]   how many deliveries to take off what is counted
//	ARGV[6]…  ids of entries
//
// It returns for each 1 if it is given back, 0 if it is not ours.
var releaseScript = newScript(`
local out = {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  out[#out+1] = 0
  if #p > 0 and p[1][2] == ARGV[2] then
    local count = math.max(p[1][4] - ARGV[5], 0)
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'IDLE', ARGV[4], 'RETRYCOUNT', count, 'JUSTID')
    out[#out] = 1
  end
end
return out
`)

// renewScript hides entries of one lane for another visibility.
//
//	KEYS[1]   stream
//	ARGV[1]   group
//	ARGV[2]   this consumer
//	ARGV[3]…  ids of entries
//
// It returns for each 1 if it is hidden, 0 if another consumer has it, 2 if nobody has.
var renewScript = newScript(luaOwner + `
local out, mine = {}, {}
for i = 3, #ARGV do
  local o = owner(KEYS[1], ARGV[1], ARGV[2], ARGV[i])
  out[#out+1] = o
  if o == 1 then mine[#mine+1] = ARGV[i] end
end
if #mine > 0 then
  mine[#mine+1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(mine))
end
return out
`)
