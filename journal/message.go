package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxMessage is the longest message that is read, in bytes.
const MaxMessage = 64 << 10

// Message is an invalidation as JSON: published on the channel, or posted to
// the admin endpoint.
type Message struct {
	URL    []string `json:"url,omitempty"`
	Prefix []string `json:"prefix,omitempty"`
	Tag    []string `json:"tag,omitempty"`
	Host   []string `json:"host,omitempty"`
	All    bool     `json:"all,omitempty"`
	Soft   bool     `json:"soft,omitempty"`
}

// Targets returns what m selects, in normal form, or an error when it selects
// nothing or a value cannot be understood.
func (m Message) Targets() ([]Target, error) {
	var out []Target
	var err error
	for _, list := range []struct {
		kind   Kind
		values []string
	}{{URL, m.URL}, {Prefix, m.Prefix}, {Tag, m.Tag}, {Host, m.Host}} {
		for _, v := range list.values {
			if out, err = appendTargets(out, list.kind, v, m.Soft); err != nil {
				return nil, err
			}
		}
	}
	if m.All {
		out = append(out, Target{Kind: All, Soft: m.Soft})
	}
	if len(out) == 0 {
		return nil, errors.New("it selects nothing")
	}
	return out, nil
}

// ParseMessage reads a published message: "[soft] kind value…" or the JSON of
// Message. Unknown kinds and members are errors.
func ParseMessage(s string) ([]Target, error) {
	if len(s) > MaxMessage {
		return nil, fmt.Errorf("it is %d bytes long; %d are allowed", len(s), MaxMessage)
	}
	if strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "{") {
		var m Message
		if err := DecodeStrict(strings.NewReader(s), &m); err != nil {
			return nil, err
		}
		return m.Targets()
	}
	words := strings.FieldsFunc(s, isSpace)
	soft := len(words) > 0 && words[0] == "soft"
	if soft {
		words = words[1:]
	}
	if len(words) == 0 {
		return nil, errors.New("it is empty")
	}
	return parseWords(words[0], words[1:], soft)
}

// isSpace reports whether words end at r. What Unicode has of spaces beside these
// may be within a tag.
func isSpace(r rune) bool { return strings.ContainsRune(" \t\r\n\v\f", r) }

func parseWords(word string, values []string, soft bool) ([]Target, error) {
	kind, ok := kindWords[word]
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown kind %q (url, prefix, tag, host or all)", clip(word))
	case kind == All && len(values) > 0:
		return nil, errors.New("all takes no values")
	case kind == All:
		return []Target{{Kind: All, Soft: soft}}, nil
	case len(values) == 0:
		return nil, fmt.Errorf("%s takes at least one value", word)
	}
	out := make([]Target, 0, len(values))
	var err error
	for _, v := range values {
		if out, err = appendTargets(out, kind, v, soft); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// appendTargets appends what one value selects.
func appendTargets(out []Target, kind Kind, value string, soft bool) ([]Target, error) {
	t, err := NewTarget(kind, value, soft)
	if err != nil {
		return nil, err
	}
	out = append(out, t)
	if other, ok := t.otherName(); ok {
		out = append(out, other)
	}
	return out, nil
}

// errNotUTF8 refuses what else would be read as another text.
var errNotUTF8 = errors.New("JSON is UTF-8 (RFC 8259, Section 8.1), and it is not")

// DecodeStrict reads one JSON value from r into v; unknown members, those that
// stand twice, and anything behind the value are errors.
func DecodeStrict(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("it is longer than %d bytes", MaxMessage)
	}
	if !utf8.Valid(b) {
		return errNotUTF8
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case err == io.EOF:
		return errors.New("there is no JSON value")
	case err == io.ErrUnexpectedEOF:
		return errors.New("the JSON value is cut off")
	case err != nil:
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something behind the JSON value")
	}
	if name := repeated(b); name != "" {
		return fmt.Errorf("the member %q stands twice", name)
	}
	return nil
}

// repeated returns a member that stands twice in a JSON object, of which the first
// would be left out without a word; "" if none does. Case does not matter to
// encoding/json either.
func repeated(b []byte) string {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return ""
		}
		folded := strings.ToLower(strings.ToUpper(name))
		if seen[folded] {
			return name
		}
		seen[folded] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
	}
	return ""
}
