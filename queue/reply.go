package queue

import (
	"context"
	"errors"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// Headers of a frame that say to whom its response goes, and for which message.
const (
	headerReplyTo     = "reply_to"
	headerCorrelation = "correlation_id"
)

const (
	// pingEvery is how long a subscription may be silent before it is pinged; a
	// ping that is not answered in as long ends it.
	pingEvery = time.Second
	// repliesKept bounds the responses that came before somebody expected them,
	// and for how long they are kept.
	repliesKept    = 256
	repliesKeptFor = 5 * time.Second
)

// frame returns the response to a delivery as it is published and kept.
func (r *Response) frame(d *Delivery) ([]byte, error) {
	header := make(map[string]string, len(r.Header)+1)
	maps.Copy(header, r.Header)
	header[headerCorrelation] = d.correlation()
	return appendFrame(nil, header, r.Body)
}

// correlation returns what a response names its message by.
func (d *Delivery) correlation() string {
	if c := d.Header[headerCorrelation]; c != "" {
		return c
	}
	return d.ID
}

// publish sends the responses of what has ended for good to those who wait for
// them. It is done once: who waits is gone if it fails, or sees nothing.
func (s *source) publish(ctx context.Context, batch []*result) {
	pipe := s.p.client().Pipeline()
	for _, r := range batch {
		if r.said.Response == nil || r.tries > 0 || r.ending != endDone && r.ending != endDead && r.entry.doomed == "" {
			continue
		}
		to := r.d.Header[headerReplyTo]
		if to == "" {
			continue
		}
		frame, err := r.said.Response.frame(r.d)
		if err != nil {
			s.w.o.Observe.Trouble(s.p.node.Name(), "making a response", err)
			continue
		}
		pipe.Publish(s.p.with(ctx), to, frame)
	}
	if pipe.Len() == 0 {
		return
	}
	if _, err := pipe.Exec(s.p.with(ctx)); err != nil {
		s.w.o.Observe.Trouble(s.p.node.Name(), "publishing responses", err)
	}
}

// Replies is where responses to messages of this process arrive: ReplyTo is what
// to put into a message's header reply_to. Run receives until ctx ends. It is safe
// for concurrent use.
type Replies struct {
	channel string
	nodes   []*shard.Node

	mu       sync.Mutex // guards all below
	expected map[string]chan *Response
	early    map[string]earlyResponse
	order    []string // of early, the oldest first
	untried  map[*shard.Node]bool
	ready    chan struct{} // closed when nothing is untried
}

// An earlyResponse came before anybody expected it: the message was fast, or it
// is not for anybody here any more.
type earlyResponse struct {
	*Response
	at time.Time
}

// NewReplies returns the place where responses to this process's messages arrive.
func NewReplies(c *Client) *Replies {
	r := &Replies{
		channel:  c.o.Namespace + ":q:" + c.o.Name + ":r:" + newID(),
		expected: map[string]chan *Response{}, early: map[string]earlyResponse{},
		untried: map[*shard.Node]bool{}, ready: make(chan struct{}),
	}
	for _, p := range c.partitions {
		if !r.untried[p.node] {
			r.untried[p.node] = true
			r.nodes = append(r.nodes, p.node)
		}
	}
	return r
}

// ReplyTo is the channel to name in a message's header reply_to.
func (r *Replies) ReplyTo() string { return r.channel }

// Run receives on all nodes until ctx ends.
func (r *Replies) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range r.nodes {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.receive(ctx, n)
				r.tried(n)
				sleep(ctx, pingEvery/4)
			}
		})
	}
	wg.Wait()
}

// receive serves one subscription until it fails. A silent connection may be
// dead: it is pinged.
func (r *Replies) receive(ctx context.Context, n *shard.Node) {
	sub := n.Subscribe(ctx, r.channel)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { sub.Close() })()
	pinged := false
	for ctx.Err() == nil {
		msg, err := shard.Receive(ctx, sub, pingEvery)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged:
			pinged = true
			if sub.Ping(ctx) != nil {
				return
			}
			continue
		case err != nil:
			return
		}
		pinged = false
		switch m := msg.(type) {
		case *redis.Subscription:
			r.tried(n)
		case *redis.Message:
			r.take([]byte(m.Payload))
		}
	}
}

// tried says that responses are received from a node, or that it is away.
func (r *Replies) tried(n *shard.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.untried, n); len(r.untried) == 0 {
		select {
		case <-r.ready:
		default:
			close(r.ready)
		}
	}
}

// Ready waits until responses are received from all nodes that are not away, after
// Run was called, or until ctx ends, and reports which. What is published before goes
// past it.
func (r *Replies) Ready(ctx context.Context) bool {
	select {
	case <-r.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// take gives a response to who expects it, or keeps it for a moment.
func (r *Replies) take(frame []byte) {
	header, body, err := parseFrame(frame)
	id := header[headerCorrelation]
	if err != nil || id == "" {
		return
	}
	response := &Response{Header: header, Body: body}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ch := r.expected[id]; ch != nil {
		delete(r.expected, id)
		ch <- response
		return
	}
	if _, ok := r.early[id]; !ok {
		if len(r.order) == repliesKept {
			delete(r.early, r.order[0])
			r.order = r.order[1:]
		}
		r.order = append(r.order, id)
	}
	r.early[id] = earlyResponse{response, time.Now()}
}

// Expect returns a channel on which the response to the message with this id, or
// with this correlation_id in its header if it has one, comes, once, if it comes;
// forget ends that. It may be called right after the message was put in.
func (r *Replies) Expect(id string) (response <-chan *Response, forget func()) {
	ch := make(chan *Response, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.early[id]; ok && time.Since(e.at) < repliesKeptFor {
		ch <- e.Response
		return ch, func() {}
	}
	r.expected[id] = ch
	return ch, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.expected[id] == ch {
			delete(r.expected, id)
		}
	}
}
