package fluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// isQueueName reports whether s may be the name of a queue: it is a part of keys.
func isQueueName(s string) bool {
	return len(s) <= maxQueueName && isQueueWord(strings.ReplaceAll(s, ".", "-"))
}

// check checks what needs neither placeholders nor other modules.
func (h *Queue) check() error {
	switch {
	case h.When != "" && h.When != "always" && h.When != "prefer":
		return fmt.Errorf("when must be always or prefer, not %q", h.When)
	case h.Transport != "" && h.Transport != "stream":
		return errTransport(h.Transport)
	case h.MaxBody.Off || h.MaxBody.Set && h.MaxBody.Bytes == 0 || h.MaxBody.Bytes > maxQueueBody:
		return errors.New("max_body must be from 1 to 1GiB")
	case h.InlineBody.Off || h.InlineBody.Set && h.InlineBody.Bytes == 0 || h.InlineBody.Bytes > maxInlineBody:
		return errors.New("inline_body must be from 1 to 1MiB")
	case h.Dedup != nil && (h.Dedup.Key == "" || h.Dedup.Window < 0 || h.Dedup.Window > caddy.Duration(maxAhead)):
		return errors.New("dedup takes a key, and a window of at most 366d")
	case h.Copies < 0 || h.Copies > 2:
		return fmt.Errorf("copies must be 1 or 2, not %d", h.Copies)
	case h.Wait < 0 || h.Wait > caddy.Duration(maxWait):
		return fmt.Errorf("wait must be at most %s, not %s", maxWait, time.Duration(h.Wait))
	case h.Visibility != 0 && h.Visibility < caddy.Duration(minVisibility):
		return fmt.Errorf("visibility must be at least %s, not %s", minVisibility, time.Duration(h.Visibility))
	case h.PerKey < 0:
		return fmt.Errorf("per_key must be at least 1, not %d", h.PerKey)
	case h.Batch < 0 || h.Batch > maxBatch:
		return fmt.Errorf("batch must be from 1 to %d, not %d", maxBatch, h.Batch)
	case h.Batch > 0 && h.MaxBody.Bytes > maxBatchBody:
		return errors.New("max_body must be at most 64MiB with batch: the whole body is in memory while it is split")
	}
	return errors.Join(h.Priority.check(), h.Backlog.check(), h.Ack.check(), h.Status.check(), h.DeadLetters.check())
}

func errTransport(word string) error {
	return fmt.Errorf("transport: %q is not supported yet; stream is, and is the default", word)
}

func (p *QueuePriority) check() error {
	if p == nil {
		return nil
	}
	if p.From == "" || len(p.Classes) == 0 {
		return errors.New("priority takes a text with placeholders, and classes like high=3")
	}
	seen := map[string]bool{}
	for _, c := range p.Classes {
		switch {
		case !isQueueWord(c.Name) || len(c.Name) > maxQueueName:
			return fmt.Errorf("priority: the class %q must be made of letters, digits, - and _", c.Name)
		case c.Weight < 1 || c.Weight > 1000:
			return fmt.Errorf("priority: the weight of %s must be from 1 to 1000, not %d", c.Name, c.Weight)
		case seen[c.Name]:
			return fmt.Errorf("priority: the class %q stands twice", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

func (b *QueueBacklog) check() error {
	if b == nil {
		return nil
	}
	if b.Messages < 0 || b.Age < 0 || b.Bytes.Off || b.Bytes.Bytes > 1<<62 {
		return errors.New("backlog: messages, bytes and age must be positive")
	}
	if b.Messages == 0 && b.Bytes.Bytes == 0 && b.Age == 0 {
		return errors.New("backlog takes at least one of messages, bytes and age")
	}
	return nil
}

func (a *QueueAck) check() error {
	if a != nil && a.Replicas < 0 {
		return fmt.Errorf("ack: replicas must be at least 1, not %d", a.Replicas)
	}
	return nil
}

func (s *QueueStatus) check() error {
	if s == nil {
		return nil
	}
	if !strings.HasPrefix(s.Path, "/") || strings.Trim(s.Path, "/") == "" || strings.ContainsAny(s.Path, "*{}?#% ") {
		return fmt.Errorf("status takes a path like /hooks/status, not %q", s.Path)
	}
	if s.Keep < 0 || s.Keep > caddy.Duration(maxAhead) {
		return errors.New("status: results are kept for at most 366d")
	}
	return nil
}

func (d *QueueDeadLetters) check() error {
	if d != nil && (d.Count < 0 || d.Age < 0 || d.Count == 0 && d.Age == 0) {
		return errors.New("dead_letters takes a number from 1, an age, or both")
	}
	return nil
}

// checkPool checks that there are nodes for what is asked of them.
func (h *Queue) checkPool(a *App) error {
	const advice = "a queue needs at least one Redis server: name them by `nodes` in the global option fluster"
	if h.bare {
		// Its pool is that of the handler with the options.
		for _, p := range a.pools {
			if p.hasNodes() {
				return nil
			}
		}
		return errors.New(advice)
	}
	p, err := a.pool(h.Pool)
	if err != nil {
		return err
	}
	if !p.hasNodes() {
		return errors.New(advice)
	}
	if h.Copies == 2 && len(p.config.Nodes) < 2 {
		return errors.New("copies 2 needs at least two independent servers (`nodes`); a Redis Cluster and Sentinel have replicas instead: `ack replicas 1`")
	}
	return nil
}

// hasNodes reports whether the pool is configured with nodes.
func (p *pool) hasNodes() bool {
	return len(p.config.Nodes) > 0 || len(p.config.Cluster) > 0 || p.config.Sentinel != nil
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
