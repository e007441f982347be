package fluster

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

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
