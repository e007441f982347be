package queue

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"
)

// A Client puts messages into a queue and looks after it. It is safe for
// concurrent use.
type Client struct {
	o          Options
	partitions []*partition
	lanes      []string // of all destinations and classes
	name       string   // of this process's consumers, the same for nobody else

	turn    atomic.Uint64 // of messages that may go anywhere
	backlog backlog
	out     outgoing
}

// NewClient returns a client. Nothing is sent before it is used.
func NewClient(o Options) (*Client, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Client{o: o, name: newID()}
	for _, destination := range o.Destinations {
		c.lanes = append(c.lanes, lane(destination, ""))
		for _, class := range o.Classes {
			c.lanes = append(c.lanes, lane(destination, class.Name))
		}
	}
	for i, p := range o.Partitions {
		c.partitions = append(c.partitions, newPartition(c, p, i))
	}
	c.backlog.bounds, c.backlog.turn = o.Backlog, make(chan struct{}, 1)
	return c, nil
}

// Options returns the client's options with their defaults filled in.
func (c *Client) Options() Options { return c.o }

// newID returns a ULID, which sorts by time and which nobody can guess.
func newID() string {
	return ulid.MustNew(ulid.Now(), rand.Reader).String()
}

// byRef returns a partition by its ref, or nil: it may have been configured away.
func (c *Client) byRef(ref string) *partition {
	ref = strings.TrimSuffix(ref, strayMark)
	for _, p := range c.partitions {
		if p.ref == ref {
			return p
		}
	}
	return nil
}

// hashOf returns what pick wants to know of a key. What has no key of its own
// goes to anyone.
func (c *Client) hashOf(key string) uint64 {
	if key == "" {
		return mix(c.turn.Add(1))
	}
	return xxhash.Sum64String(key)
}

// pick returns the first of the partitions in the order of hash that is not
// left out and takes messages now, or nil.
func (c *Client) pick(hash uint64, leaveOut func(*partition) bool) *partition {
	now := time.Now()
	for {
		var best *partition
		var most float64
		for _, p := range c.partitions {
			if leaveOut(p) || !p.rest.ready(now, writing) {
				continue
			}
			if draw := p.draw(hash); best == nil || draw > most {
				best, most = p, draw
			}
		}
		if best == nil || best.rest.admit(now, writing) {
			return best
		}
	}
}

func (o Options) withDefaults() Options {
	o.Namespace = cmp.Or(o.Namespace, "fluster")
	o.PerKey = cmp.Or(o.PerKey, 1)
	o.InlineBody = cmp.Or(o.InlineBody, 64<<10)
	o.MaxBody = cmp.Or(o.MaxBody, 1<<20)
	o.Copies = cmp.Or(o.Copies, 1)
	o.Visibility = cmp.Or(o.Visibility, 30*time.Second)
	o.KeepResult = cmp.Or(o.KeepResult, time.Hour)
	if len(o.Destinations) == 0 {
		o.Destinations = []string{""}
	}
	return o
}

// validate reports what is wrong with options that have their defaults.
func (o Options) validate() error {
	var errs []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("queue: "+format, args...))
		}
	}
	must(isName(o.Name), "the name of a queue is made of letters, digits, - _ and dots, not %q", o.Name)
	must(!strings.ContainsAny(o.Namespace, "{}"), "the namespace must have no braces, as %q has", o.Namespace)
	must(len(o.Partitions) > 0, "a queue needs a node")
	must(o.PerKey >= 1, "per_key must be at least 1, not %d", o.PerKey)
	must(o.InlineBody >= 0 && o.InlineBody <= 16<<20, "inline_body must be from 0 to 16 MiB, not %d", o.InlineBody)
	must(o.MaxBody >= 0 && o.MaxBody <= maxChunked, "max_body must be from 0 to 16 GiB, not %d", o.MaxBody)
	must(o.Copies == 1 || o.Copies == 2, "copies must be 1 or 2, not %d", o.Copies)
	must(o.Copies < 2 || len(o.Partitions) != 1, "copies 2 needs a second node")
	must(o.Visibility >= time.Second, "visibility must be at least 1s, not %v", o.Visibility)
	must(o.KeepResult >= 0, "results must not be kept for less than no time, as %v", o.KeepResult)
	must(o.Backlog.Messages >= 0 && o.Backlog.Bytes >= 0 && o.Backlog.Age >= 0, "backlog must not be negative")
	must(o.Ack.Replicas >= 0, "ack replicas must not be negative, as %d", o.Ack.Replicas)
	must(o.DeadLetters >= 0 && o.DeadLetterAge >= 0, "bounds on dead letters must not be negative")
	return errors.Join(append(errs, o.validateNames()...)...)
}

// validateNames reports names that are wrong or there twice.
func (o Options) validateNames() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("queue: "+format, args...)) }
	if !slices.Equal(o.Destinations, []string{""}) {
		for i, d := range o.Destinations {
			if !isName(d) {
				bad("the name of a destination is made of letters, digits, - _ and dots, not %q", d)
			} else if slices.Contains(o.Destinations[:i], d) {
				bad("two destinations have the name %q", d)
			}
		}
	}
	for i, class := range o.Classes {
		if !isName(class.Name) {
			bad("the name of a priority is made of letters, digits, - _ and dots, not %q", class.Name)
		} else if slices.ContainsFunc(o.Classes[:i], func(other Class) bool { return other.Name == class.Name }) {
			bad("two priorities have the name %q", class.Name)
		}
		if class.Weight < 1 {
			bad("the weight of priority %q must be at least 1, not %d", class.Name, class.Weight)
		}
	}
	seen := map[string]bool{}
	for _, p := range o.Partitions {
		if p.Node == nil {
			bad("a partition without a node")
			continue
		}
		if ref := fmt.Sprintf("%s/%d", p.Node.Name(), p.Number); seen[ref] {
			bad("two partitions are the same: %s", ref)
		} else {
			seen[ref] = true
		}
	}
	return errs
}

func isName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && !strings.ContainsRune("-_.", r) {
			return false
		}
	}
	return true
}

// RetryAfter is an estimate of when a refused message may be taken: from the
// drain rate for ErrBacklog, else when a node may be back. At least 1 s, at most 60 s.
func (c *Client) RetryAfter(err error) time.Duration {
	after := restLongest
	if errors.Is(err, ErrBacklog) {
		after = c.backlog.retryAfter()
	}
	return min(max(after, time.Second), time.Minute)
}
