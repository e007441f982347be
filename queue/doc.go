// Package queue keeps messages on a pool of Redis servers until they are done
// or dead letters.
//
// A Client puts messages in and looks after them; a Worker hands them to a
// function, again and again until it says done. Each queue lies on all nodes in
// parts that know nothing of each other (a Partition: one on an independent
// server, several on a Redis Cluster): a message is in one of them, workers read
// all. What a partition does with its messages is atomic, by a script.
//
//	          Enqueue
//	             │
//	not before   │   now
//	   ┌─────────┴─────────┐
//	   ▼                   ▼     XREADGROUP, XAUTOCLAIM     Done
//	delayed ───────────► ready ─────────► in flight ─────────────► (done)
//	   ▲       due         ▲                │  │  │
//	   │                   └────────────────┘  │  │ Dead, attempts used up, expired
//	   │        Release, visibility is over    │  ▼
//	   └───────────────────────────────────────┘ dead letter ──► ready (Replay)
//	                   Retry
//
// An ordered message waits while as many of its key are ahead of it as may be
// in flight at once; waiting counts as ready.
//
// # What must always hold
//
//	Q1  What Enqueue has accepted is done or a dead letter in the end, or waits. Never neither.
//	Q2  What it refused is not delivered, unless nobody can know (a lost reply).
//	Q3  Header and body arrive byte for byte.
//	Q4  After a drain no key is left, but those with a time to live: dedup keys, kept results,
//	    and what says that a partition has not lost its data.
//	Q5  A message is delivered twice only where a process or node died, or was taken for
//	    dead, between doing and recording; each delivery carries the same id.
//	Q6  A node that is down, slow or full slows nobody else.
//
// # What lies on a partition
//
// T is the tag, {<namespace>:q:<queue>:<partition>}; all keys of a partition
// begin with it, so that they share a slot in a Redis Cluster. A lane is a stream
// of its own: for each destination and class of priority. Its name is
// <destination>/<class>, and empty for the plain one, which has neither.
//
//	T:s, T:<lane>:s   stream, group "fluster": what is ready (XLEN − pending) or in flight (pending)
//	T:d               sorted set: record id → due, in milliseconds of the node's clock: what is delayed
//	T:x               sorted set: record id → when it died, in ms: the dead letters
//	T:m:<record id>   hash, a record: see below
//	T:o               hash: order hash → how many of that key are ready, delayed or in flight
//	T:o:<order hash>  list of packed entries that wait for their turn (MessagePack: lane, then names and values as in the stream)
//	T:k:<hash>        string, PX: dedup: "<id> <digest of the body>", "+" behind it: promised
//	T:b:<record id>:<n>  a chunk of a body; has a time to live until the message is in, and a
//	                     name that no other message has until then, even if the client chose its id
//	T:y               sorted set: record id → overdue, in ms: second copies of messages on other nodes
//	T:y:<record id>   hash, a record: a second copy; state dead, if it is of a dead letter
//	T:n:<record id>   string, PX: done here, while the second copy elsewhere may not know
//	T:c               hash: w (how many wait in lists), b (bytes, where a limit on bytes is kept)
//	T:l               hash: lane → since when no process has its destination, ms of the node's clock; 0: one
//	                  has. A lane that has a stream is in it, whatever the options say (see lanes.go)
//	T:p               string: there while the queue is paused
//	T:g               hash: the token bucket of the queue's rate (on one node at a time)
//	T:i               string, PX: the incarnation, which goes when the data is lost; with two copies
//
// Fields of a stream's entry, and of a record:
//
//	i  the message's id
//	a  attempts that have ended, without those that XPENDING counts on top; absent: 0
//	t  when it was accepted, ms of the node's clock; absent: the entry's own time
//	x  when it expires, ms of the node's clock; absent: never
//	e  last error, at most 256 bytes
//	l  last status
//	o  order hash; absent: no order
//	z  bytes that it counts for in T:c; absent: none
//	n  bytes of its body, which lies in chunks of 256 KiB; absent: the body is in the frame
//	d  not before, ms of the node's clock: of what had to wait for its turn first
//	f  why it is to be a dead letter, which could not be told yet; it is delivered no more
//	k  "1": tracked, that is, a record T:m:<record id> is kept as long as the message (and its result);
//	   so it is where there is a second copy, but for the result
//	c  the partition that has the second copy, <name of the node>/<number>, "?" behind it: another one may have one
//	   too; in a second copy: that has the first
//	p  "1", of a second copy: promised, that is, whoever wrote it may not take it back;
//	   of a record: likewise, whoever put the message in, hidden
//	__data__  the frame, last
//
// and of a record besides:
//
//	s  state: ready (also while in flight), delayed, dead, done
//	g  lane
//	q  id of the entry in the stream, where it is there (state ready)
//	r  why it is a dead letter
//	u  digest of the body, for the same id again
//	v  the response (a frame), where results are kept
//
// A record id is the message's id; with a destination, <id>~<destination>, so
// that deliveries of one message to several destinations are independent.
// A message whose id the client chose, and one whose state somebody may ask for,
// is tracked. A record is kept of it, and of one with a second copy, all the time;
// any other message is a stream entry and nothing else, as long as it is ready or
// in flight.
//
// # Rules
//
//   - Clocks of two machines are never compared: what is due is judged by the
//     node's TIME in a script; process clocks only measure how long something took.
//   - Re-add before ack, in one script. What would need memory on a full node
//     (a retry, a dead letter) fails, the message stays in flight and becomes visible
//     again; reading, acking and moving what is due are allow-oom.
//   - Who acks, retries, renews must own the entry: XPENDING names this consumer,
//     whose name no other worker ever has, on no other partition either, and the worker knows
//     what it holds. An entry that is pending to nobody (the group was made anew) may be acked,
//     if it is of the same message: another server may be here by now, with another message under
//     its id. One that another consumer has may not.
//   - Whatever makes a stream notes its lane in the same step; a plain XADD has NOMKSTREAM.
//     A message never changes its destination, and its class only where it waited for its
//     order key until nobody knew that class any more.
//   - What was taken and not tried is given back to the consumer "-", with one
//     delivery less and idle beyond the visibility: ready for whoever claims next.
//   - A timeout after sending is unknown: the message goes to another node under the same id.
//   - The group is made at 0, with the stream, and again whenever a command says NOGROUP.
//     DELCONSUMER only for a consumer with nothing pending. The last worker that leaves
//     takes empty streams with it.
//   - No command is newer than Redis 6.2 (but WAITAOF, where it is asked for). XACKDEL leaves what
//     is pending to nobody, and was not faster than XACK and XDEL in one script;
//     XREADGROUP with CLAIM has new entries in its reply as well, beside the weights
//     of the lanes, and leaves entries pending that were deleted; XNACK is too new to be relied on.
//   - The turns of order keys are counted anew where somebody has deleted entries (see turns.go).
//   - A script that is unknown (SCRIPT FLUSH, another master) is loaded again.
//
// What this package is not: it knows no HTTP and no Caddy, logs nothing, and has
// no goroutine that outlives a call; Worker.Run starts some and waits for them.
package queue
