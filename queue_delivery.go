package fluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// QueueDelivery says how the messages of a queue are delivered.
type QueueDelivery struct {
	// To whom each message is delivered, independently of each other. With none,
	// other programs take the messages. Default: none.
	Deliver []*Destination `json:"deliver,omitempty"`

	// How many times a message is tried before it is a dead letter. A worker that
	// died while it delivered counts too. Default: 10.
	Attempts int `json:"attempts,omitempty"`

	// How long a message waits between attempts.
	Backoff *QueueBackoff `json:"backoff,omitempty"`

	// The statuses, like "429" or "5xx", after which a message is tried again. 2xx
	// is success, and 3xx is tried again always; what else a message is answered
	// with makes it a dead letter at once. Default: 408 425 429 5xx.
	RetryStatus []string `json:"retry_status,omitempty"`

	// How many deliveries may be under way at a time in this process, for each
	// destination. Default: 16.
	Concurrency int `json:"concurrency,omitempty"`

	// Deliveries a second, of all Caddys together. Default: unbounded.
	Rate float64 `json:"rate,omitempty"`

	// When a destination that only fails is left alone. Default: never.
	Breaker *QueueBreaker `json:"breaker,omitempty"`

	// Secrets, whsec_ and base64, with each of which deliveries are signed as
	// Standard Webhooks has it. Placeholders are replaced. Default: unsigned.
	Sign []string `json:"sign,omitempty"`

	// The queue that is told of each message that was delivered. Default: none.
	Callback string `json:"callback,omitempty"`

	// The queue that gets a copy of each message that becomes a dead letter. Default: none.
	DeadLetterTo string `json:"dead_letter_to,omitempty"`

	server  *caddyhttp.Server // to which the deliver block belongs
	secrets []secret
	retry   statusSet
}

// Destination is one to whom messages are delivered.
type Destination struct {
	// What it is called in metrics, and on the nodes. It may be left out where
	// there is no other one.
	Name string `json:"name,omitempty"`

	// What delivers: routes like those of a site. A response with 2xx is success.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`

	handler caddyhttp.Handler
}

// QueueBackoff is how long a message waits between attempts: a random time up to
// `first` after the first one, up to twice that after the second, and so on.
type QueueBackoff struct {
	// The longest wait after the first attempt. Default: 1s.
	First caddy.Duration `json:"first,omitempty"`
	// The longest wait after any. Default: 1h.
	Longest caddy.Duration `json:"longest,omitempty"`
}

// QueueBreaker is when a destination that only fails is left alone.
type QueueBreaker struct {
	// After how many failures in a row.
	Failures int `json:"failures"`
	// For how long. What waits meanwhile loses no attempt. Default: 30s.
	Rest caddy.Duration `json:"rest,omitempty"`
}

// Defaults of QueueDelivery.
const (
	defaultAttempts     = 10
	defaultBackoffFirst = time.Second
	defaultBackoffMax   = time.Hour
	defaultConcurrency  = 16
	defaultBreakerRest  = 30 * time.Second
	maxRate             = 1_000_000 // deliveries a second
)

var defaultRetryStatus = []string{"408", "425", "429", "5xx"}

// provisionDelivery fills in the defaults, checks, and loads the routes.
func (c *QueueDelivery) provisionDelivery(ctx caddy.Context) error {
	c.setDeliveryDefaults()
	if err := c.checkDelivery(); err != nil {
		return err
	}
	var err error
	if c.retry, err = parseStatuses(c.RetryStatus); err != nil {
		return fmt.Errorf("retry_status: %w", err)
	}
	if c.secrets, err = parseSecrets(c.Sign, caddy.NewReplacer()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	// A handler learns of its server by the context that it is provisioned in.
	c.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if c.server == nil {
		c.server = new(caddyhttp.Server)
	}
	for _, d := range c.Deliver {
		if err := d.Routes.Provision(ctx); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
		d.handler = d.Routes.Compile(caddyhttp.HandlerFunc(notDelivered))
	}
	return nil
}

func (c *QueueDelivery) setDeliveryDefaults() {
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.RetryStatus == nil {
		c.RetryStatus = defaultRetryStatus
	}
	b := QueueBackoff{}
	if c.Backoff != nil {
		b = *c.Backoff
	}
	if b.First == 0 {
		b.First = caddy.Duration(defaultBackoffFirst)
	}
	if b.Longest == 0 {
		b.Longest = max(b.First, caddy.Duration(defaultBackoffMax))
	}
	c.Backoff = &b
	if c.Breaker != nil && c.Breaker.Rest == 0 {
		c.Breaker = &QueueBreaker{Failures: c.Breaker.Failures, Rest: caddy.Duration(defaultBreakerRest)}
	}
}

func (c *QueueDelivery) checkDelivery() error {
	switch {
	case c.Attempts < 1:
		return fmt.Errorf("attempts must be at least 1, not %d", c.Attempts)
	case c.Concurrency < 1:
		return fmt.Errorf("concurrency must be at least 1, not %d", c.Concurrency)
	case !(c.Rate >= 0 && c.Rate <= maxRate):
		return fmt.Errorf("rate must be positive, and at most %d a second, not %v", maxRate, c.Rate)
	case c.Backoff.First < 0 || c.Backoff.Longest < c.Backoff.First:
		return fmt.Errorf("backoff: the first wait, %s, must not be above the longest, %s", time.Duration(c.Backoff.First), time.Duration(c.Backoff.Longest))
	case c.Breaker != nil && c.Breaker.Failures < 1:
		return fmt.Errorf("breaker: it takes at least 1 failure, not %d", c.Breaker.Failures)
	case c.Breaker != nil && c.Breaker.Rest < 0:
		return fmt.Errorf("breaker: the rest must be positive, not %s", time.Duration(c.Breaker.Rest))
	}
	names := map[string]bool{}
	for _, d := range c.Deliver {
		switch {
		case d == nil || len(d.Routes) == 0:
			return errors.New("deliver: a block without directives delivers nothing")
		case d.Name == "" && len(c.Deliver) > 1:
			return errors.New("deliver: each of several blocks needs a name")
		case names[d.Name]:
			return fmt.Errorf("deliver: the name %q stands twice", d.Name)
		case d.Name != "" && (!isQueueWord(d.Name) || len(d.Name) > maxQueueName):
			return fmt.Errorf("deliver: the name %q must be made of letters, digits, - and _, at most %d", d.Name, maxQueueName)
		}
		names[d.Name] = true
	}
	return nil
}

// isQueueWord reports whether s is made of letters, digits, - and _.
func isQueueWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

// destinationNames are the names of the destinations, as queue.Options have them.
func (c *QueueDelivery) destinationNames() (names []string) {
	for _, d := range c.Deliver {
		if d != nil && d.Name != "" { // nil: refused later
			names = append(names, d.Name)
		}
	}
	return names
}

// A statusSet is a set of final statuses.
type statusSet [1000]bool

// parseStatuses reads statuses like 429, and classes of them like 5xx.
func parseStatuses(words []string) (set statusSet, err error) {
	for _, w := range words {
		if class, ok := strings.CutSuffix(strings.ToLower(w), "xx"); ok && len(class) == 1 && class[0] >= '4' && class[0] <= '9' {
			first := int(class[0]-'0') * 100
			for i := range 100 {
				set[first+i] = true
			}
			continue
		}
		n, err := strconv.Atoi(w)
		if err != nil || n < 400 || n > 999 {
			return set, fmt.Errorf("%q is neither a status from 400 on nor a class like 5xx", w)
		}
		set[n] = true
	}
	return set, nil
}

func (s *statusSet) has(status int) bool { return status >= 0 && status < len(s) && s[status] }
