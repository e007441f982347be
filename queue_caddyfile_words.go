package fluster

import (
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"
)

// What options of fluster_queue are made of, beside what is in caddyfile_words.go.

// parseID reads `id <text>` or `id header <field>`.
func (h *Queue) parseID(d *caddyfile.Dispenser) error {
	switch args := d.RemainingArgs(); {
	case len(args) == 1 && args[0] != "header": // all messages would be that one
		h.ID = args[0]
	case len(args) == 2 && args[0] == "header":
		if !httpguts.ValidHeaderFieldName(args[1]) && !strings.Contains(args[1], "{") {
			return d.Errf("id: %q is no field name", args[1])
		}
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
	isTwice := false
	for _, a := range args {
		if n, err := strconv.Atoi(a); err == nil {
			isTwice, h.DeadLetters.Count = h.DeadLetters.Count != 0, n
		} else {
			isTwice = h.DeadLetters.Age != 0
			if err := readDuration(d, "dead_letters", a, &h.DeadLetters.Age); err != nil {
				return err
			}
		}
	}
	if isTwice {
		return d.Errf("dead_letters: one number and one age like 7d at most")
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
	if err != nil || !(n > 0) {
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
