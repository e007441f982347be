package fluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"
)

// queueRules are the options of accepting as they are used for each request.
type queueRules struct {
	methods    []string
	keep       func(name string) bool
	maxBody    int64
	inlineBody int64
	id         template
	dedup      template
	window     time.Duration
	order      template
	class      template
	delay      template
	expire     template
	mayDelay   bool // by the client
	mayExpire  bool
	status     string // path as it is in a URL, without a slash at the end; "": none
	wait       time.Duration
	batch      int
}

// provisionRules prepares what is used for each request.
func (h *Queue) provisionRules() error {
	r := &h.rules
	*r = queueRules{maxBody: defaultQueueBody, inlineBody: defaultInlineBody, window: defaultDedupWindow,
		wait: time.Duration(h.Wait), batch: h.Batch, methods: []string{"POST", "PUT", "PATCH", "DELETE"},
		id: newTemplate(h.ID), order: newTemplate(h.OrderBy), delay: newTemplate(h.Delay), expire: newTemplate(h.Expire)}
	if h.MaxBody.Set {
		r.maxBody = int64(h.MaxBody.Bytes)
	}
	if h.InlineBody.Set {
		r.inlineBody = int64(h.InlineBody.Bytes)
	}
	if h.Dedup != nil {
		r.dedup = newTemplate(h.Dedup.Key)
		if h.Dedup.Window > 0 {
			r.window = time.Duration(h.Dedup.Window)
		}
	}
	if h.Priority != nil {
		r.class = newTemplate(h.Priority.From)
	}
	if err := r.checkTexts(); err != nil {
		return err
	}
	if h.Status != nil {
		r.status = (&url.URL{Path: strings.TrimRight(h.Status.Path, "/")}).EscapedPath()
	}
	if h.Methods != nil {
		r.methods = h.Methods
	}
	for _, m := range r.methods {
		if !httpguts.ValidHeaderFieldName(m) || strings.Contains(m, "*") || m != strings.ToUpper(m) || m == http.MethodConnect {
			return fmt.Errorf("methods: %q is no method that can be queued", m)
		}
	}
	delay, err1 := r.delay.fixedAhead("delay")
	expire, err2 := r.expire.fixedAhead("expire")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, w := range h.AllowClient {
		switch w {
		case "delay":
			r.mayDelay = true
		case "expire":
			r.mayExpire = true
		default:
			return fmt.Errorf("allow_client: %q is none of delay, expire", w)
		}
	}
	if expire > 0 && expire <= delay && !r.mayDelay && !r.mayExpire {
		return fmt.Errorf("expire must be above delay, %s, not %s: each message would expire before it may be delivered", r.delay.text, r.expire.text)
	}
	var err error
	r.keep, err = newFieldFilter(h.Headers)
	return err
}

// checkTexts checks that what tells messages apart holds a placeholder: the name of
// a field, say, where its braces were forgotten, is the same for all of them.
func (r *queueRules) checkTexts() error {
	switch {
	case r.id.isFixed:
		return fmt.Errorf("id: %q holds no placeholder: all messages would be one", r.id.text)
	case r.dedup.isFixed:
		return fmt.Errorf("dedup: %q holds no placeholder: all messages would be one", r.dedup.text)
	case r.class.isFixed:
		return fmt.Errorf("priority: %q holds no placeholder: all messages would be of one class", r.class.text)
	}
	return nil
}

// newFieldFilter reports for field names whether they are kept: names with a -
// before them are not, and else only those that are named are.
func newFieldFilter(words []string) (keep func(name string) bool, err error) {
	if len(words) == 0 {
		return func(string) bool { return true }, nil
	}
	names := map[string]bool{}
	var beginnings []string
	isExcluding := strings.HasPrefix(words[0], "-")
	for _, w := range words {
		name, ok := strings.CutPrefix(w, "-")
		if ok != isExcluding {
			return nil, errors.New("headers takes either fields that are kept, or fields with a - before each that are not")
		}
		beginning, isPattern := strings.CutSuffix(name, "*")
		if !httpguts.ValidHeaderFieldName(beginning) || strings.Contains(beginning, "*") {
			return nil, fmt.Errorf("headers: %q is no field name", w)
		}
		if isPattern {
			beginnings = append(beginnings, http.CanonicalHeaderKey(beginning))
		} else {
			names[http.CanonicalHeaderKey(name)] = true
		}
	}
	return func(name string) bool {
		named := names[name] || slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(name, b) })
		return named != isExcluding
	}, nil
}

// A template is a text with placeholders. The zero value is none.
type template struct {
	text    string
	isFixed bool // without placeholders
}

func newTemplate(text string) template {
	return template{text, text != "" && caddy.NewEmptyReplacer().ReplaceAll(text, "") == text}
}

// value returns the text for a request; "" where a placeholder has no value:
// requests that lack what they are told apart by must not be taken for the same.
func (t template) value(repl *caddy.Replacer) string {
	if t.isFixed || t.text == "" {
		return t.text
	}
	v, err := repl.ReplaceOrErr(t.text, true, true)
	if err != nil {
		return ""
	}
	return v
}

// fixedAhead reads how far ahead an option without placeholders says; 0 for any other.
func (t template) fixedAhead(option string) (time.Duration, error) {
	if !t.isFixed {
		return 0, nil
	}
	ahead, err := parseAhead(t.text, time.Now())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", option, err)
	}
	if ahead == 0 {
		return 0, fmt.Errorf("%s must be positive, not %s", option, t.text)
	}
	return ahead, nil
}

// parseAhead reads how far ahead something is: a duration, a number of seconds,
// or a date.
func parseAhead(s string, now time.Time) (time.Duration, error) {
	d, err := caddy.ParseDuration(s)
	if err != nil {
		if d, err = caddy.ParseDuration(s + "s"); err != nil {
			at, err1 := time.Parse(time.RFC3339, s)
			if err1 != nil {
				if at, err = http.ParseTime(s); err != nil {
					return 0, fmt.Errorf("%q is neither a duration nor a date", s)
				}
			}
			d = max(at.Sub(now), 0)
		}
	}
	if d < 0 || d > maxAhead {
		return 0, fmt.Errorf("%q must be from 0 to 366d", s)
	}
	return d, nil
}
