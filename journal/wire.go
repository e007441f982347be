package journal

import (
	"errors"
	"strconv"
	"strings"
)

// ErrForeign says that what lies in a journal is not ours.
var ErrForeign = errors.New("journal: what lies there is not a journal's")

// Code is how the kind of the target lies in a journal: a letter, "~" before it
// if the target is soft.
func (t Target) Code() string {
	if t.Soft {
		return "~" + string(rune(t.Kind))
	}
	return string(rune(t.Kind))
}

// ParseEntry reads an entry as it lies in a journal's stream: under the id
// "seq-0", with the fields i (the record's id), n (nonce), k (kind) and v
// (value). field returns "" for one that is not there. Fields beside these mean
// nothing, so that later versions may add some.
func ParseEntry(id string, field func(name string) string) (Entry, error) {
	var e Entry
	seq, rest, _ := strings.Cut(id, "-")
	var err error
	if e.Seq, err = strconv.ParseUint(seq, 10, 53); err != nil || rest != "0" || e.Seq == 0 {
		return Entry{}, ErrForeign
	}
	if e.Nonce, err = strconv.ParseUint(field("n"), 16, 64); err != nil || e.Nonce == 0 {
		return Entry{}, ErrForeign
	}
	e.Record, err = parseRecord(field("i"), field("k"), field("v"))
	return e, err
}

// parseRecord reads a record. One of a kind that is not known was written by a
// later version: it stands for `all`, which is more than it can mean.
func parseRecord(id, kind, value string) (Record, error) {
	code, soft := strings.CutPrefix(kind, "~")
	if len(code) != 1 || code[0] < 'a' || code[0] > 'z' || strings.ContainsAny(id, " \r\n") {
		return Record{}, ErrForeign
	}
	r := Record{ID: id, Target: Target{Kind: Kind(code[0]), Value: value, Soft: soft}}
	switch {
	case !strings.Contains("utphabmrf", code):
		r.Target = Target{Kind: All}
	case (r.Target.Kind == URL || r.Target.Kind == Prefix) && len(value) > maxValue:
		r.Target.Kind, r.Target.Value = Prefix, value[:maxValue] // it selects more
	}
	if !r.fits() || id == "" && !r.Target.isLocal() {
		return Record{}, ErrForeign
	}
	return r, nil
}

// News is a new entry in a journal as its node tells of it.
type News struct {
	Bucket int
	Inc    uint64
	Entry  Entry
}

// ParseNews reads what a node tells of a new entry: "bucket inc:seq:nonce after
// id kind value", where after is the nonce of the entry before.
func ParseNews(s string) (n News, ok bool) {
	bucket, s, _ := strings.Cut(s, " ")
	head, s, _ := strings.Cut(s, " ")
	after, s, _ := strings.Cut(s, " ")
	id, s, _ := strings.Cut(s, " ")
	kind, value, ok := strings.Cut(s, " ")
	h, ok2 := ParseHead(head)
	var err [3]error
	n.Bucket, err[0] = strconv.Atoi(bucket)
	n.Entry.After, err[1] = strconv.ParseUint(after, 16, 64)
	n.Entry.Record, err[2] = parseRecord(id, kind, value)
	if !ok || !ok2 || err != [3]error{} || h.Nonce == 0 || id == "" {
		return News{}, false
	}
	n.Inc, n.Entry.Seq, n.Entry.Nonce = h.Inc, h.Seq, h.Nonce
	return n, true
}
