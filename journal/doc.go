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
//	target.go   Target: the URL, tag, prefix, host or all that selects
//	message.go  the published message, text or JSON, to targets
//	head.go     Head, Stamp and Record: what lies on a node
//	marks.go    a bounded table: target → the last number that it was seen at
//	view.go     View: one node's journal as this process knows it
//	book.go     Book: all views, and what this process has learnt, in order
//	owed.go     what this process knows and a journal lacks
//	ear.go      Ear: one name for a message in all processes that hear it
//	lease.go    until when the near cache may be believed
//
// A Book does no I/O and starts nothing: its caller reads journals, appends
// records and tells it. It is safe for concurrent use.
package journal
