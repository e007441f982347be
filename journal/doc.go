// Package journal keeps what was invalidated, and judges stored responses by
// it. It is what makes an invalidation impossible to undo: not by a node that
// was away and comes back full of dead responses, not by a message that got
// lost, not by a fill that was under way.
//
// # The idea
//
// Every node carries a journal: a short list of records, each of which says
// "what was fetched before this and is selected by that is dead". Each stored
// response carries the [Stamp] of the journal of the node that it lies on,
// taken before the request to the origin was sent. A process knows each
// journal up to a position that it has proved to be the head a moment ago.
//
// Invariant: a stored response is served only if its stamp covers every
// invalidation that this process knows of and every one in the journal of the
// node that it lies on, and this process has proved within [Lease] that it has
// read every journal that it relies on to its head.
//
// # The parts
//
//	target.go    Target: the URL, tag, prefix, host or all that selects
//	hostname.go  what clients call a host
//	message.go   the published message, text or JSON, to targets
//	head.go      Head, Stamp and Record: what lies on a node
//	wire.go      how records lie in a journal, and are told of
//	book.go      Book: all views, and what this process has learnt, in order
//	view.go      View: one node's journal as this process knows it
//	advance.go   how it gets on, by what was read and what was told
//	owed.go      what this process knows and a journal lacks
//	vouch.go     what a journal has had although another has lost it
//	ear.go       Ear: one name for a message in all processes that hear it
//	lease.go     until when the near cache may be believed
//
// A Book knows a million targets in 64 MB. What it is made of:
//
//	table.go        target → row, and the last learn number of each row
//	column.go       one number for each row: the last seq in one node's journal
//	recordlog.go    the last records, as few bytes, to be relayed
//	numberset.go    which of them a journal lacks
//	index.go        finds rows and records by their hash
//	bounds.go       how many there may be
//
// A Book does no I/O and starts nothing: its caller reads journals, appends
// records and tells it. It is safe for concurrent use.
package journal
