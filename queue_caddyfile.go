package fluster

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseQueueDirective reads the directive fluster_queue:
//
//	fluster_queue [<matcher>] <name> {
//		<option>
//	}
//
// Without a block it accepts into the queue that another one defines.
func parseQueueDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	q := &Queue{}
	h.Next() // fluster_queue
	if !h.AllArgs(&q.Name) {
		return nil, h.Errf("fluster_queue takes the name of a queue")
	}
	if !isQueueName(q.Name) {
		return nil, h.Errf("the queue's name must be made of letters, digits, - _ and dots, at most %d, not %q", maxQueueName, q.Name)
	}
	seen := map[string]bool{}
	for h.NextBlock(0) {
		option := h.Val()
		if seen[option] && option != "deliver" && option != "headers" {
			return nil, h.Errf("%s stands twice", option)
		}
		seen[option] = true
		err := q.parseOption(h, option)
		if err == nil {
			err = q.checkOptions(h.Dispenser)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := q.checkTogether(); err != nil {
		return nil, h.Errf("%v", err)
	}
	return q, nil
}

// checkOptions checks what was read until now, so that the error names the line.
func (h *Queue) checkOptions(d *caddyfile.Dispenser) error {
	c := *h
	c.setDeliveryDefaults()
	for _, err := range []error{c.check(), c.checkDelivery(), c.provisionRules()} {
		if err != nil {
			return d.Errf("%v", err)
		}
	}
	if _, err := parseStatuses(c.RetryStatus); err != nil {
		return d.Errf("retry_status: %v", err)
	}
	return nil
}

// parseOption reads one option of fluster_queue:
//
//	deliver [<name>] { <directive...> }
//	methods      <method...>
//	when         always|prefer
//	max_body     <size>
//	inline_body  <size>
//	headers      <field...> | -<field...>
//	id           <text> | header <field>
//	dedup        <text> [<window>]
//	order_by     <text>
//	priority     <text> <class>=<weight...>
//	delay        <duration or text>
//	expire       <duration or text>
//	allow_client delay|expire...
//	backlog      [<messages>] [<bytes>] [<age>]
//	ack          memory | [aof] [replicas <n>]
//	status       <path> [<keep>]
//	copies       1|2
//	wait         [<longest>]
//	batch        [<messages>]
//	pool         <name>
//	transport    stream
//
// and those of parseBackOption and parseDeliveryOption. <text> may hold placeholders.
func (h *Queue) parseOption(helper httpcaddyfile.Helper, option string) error {
	d := helper.Dispenser
	switch option {
	case "deliver":
		return h.parseDeliver(helper)
	case "methods":
		return parseList(d, &h.Methods)
	case "when":
		return parseChoice(d, &h.When, "always", "prefer")
	case "max_body":
		return parseSize(d, &h.MaxBody, false)
	case "inline_body":
		return parseSize(d, &h.InlineBody, false)
	case "headers":
		return parseList(d, &h.Headers)
	case "id":
		return h.parseID(d)
	case "dedup":
		return h.parseDedup(d)
	case "order_by":
		return parseWord(d, &h.OrderBy)
	case "priority":
		return h.parsePriority(d)
	case "delay":
		return parseWord(d, &h.Delay)
	case "expire":
		return parseWord(d, &h.Expire)
	case "allow_client":
		return parseList(d, &h.AllowClient)
	case "wait":
		return parseWait(d, &h.Wait)
	case "batch":
		return parseBatch(d, &h.Batch)
	case "pool":
		return parseWord(d, &h.Pool)
	case "transport":
		return parseWord(d, &h.Transport)
	case "key":
		return d.Errf("key is not supported yet; a queue lies in streams that are named after it")
	default:
		return h.parseKeepOption(d, option)
	}
}

// parseKeepOption reads how messages are kept.
func (h *Queue) parseKeepOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "backlog":
		return h.parseBacklog(d)
	case "ack":
		return h.parseAck(d)
	case "status":
		return h.parseStatus(d)
	case "copies":
		return parseCount(d, &h.Copies)
	case "dead_letters":
		return h.parseDeadLetters(d)
	case "visibility":
		return parseDuration(d, &h.Visibility)
	case "per_key":
		return parseCount(d, &h.PerKey)
	default:
		return h.parseDeliveryOption(d, option)
	}
}

// parseDeliveryOption reads how messages are delivered:
//
//	dead_letters   [<number>] [<age>]
//	visibility     <duration>
//	per_key        <number>
//	attempts       <number>
//	backoff        <first> [<longest>]
//	retry_status   <status or class...>
//	concurrency    <number>
//	rate           <number>/s
//	breaker        <failures> [<rest>]
//	sign           <secret...>
//	callback       <queue>
//	dead_letter_to <queue>
func (h *QueueDelivery) parseDeliveryOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "attempts":
		return parseCount(d, &h.Attempts)
	case "backoff":
		return h.parseBackoff(d)
	case "retry_status":
		return parseList(d, &h.RetryStatus)
	case "concurrency":
		return parseCount(d, &h.Concurrency)
	case "rate":
		return parseRate(d, &h.Rate)
	case "breaker":
		return h.parseBreaker(d)
	case "sign":
		return h.parseSign(d)
	case "callback":
		return parseQueueName(d, &h.Callback)
	case "dead_letter_to":
		return parseQueueName(d, &h.DeadLetterTo)
	default:
		return d.Errf("unrecognized fluster_queue option %q", option)
	}
}

// parseDeliver reads a block of directives, like that of a `handle`.
func (h *Queue) parseDeliver(helper httpcaddyfile.Helper) error {
	segment := helper.NextSegment()
	to := &Destination{}
	// The name stands on the line of the first word, before the brace.
	if len(segment) > 1 && segment[1].Text != "{" && segment[1].Line == segment[0].Line {
		to.Name = segment[1].Text
		segment = slices.Delete(slices.Clone(segment), 1, 2)
	}
	if len(segment) < 2 || segment[1].Text != "{" {
		return helper.Errf("deliver takes at most a name, and a block of directives")
	}
	parsed, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(caddyfile.NewDispenser(segment)))
	if err != nil {
		return err
	}
	subroute, ok := parsed.(*caddyhttp.Subroute)
	if !ok {
		return helper.Errf("deliver takes a block of directives")
	}
	to.Routes = subroute.Routes
	h.Deliver = append(h.Deliver, to)
	return nil
}

// parseID reads `id <text>` or `id header <field>`.
func (h *Queue) parseID(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 1:
		h.ID = args[0]
	case len(args) == 2 && args[0] == "header":
		h.ID = "{http.request.header." + args[1] + "}"
	default:
		return d.Errf("id takes a text with placeholders, or the word header and a field")
	}
	return nil
}

func (h *Queue) parseDedup(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("dedup takes a text with placeholders, and for how long it is remembered")
	}
	h.Dedup = &QueueDedup{Key: args[0]}
	if len(args) == 1 {
		return nil
	}
	return readDuration(d, "dedup", args[1], &h.Dedup.Window)
}

func (h *Queue) parsePriority(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 {
		return d.Errf("priority takes a text with placeholders, and classes like high=3")
	}
	h.Priority = &QueuePriority{From: args[0]}
	for _, a := range args[1:] {
		name, weight, ok := strings.Cut(a, "=")
		n, err := strconv.Atoi(weight)
		if !ok || err != nil {
			return d.Errf("priority: %q is no class like high=3", a)
		}
		h.Priority.Classes = append(h.Priority.Classes, QueueClass{name, n})
	}
	return nil
}

// parseBacklog reads bounds in any order: a number, a size, a duration.
func (h *Queue) parseBacklog(d *caddyfile.Dispenser) error {
	b := &QueueBacklog{}
	h.Backlog = b
	for _, a := range d.RemainingArgs() {
		n, err := strconv.ParseInt(a, 10, 64)
		age, errAge := caddy.ParseDuration(a)
		size, errSize := ParseSize(a)
		isTwice := false
		switch {
		case err == nil:
			isTwice, b.Messages = b.Messages != 0, n
		case errAge == nil:
			isTwice, b.Age = b.Age != 0, caddy.Duration(age)
		case errSize == nil && !size.Off:
			isTwice, b.Bytes = b.Bytes.Set, size
		default:
			return d.Errf("backlog: %q is neither a number of messages, nor a size like 1GiB, nor an age like 1h", a)
		}
		if isTwice {
			return d.Errf("backlog: one number of messages, one size and one age at most")
		}
	}
	return nil
}

// parseAck reads memory, or one or both of aof and replicas <n>.
func (h *Queue) parseAck(d *caddyfile.Dispenser) error {
	usage := d.Errf("ack takes memory, or aof, or replicas and a number")
	args := d.RemainingArgs()
	if len(args) == 1 && args[0] == "memory" {
		h.Ack = nil
		return nil
	}
	h.Ack = &QueueAck{}
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "aof" && !h.Ack.AOF:
			h.Ack.AOF = true
		case args[i] == "replicas" && h.Ack.Replicas == 0 && i+1 < len(args):
			i++
			n, err := strconv.Atoi(args[i])
			if err != nil || n < 1 {
				return d.Errf("ack: %q is no number of replicas", args[i])
			}
			h.Ack.Replicas = n
		default:
			return usage
		}
	}
	if *h.Ack == (QueueAck{}) {
		return usage
	}
	return nil
}

func (h *Queue) parseStatus(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("status takes a path, and for how long results are kept")
	}
	h.Status = &QueueStatus{Path: args[0]}
	if len(args) == 1 {
		return nil
	}
	return readDuration(d, "status", args[1], &h.Status.Keep)
}

// parseDeadLetters reads bounds in any order: a number and an age.
func (h *Queue) parseDeadLetters(d *caddyfile.Dispenser) error {
	h.DeadLetters = &QueueDeadLetters{}
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("dead_letters takes a number, an age, or both")
	}
	for _, a := range args {
		if n, err := strconv.Atoi(a); err == nil {
			h.DeadLetters.Count = n
			continue
		}
		if err := readDuration(d, "dead_letters", a, &h.DeadLetters.Age); err != nil {
			return err
		}
	}
	return nil
}

func (h *QueueDelivery) parseBackoff(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("backoff takes the first wait, and the longest")
	}
	h.Backoff = &QueueBackoff{}
	if err := readDuration(d, "backoff", args[0], &h.Backoff.First); err != nil || len(args) == 1 {
		return err
	}
	return readDuration(d, "backoff", args[1], &h.Backoff.Longest)
}

func (h *QueueDelivery) parseBreaker(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("breaker takes a number of failures, and for how long a destination rests")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("breaker: %q is no number of failures", args[0])
	}
	h.Breaker = &QueueBreaker{Failures: n}
	if len(args) == 1 {
		return nil
	}
	return readDuration(d, "breaker", args[1], &h.Breaker.Rest)
}

// parseSign reads secrets. Its errors do not quote them.
func (h *QueueDelivery) parseSign(d *caddyfile.Dispenser) error {
	h.Sign = d.RemainingArgs()
	if len(h.Sign) == 0 {
		return d.Errf("sign takes at least one secret")
	}
	for _, s := range h.Sign {
		if strings.Contains(s, "{") {
			continue // known only when the server starts
		}
		if _, err := parseSecrets([]string{s}, caddy.NewReplacer()); err != nil {
			return d.Errf("sign: %v", err)
		}
	}
	return nil
}

// parseWait reads `wait [<longest>]`.
func parseWait(d *caddyfile.Dispenser, dst *caddy.Duration) error {
	*dst = caddy.Duration(defaultWait)
	if d.CountRemainingArgs() == 0 {
		return nil
	}
	return parseDuration(d, dst)
}

// parseBatch reads `batch [<messages>]`.
func parseBatch(d *caddyfile.Dispenser, dst *int) error {
	*dst = defaultBatch
	if d.CountRemainingArgs() == 0 {
		return nil
	}
	return parseCount(d, dst)
}

// parseRate reads a number of deliveries a second, like 50 or 50/s.
func parseRate(d *caddyfile.Dispenser, dst *float64) error {
	var word string
	if err := parseWord(d, &word); err != nil {
		return err
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(word, "/s"), 64)
	if err != nil || !(n > 0) || n > 1e9 {
		return d.Errf("rate: %q is no number of deliveries a second, like 50/s", word)
	}
	*dst = n
	return nil
}

// parseCount reads a number from 1.
func parseCount(d *caddyfile.Dispenser, dst *int) error {
	option := d.Val()
	var word string
	if err := parseWord(d, &word); err != nil {
		return err
	}
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 {
		return d.Errf("%s: %q is no number from 1", option, word)
	}
	*dst = n
	return nil
}

// parseQueueName reads the name of another queue.
func parseQueueName(d *caddyfile.Dispenser, dst *string) error {
	option := d.Val()
	if err := parseWord(d, dst); err != nil {
		return err
	}
	if !isQueueName(*dst) {
		return d.Errf("%s: %q is no name of a queue", option, *dst)
	}
	return nil
}

// readDuration reads a positive duration that is one of several words.
func readDuration(d *caddyfile.Dispenser, option, word string, dst *caddy.Duration) error {
	v, err := caddy.ParseDuration(word)
	if err != nil {
		return d.Errf("%s: %q is not a duration like 100ms, 5m or 1d", option, word)
	}
	if v <= 0 {
		return d.Errf("%s: it must be positive, not %s", option, time.Duration(v))
	}
	*dst = caddy.Duration(v)
	return nil
}

// checkTogether checks what several options say together.
func (h *Queue) checkTogether() error {
	if h.PerKey > 0 && h.OrderBy == "" {
		return errors.New("per_key needs order_by")
	}
	if h.Wait > 0 && len(h.Deliver) > 1 {
		return errors.New("wait takes one deliver block: with several there is no one answer")
	}
	return nil
}
