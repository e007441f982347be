package queue

import (
	"bytes"
	"context"
	"io"
	"time"
)

// This file is the interface as it was agreed on; its parts move to the files
// that implement them.

// A Client puts messages into a queue and looks after it. It is safe for
// concurrent use.
type Client struct{}

// NewClient returns a client. Nothing is sent before it is used.
func NewClient(o Options) (*Client, error) { panic("agreed, not built") }

// Options returns the client's options with their defaults filled in.
func (c *Client) Options() Options { panic("agreed, not built") }

// Check asks the nodes that can be reached whether they can give the durability
// of Options.Ack; nodes that cannot be reached are left out.
func (c *Client) Check(ctx context.Context) error { panic("agreed, not built") }

// Enqueue puts a message in. It returns within a second, whatever the nodes do
// (plus the time to read Message.Reader).
func (c *Client) Enqueue(ctx context.Context, m *Message) (Receipt, error) {
	panic("agreed, not built")
}

// EnqueueBatch puts messages in, in one round trip a node; receipt i is of
// message i. The error is the first of the receipts'.
func (c *Client) EnqueueBatch(ctx context.Context, ms []*Message) ([]Receipt, error) {
	panic("agreed, not built")
}

// RetryAfter is an estimate of when a refused message may be taken: from the
// drain rate for ErrBacklog, else when a node may be back. At least 1 s, at most 60 s.
func (c *Client) RetryAfter(err error) time.Duration { panic("agreed, not built") }

// A Count is how many messages a partition has.
type Count struct {
	Node      string
	Partition int
	Ready     int64
	InFlight  int64
	Delayed   int64
	Dead      int64
	Oldest    time.Duration // age of the oldest message that is ready; 0: none
	Err       error         // why the node does not tell
}

// Counts asks each partition how many messages it has. Partitions that cannot
// tell have Err set.
func (c *Client) Counts(ctx context.Context) []Count { panic("agreed, not built") }

// An Info is what is known of a message.
type Info struct {
	ID          string
	Destination string
	Class       string
	State       string // ready, in_flight, delayed, done, dead
	Node        string
	Attempts    int
	LastStatus  int
	LastError   string
	Reason      string // why it is a dead letter
	AcceptedAt  time.Time
	DiedAt      time.Time // zero unless dead
	DueAt       time.Time // zero unless delayed
	Header      map[string]string
	Body        []byte // as much as lies in the message itself
	Size        int64
	Response    *Response // of a done one, while it is kept
}

// Find returns what is known of a message, one Info for each destination that
// knows it, or ErrNotFound. A message that is not tracked is looked for in the
// whole queue.
func (c *Client) Find(ctx context.Context, id string) ([]Info, error) { panic("agreed, not built") }

// FindTracked is Find for tracked messages alone, without a search.
func (c *Client) FindTracked(ctx context.Context, id string) ([]Info, error) {
	panic("agreed, not built")
}

// Peek returns up to n messages that are ready or in flight, the oldest first.
func (c *Client) Peek(ctx context.Context, n int) ([]Info, error) { panic("agreed, not built") }

// Dead returns up to limit dead letters after a cursor ("" at first), the oldest
// first, and the next cursor, which is "" at the end.
func (c *Client) Dead(ctx context.Context, limit int, after string) ([]Info, string, error) {
	panic("agreed, not built")
}

// Open returns the body of a dead letter or other message that Find or Dead returned.
func (c *Client) Open(ctx context.Context, i Info) io.ReadCloser { panic("agreed, not built") }

// Replay makes dead letters ready again, under their ids, with all attempts
// before them; with no ids, all. It returns how many; progress (may be nil) is told on the way.
func (c *Client) Replay(ctx context.Context, ids []string, progress func(done int)) (int, error) {
	panic("agreed, not built")
}

// Drop deletes dead letters; with no ids, all.
func (c *Client) Drop(ctx context.Context, ids []string, progress func(done int)) (int, error) {
	panic("agreed, not built")
}

// SetPaused stops workers everywhere from taking messages, or lets them go on.
func (c *Client) SetPaused(ctx context.Context, paused bool) error { panic("agreed, not built") }

// Paused reports whether some partition that tells is paused.
func (c *Client) Paused(ctx context.Context) (bool, error) { panic("agreed, not built") }

// Await subscribes to responses that come back for messages of this process:
// ReplyTo is what to put into a message's reply_to. Run receives until ctx ends.
type Replies struct{}

// NewReplies returns the place where responses to this process's messages arrive.
func NewReplies(c *Client) *Replies { panic("agreed, not built") }

// ReplyTo is the channel to name in a message's header reply_to.
func (r *Replies) ReplyTo() string { panic("agreed, not built") }

// Run receives on all nodes until ctx ends.
func (r *Replies) Run(ctx context.Context) { panic("agreed, not built") }

// Expect returns a channel on which the response to the message with this id
// comes, once, if it comes; forget ends that.
func (r *Replies) Expect(id string) (response <-chan *Response, forget func()) {
	panic("agreed, not built")
}

// WorkerOptions say how messages are delivered.
type WorkerOptions struct {
	// Destination is whose messages are taken; "" is the plain one.
	Destination string
	// Attempts is how many times a message is tried before it is a dead letter.
	// Default: 10.
	Attempts int
	// BackoffFirst and BackoffLongest: the n-th retry waits a random time between 0
	// and first·2^(n−1), at most longest. Defaults: 1 s, 1 h.
	BackoffFirst, BackoffLongest time.Duration
	// Concurrency is how many deliveries may be under way in this process. Default: 16.
	Concurrency int
	// Rate bounds the deliveries a second of all workers everywhere. 0: unbounded.
	Rate float64
	// BreakerFailures in a row make the destination rest for BreakerRest; rest costs
	// no attempt. 0: no breaker.
	BreakerFailures int
	BreakerRest     time.Duration
	// Bury, if set, is called before a message is made a dead letter, for whatever
	// reason. An error: not now.
	Bury func(ctx context.Context, d *Delivery, r Result) error
	// Observe is told of what happens; nil: nobody. It must not block.
	Observe Observer
}

// An Observer is told what happens to messages.
type Observer interface {
	// Ended: a delivery ended and was recorded so.
	Ended(d *Delivery, r Result, took time.Duration, state string) // state: done, delayed, dead, ready
	// Lost: another worker has the message; what was done may be done twice.
	Lost(d *Delivery)
	// Trouble: something failed at a node, which is tried again.
	Trouble(node, doing string, err error)
}

// A Worker takes messages from all partitions and hands them to a function.
type Worker struct{}

// NewWorker returns a worker. deliver is called from many goroutines at once; its
// context ends when the message was lost to another worker, or when the worker
// was told to stop and its patience is over. A panic in it counts as Retry.
func NewWorker(c *Client, o WorkerOptions, deliver func(ctx context.Context, d *Delivery) Result) (*Worker, error) {
	panic("agreed, not built")
}

// Run takes and delivers messages until ctx ends or Drain is called; then it
// takes no more, waits for what is under way, hands back what was taken and not
// begun, and returns.
func (w *Worker) Run(ctx context.Context) error { panic("agreed, not built") }

// Drain makes Run take no more; what is under way ends in its own time, until
// the deadline of patience: then its contexts end, and what did not end well by itself
// is handed back. It waits for Run to return.
func (w *Worker) Drain(patience context.Context) error { panic("agreed, not built") }

// InFlight returns how many deliveries are under way.
func (w *Worker) InFlight() int { panic("agreed, not built") }

// Resting reports whether the breaker is open, and until when.
func (w *Worker) Resting() (until time.Time, is bool) { panic("agreed, not built") }

// Open returns the body.
func (d *Delivery) Open() io.ReadCloser {
	if d.open == nil {
		return io.NopCloser(bytes.NewReader(d.Body))
	}
	return d.open()
}
