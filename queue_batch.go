package fluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// maxBatchBody bounds max_body where there is `batch`: the whole body is in
// memory while it is split.
const maxBatchBody = 64 << 20

// itemPlaceholder is how placeholders of an item of a batch begin.
const itemPlaceholder = "http.fluster.item."

// A batchItem is one item of a batch, as placeholders see it.
type batchItem struct {
	raw     []byte
	members map[string]json.RawMessage // nil until the first is asked for
}

// member returns the item's member of a name: a string's text, or another value as JSON.
func (i *batchItem) member(name string) string {
	if i.members == nil {
		i.members = map[string]json.RawMessage{}
		_ = json.Unmarshal(i.raw, &i.members) // what is no object has no members
	}
	raw := i.members[name]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text // also of null: nothing
	}
	return string(raw)
}

// mayBeBatch reports whether the request's body may have to be split.
func (x *arrival) mayBeBatch() bool {
	return x.rules.batch > 0 && x.r.Header["Content-Encoding"] == nil && (x.isJSON() || x.isLines())
}

func (x *arrival) isJSON() bool { return x.mediaType() == "application/json" }

// isLines reports whether the body is said to be lines of JSON.
func (x *arrival) isLines() bool {
	switch x.mediaType() {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines":
		return true
	}
	return false
}

func (x *arrival) mediaType() string {
	t, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	return t
}

// acceptBatch puts each item of the body in as a message; a JSON value that is
// no array is one message, and answered like any other.
func (x *arrival) acceptBatch() error {
	body, err := io.ReadAll(x.body)
	if err != nil {
		return x.body.refusal()
	}
	x.repl.Map(func(key string) (any, bool) {
		name, ok := strings.CutPrefix(key, itemPlaceholder)
		if !ok || x.item == nil {
			return nil, ok
		}
		return x.item.member(name), true
	})
	if x.isJSON() && !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		x.item = &batchItem{raw: body}
		m, err := x.message()
		if err != nil {
			return err
		}
		m.Body = body
		return x.enqueue(m)
	}
	items, err := x.split(body)
	if err != nil {
		return err
	}
	messages, err := x.itemMessages(items)
	if err != nil {
		return err
	}
	receipts, _ := x.opened.client.EnqueueBatch(context.WithoutCancel(x.r.Context()), messages) // each receipt has its own error
	return x.answerBatch(messages, receipts)
}

// split returns the items of a body. Where one is not JSON, or there are too
// many, none is taken.
func (x *arrival) split(body []byte) (items [][]byte, err error) {
	if x.isLines() {
		items, err = splitLines(body, x.rules.batch)
	} else {
		items, err = splitArray(body, x.rules.batch)
	}
	switch {
	case errors.Is(err, errManyItems):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, reason: "too_large", detail: "a batch here has at most " + strconv.Itoa(x.rules.batch) + " items"}
	case err != nil:
		return nil, wrongRequest(err.Error())
	case len(items) == 0:
		return nil, wrongRequest("the batch is empty")
	}
	return items, nil
}

var errManyItems = errors.New("too many items")

// splitLines returns the lines that are not empty.
func splitLines(body []byte, most int) (items [][]byte, err error) {
	n := 0
	for line := range bytes.Lines(body) {
		n++
		line = bytes.Trim(line, " \t\r\n")
		switch {
		case len(line) == 0:
			continue
		case len(items) == most:
			return nil, errManyItems
		case !json.Valid(line):
			return nil, errors.New("line " + strconv.Itoa(n) + " is not JSON")
		}
		items = append(items, line)
	}
	return items, nil
}

// splitArray returns the elements of an array, as they are written.
func splitArray(body []byte, most int) (items [][]byte, err error) {
	if !json.Valid(body) {
		return nil, errors.New("the body is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil { // [
		return nil, err
	}
	for d.More() {
		if len(items) == most {
			return nil, errManyItems
		}
		var item json.RawMessage
		if err := d.Decode(&item); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// itemMessages makes a message of each item. What tells messages apart, and is
// not about the item, gets the item's number.
func (x *arrival) itemMessages(items [][]byte) ([]*queue.Message, error) {
	var messages []*queue.Message
	var header map[string]string
	for i, raw := range items {
		x.item = &batchItem{raw: raw}
		m := &queue.Message{Header: header}
		var err error
		if i == 0 {
			if m, err = x.message(); err == nil {
				header = itemHeader(m.Header)
			}
		} else {
			err = x.describe(m)
		}
		if err != nil {
			return nil, err
		}
		m.Body, m.Header = raw, maps.Clone(header)
		number := "/" + strconv.Itoa(i)
		if m.DedupKey != "" && !x.rules.dedup.isOfItem() {
			m.DedupKey += number
		}
		if m.ID != "" && !x.rules.id.isOfItem() {
			if m.ID += number; !isMessageID(m.ID) {
				return nil, wrongRequest("the message's id is too long for a batch")
			}
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// isOfItem reports whether t is about the item of a batch.
func (t template) isOfItem() bool { return strings.Contains(t.text, "{"+itemPlaceholder) }

// itemHeader is the header of a message that is an item of a batch: without what
// is about the whole body.
func itemHeader(header map[string]string) map[string]string {
	out := maps.Clone(header)
	for _, name := range []string{"content-md5", "digest", "content-digest", "repr-digest"} {
		delete(out, name)
	}
	out["content-type"] = "application/json"
	return out
}

// answerBatch answers for each item: 202 if all were accepted, the status of the
// refusal if all were refused alike, else 207.
func (x *arrival) answerBatch(messages []*queue.Message, receipts []queue.Receipt) error {
	b := append([]byte(`{"queue":"`), x.Name...)
	b = append(b, `","items":[`...)
	status, after := 0, 0.0
	for i, receipt := range receipts {
		if i > 0 {
			b = append(b, ',')
		}
		this := http.StatusAccepted
		if receipt.Err == nil {
			x.count(receipt)
			b = append(b, '{')
			b = appendAccepted(b, x.Name, receipt, messages[i].Delay > 0)
			if receipt.Replayed {
				b = append(b, `,"replayed":true`...)
			}
		} else {
			r := x.refusalOf(receipt.Err)
			x.live.count.refused(r.reason)
			this, after = r.status, max(after, r.after.Seconds())
			detail, _ := json.Marshal(r.detail) // a string: never fails
			b = append(append(b, `{"detail":`...), detail...)
		}
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(this), 10)
		b = append(b, '}')
		if status == 0 {
			status = this
		} else if status != this {
			status = http.StatusMultiStatus
		}
	}
	b = append(b, "]}\n"...)
	return x.writeBatch(status, after, b)
}

func (x *arrival) writeBatch(status int, after float64, body []byte) error {
	h := x.w.Header()
	setKind(h, "application/json")
	if after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(after+.999)))
	}
	if p := (preferences{async: x.prefer.async}).applied(); p != "" && status == http.StatusAccepted {
		h.Set("Preference-Applied", p)
	}
	x.w.WriteHeader(status)
	if _, err := x.w.Write(body); err != nil {
		x.debug("answering", err)
	}
	return nil
}
