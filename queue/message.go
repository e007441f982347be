package queue

import (
	"io"
	"time"
)

// A Message is what is put into a queue.
type Message struct {
	// ID is the message's name, the same in each delivery. Empty: a new ULID. A
	// message with an ID that is still in the queue, or whose result is still kept,
	// is not put in again.
	ID string
	// Header is kept with the body: names, lower case for those that
	// FastStream knows (content-type, reply_to), and values, both UTF-8.
	// correlation_id and message_id are set to the ID where they are missing.
	Header map[string]string
	// Body is the payload. One longer than Options.InlineBody lies in chunks. It is
	// the caller's again when Enqueue has returned.
	Body []byte
	// Reader is the payload instead of Body where it is not in memory. It is read
	// once, to its end, before the message is in.
	Reader io.Reader

	// Class is its priority, one of the queue's classes; another one counts as "".
	Class string
	// OrderKey: of messages with the same key, no more than Options.PerKey are in
	// flight at once, in the order in which they came. They lie on one partition, so
	// that DedupKey and ID are compared with those of the same OrderKey. Empty: no order.
	OrderKey string
	// DedupKey: a message with a key that was used within DedupWindow is not put in
	// again. Empty: no dedup.
	DedupKey    string
	DedupWindow time.Duration
	// Delay is how long it is kept before it is ready. 0: none.
	Delay time.Duration
	// Expire is for how long, from now, it may be delivered; then it becomes a dead
	// letter. 0: for ever.
	Expire time.Duration
	// Track keeps the message's state where it can be asked for (Find) without
	// looking through the queue, and its result for Options.KeepResult after it is done.
	Track bool
}

// A Receipt says what became of an Enqueue.
type Receipt struct {
	// ID is the message's id: of the earlier one where Replayed.
	ID string
	// Node is the name of the node that took it.
	Node string
	// FailedOver is the name of the node that was to have it and did not take it, if
	// there was one: the first, where there were several.
	FailedOver string
	// Replayed: a message with the same DedupKey, or ID, was there already.
	Replayed bool
	// Err is why it was not accepted: ErrBacklog, ErrMismatch, ErrTooLarge,
	// ErrDurability, ErrNoNode, ErrMessage, all by errors.Is; or the error of
	// Message.Reader; or that of the context, which may have ended when the message
	// was on its way, so that it is in or not.
	Err error
}

// A Delivery is a message that was handed out.
type Delivery struct {
	ID     string
	Header map[string]string
	// Body is the payload, or nil where it lies in chunks: Open has it in either case.
	Body []byte
	// Size is the payload's length in bytes.
	Size int64
	// Attempt is the number of this handing-out, from 1. It counts those that ended
	// by a crash as well.
	Attempt int
	// Unheard: nothing was heard of the attempt before. Its worker died or could not
	// tell, and the message may have been delivered.
	Unheard     bool
	Class       string
	Destination string
	// AcceptedAt is when the message was put in, by this process's clock as far
	// as it can be known: the node's age of the message is subtracted from now.
	AcceptedAt time.Time
	LastError  string
	LastStatus int
	// Node is the name of the node that it lies on.
	Node string

	open func() io.ReadCloser // the chunks
}

// An Outcome is what came of a delivery.
type Outcome uint8

const (
	// Retry: it failed and may succeed later. It is tried again unless its
	// attempts are used up. The zero value, so that a forgotten result loses nothing.
	Retry Outcome = iota
	// Done: it was delivered.
	Done
	// Dead: it will not succeed, whatever is tried.
	Dead
	// Release: it was not tried (the worker stops, a destination rests). It is
	// ready again at once, or after Result.After, and no attempt is counted. With
	// Result.After, Status and Reason are kept, also where the worker stops.
	Release
)

// A Result is what a worker's function says of a delivery.
type Result struct {
	Outcome Outcome
	// After is the least time until the next attempt (Retry-After).
	After time.Duration
	// Status is a number that says how it went (HTTP's, usually); 0: none.
	Status int
	// Reason says why it failed, for people.
	Reason string
	// Response is published to whoever waits for it (reply_to), and kept for
	// tracked messages. Nil: none.
	Response *Response
}

// A Response is what a delivery was answered with.
type Response struct {
	Header map[string]string
	Body   []byte
}
