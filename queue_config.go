package fluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// Queue is a handler that keeps requests on the nodes of a pool, answers 202,
// and lets the routes of its deliver blocks have them in the background, again
// and again until they are done or dead letters. Requests that are not for the
// queue go on to the next handler.
//
// A queue may have several handlers, in other sites too. One of them has the
// options; the others have none, only the name, and accept into the same queue.
//
// Placeholder | Description
// ------------|------------
// `{http.fluster.message_id}` | the id of the message, when the handler is done
// `{http.fluster.item.<name>}` | in the options: the member of that name of an item of a batch
type Queue struct {
	// The queue's name: letters, digits, - _ and dots, at most 64.
	Name string `json:"name"`

	// The methods that are queued. Default: POST PUT PATCH DELETE.
	Methods []string `json:"methods,omitempty"`

	// Which requests are queued: always, or prefer for those alone that say
	// `Prefer: respond-async` (RFC 7240). Default: always.
	When string `json:"when,omitempty"`

	// The longest body that is accepted; beyond it the answer is 413. Default: 1MiB.
	MaxBody Size `json:"max_body,omitzero"`

	// The longest body that lies in the message itself. Longer ones lie in chunks
	// beside it, of which a delivery has one at a time in memory. Default: 64KiB.
	InlineBody Size `json:"inline_body,omitzero"`

	// Header fields that are kept; or, with a - before each, that are not. A * at
	// the end stands for any ending. Default: all end-to-end fields are kept.
	Headers []string `json:"headers,omitempty"`

	// The message's id, with placeholders: at most 128 visible ASCII characters, none
	// of { } : ~. Where it is empty, and by default, a new one that sorts by time.
	ID string `json:"id,omitempty"`

	// Requests with the same key are one message.
	Dedup *QueueDedup `json:"dedup,omitempty"`

	// Messages for which this text, with placeholders, is the same are delivered in
	// the order in which they came. Where it is empty there is no order. Default: no order.
	OrderBy string `json:"order_by,omitempty"`

	// Which messages are delivered first.
	Priority *QueuePriority `json:"priority,omitempty"`

	// How long a message is kept before it is delivered, and for how long it may
	// be; what is not delivered by then is a dead letter. Durations, also by
	// placeholders. Default: not at all; for ever.
	Delay  string `json:"delay,omitempty"`
	Expire string `json:"expire,omitempty"`

	// What a client may say by header fields: delay (Fluster-Delay) and expire
	// (Fluster-Expire): a duration, or a date. Default: nothing.
	AllowClient []string `json:"allow_client,omitempty"`

	// How long the queue may become; beyond it the answer is 429. Default: as
	// long as there is memory on the nodes.
	Backlog *QueueBacklog `json:"backlog,omitempty"`

	// What must be true of a message before the answer is 202. Default: that a
	// node has it in memory.
	Ack *QueueAck `json:"ack,omitempty"`

	// Where clients may ask what became of their messages. Default: nowhere.
	Status *QueueStatus `json:"status,omitempty"`

	// On how many nodes a message lies, 1 or 2. Default: 1.
	Copies int `json:"copies,omitempty"`

	// The longest that a client may wait for the upstream's own answer, by
	// `Prefer: wait=<seconds>`. Default: the answer is 202 at once.
	Wait caddy.Duration `json:"wait,omitempty"`

	// How long a delivery hides its message from others; it is renewed while the
	// delivery runs. So long it takes until another Caddy delivers what a dead one
	// had in hand. Default: 30s.
	Visibility caddy.Duration `json:"visibility,omitempty"`

	// How many messages with the same order_by are delivered at a time. Default: 1.
	PerKey int `json:"per_key,omitempty"`

	// Into how many messages at most a body that is a JSON array or lines of JSON
	// (NDJSON) is split. Default: such a body is a message like any other.
	Batch int `json:"batch,omitempty"`

	// How many dead letters are kept. Default: all.
	DeadLetters *QueueDeadLetters `json:"dead_letters,omitempty"`

	// The pool of nodes by its name. Default: the one without a name.
	Pool string `json:"pool,omitempty"`

	// How messages lie on a node; stream is all there is. Default: stream.
	Transport string `json:"transport,omitempty"`

	QueueDelivery

	rules   queueRules
	options queue.Options // without partitions
	bare    bool          // nothing but the name was given
	live    *liveQueue
	logger  *zap.Logger
}

// QueueDedup says which requests are one message.
type QueueDedup struct {
	// What must be the same, with placeholders. Where it is empty, each request is a
	// message of its own.
	Key string `json:"key"`
	// For how long a key is remembered. Default: 10m.
	Window caddy.Duration `json:"window,omitempty"`
}

// QueuePriority says which messages are delivered first.
type QueuePriority struct {
	// The name of the message's class, with placeholders.
	From string `json:"from"`
	// The classes, the highest first. A message of none of them has weight 1.
	Classes []QueueClass `json:"classes"`
}

// QueueClass is a priority.
type QueueClass struct {
	Name string `json:"name"`
	// One class with weight 3 gets three times the deliveries of one with weight 1,
	// while both have messages.
	Weight int `json:"weight"`
}

// QueueBacklog is how long a queue may become, over all its nodes.
type QueueBacklog struct {
	Messages int64          `json:"messages,omitempty"`
	Bytes    Size           `json:"bytes,omitzero"`
	Age      caddy.Duration `json:"age,omitempty"` // of the oldest message that could be delivered
}

// QueueAck is what must be true of a message before the answer is 202. Where it is
// not reached the answer is 503, and the message is not delivered.
type QueueAck struct {
	// It is on the node's disk: by WAITAOF (Redis 7.2), or because the server has
	// appendfsync always.
	AOF bool `json:"aof,omitempty"`
	// So many replicas of the node have it.
	Replicas int `json:"replicas,omitempty"`
}

// QueueStatus says where clients may ask what became of their messages.
type QueueStatus struct {
	// Below this path is one resource a message.
	Path string `json:"path"`
	// How long the result is kept. Default: 1h.
	Keep caddy.Duration `json:"keep,omitempty"`
}

// QueueDeadLetters bounds what is kept of dead letters, on each partition. The
// oldest go first.
type QueueDeadLetters struct {
	Count int            `json:"count,omitempty"`
	Age   caddy.Duration `json:"age,omitempty"`
}

// Defaults and bounds of Queue.
const (
	defaultQueueBody   = 1 << 20
	maxQueueBody       = 1 << 30
	defaultInlineBody  = 64 << 10
	maxInlineBody      = 1 << 20
	defaultDedupWindow = 10 * time.Minute
	defaultWait        = 30 * time.Second
	maxWait            = 5 * time.Minute
	minVisibility      = time.Second
	defaultBatch       = 1000
	maxBatch           = 10000
	maxQueueName       = 64
	// maxAhead bounds delays, expiries and what is remembered.
	maxAhead = 366 * 24 * time.Hour
)

// CaddyModule returns the module's information.
func (Queue) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.fluster_queue", New: func() caddy.Module { return new(Queue) }}
}

// Provision checks the options and finds the queue. Nothing is sent to a node.
func (h *Queue) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.bare = h.isBare()
	if !isQueueName(h.Name) {
		return fmt.Errorf("the queue's name must be made of letters, digits, - _ and dots, at most %d, not %q", maxQueueName, h.Name)
	}
	if err := h.provision(ctx); err != nil {
		return fmt.Errorf("queue %s: %w", h.Name, err)
	}
	return nil
}

func (h *Queue) provision(ctx caddy.Context) error {
	if err := errors.Join(h.check(), h.checkTogether()); err != nil {
		return err
	}
	if err := h.provisionRules(); err != nil {
		return err
	}
	app, err := ctx.App("fluster")
	if err != nil {
		return err
	}
	if err := h.checkPool(app.(*App)); err != nil {
		return err
	}
	h.setOptions()
	h.live, err = app.(*App).joinQueue(ctx, h)
	return err
}

// isBare reports whether nothing but the name was given. It is asked before
// anything is filled in.
func (h *Queue) isBare() bool {
	given, err1 := json.Marshal(h)
	name, err2 := json.Marshal(&Queue{Name: h.Name})
	return err1 == nil && err2 == nil && string(given) == string(name)
}

// setOptions turns the options into those of the queue package. Zeroes are its defaults.
func (h *Queue) setOptions() {
	o := &h.options
	*o = queue.Options{Name: h.Name, InlineBody: h.rules.inlineBody, MaxBody: h.rules.maxBody, PerKey: h.PerKey,
		Copies: h.Copies, Visibility: time.Duration(h.Visibility), Destinations: h.destinationNames()}
	if h.Priority != nil {
		for _, c := range h.Priority.Classes {
			o.Classes = append(o.Classes, queue.Class{Name: c.Name, Weight: c.Weight})
		}
	}
	if b := h.Backlog; b != nil {
		o.Backlog = queue.Backlog{Messages: b.Messages, Bytes: int64(b.Bytes.Bytes), Age: time.Duration(b.Age)}
	}
	if h.Ack != nil {
		o.Ack = queue.Ack{AOF: h.Ack.AOF, Replicas: h.Ack.Replicas}
	}
	if h.Status != nil {
		o.KeepResult = time.Duration(h.Status.Keep)
	}
	if d := h.DeadLetters; d != nil {
		o.DeadLetters, o.DeadLetterAge = d.Count, time.Duration(d.Age)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Queue)(nil)
	_ caddyhttp.MiddlewareHandler = (*Queue)(nil)
)
