package fluster

import (
	"errors"
	"slices"

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
	seen := options{}
	for h.NextBlock(0) {
		if err := seen.once(h.Dispenser, "deliver", "headers"); err != nil {
			return nil, err
		}
		err := q.parseOption(h, h.Val())
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
//	wait         [<longest>]
//	batch        [<messages>]
//	pool         <name>
//	transport    stream
//
// and those of parseKeepOption and parseDeliveryOption. <text> may hold placeholders.
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

// parseKeepOption reads how messages are kept:
//
//	backlog      [<messages>] [<bytes>] [<age>]
//	ack          memory | [aof] [replicas <n>]
//	status       <path> [<keep>]
//	copies       1|2
//	dead_letters [<number>] [<age>]
//	visibility   <duration>
//	per_key      <number>
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
