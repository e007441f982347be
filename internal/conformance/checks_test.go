package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The methods of this file add expectations to a step.

func (s *step) check(c check) *step { s.checks = append(s.checks, c); return s }

// has expects fields in the answer: names and values in turn. A field of
// several lines is compared as if combined.
func (s *step) has(fields ...string) *step {
	for name, want := range pairs(fields) {
		s.check(func(x *exchange) string { return x.compare("the answer", x.got.header, name, want) })
	}
	return s
}

// lacks expects that the answer has none of the fields.
func (s *step) lacks(names ...string) *step {
	return s.check(func(x *exchange) string { return lacking("the answer", x.got.header, names) })
}

// sent expects fields in the request that the origin got last.
func (s *step) sent(fields ...string) *step {
	for name, want := range pairs(fields) {
		s.check(func(x *exchange) string { return x.compare("the origin's request", x.last().header, name, want) })
	}
	return s
}

// unsent expects that the request that the origin got last has none of the fields.
func (s *step) unsent(names ...string) *step {
	return s.check(func(x *exchange) string { return lacking("the origin's request", x.last().header, names) })
}

// sentFirst expects fields in the first of the requests that the origin got.
func (s *step) sentFirst(fields ...string) *step {
	for name, want := range pairs(fields) {
		s.check(func(x *exchange) string {
			if len(x.received) == 0 {
				return "the origin got no request"
			}
			return x.compare("the origin's first request", x.received[0].header, name, want)
		})
	}
	return s
}

// body expects another body than that of an answer.
func (s *step) body(want string) *step {
	s.from = min(s.from, -1)
	return s.check(func(x *exchange) string {
		if x.got.body != want {
			return fmt.Sprintf("got body %s, want %s", short(x.got.body), short(want))
		}
		return ""
	})
}

// partOf expects a 206 (Partial Content) of one range of a text of ten bytes.
func (s *step) partOf(contentRange, body string) *step {
	s.code = http.StatusPartialContent
	return s.body(body).has("Content-Range", contentRange, "Content-Length", strconv.Itoa(len(body)))
}

// age expects an Age of at least this, and of not much more.
func (s *step) age(least int) *step {
	return s.check(func(x *exchange) string {
		lines := x.got.header["Age"]
		if len(lines) != 1 {
			return fmt.Sprintf("got Age %q, want one", lines)
		}
		n, err := strconv.Atoi(lines[0])
		if err != nil || n < least || n > least+120 {
			return fmt.Sprintf("got Age %q, want %d or a little more", lines[0], least)
		}
		return ""
	})
}

// says expects parameters of this cache's member of Cache-Status, as they are
// written: "hit", "fwd=stale", "fwd-status=304"; a "!" before one expects none.
func (s *step) says(params ...string) *step {
	return s.check(func(x *exchange) string {
		m, err := member(x.got.header)
		if err != nil {
			return err.Error()
		}
		for _, want := range params {
			name, value, _ := strings.Cut(strings.TrimPrefix(want, "!"), "=")
			got, there := m.Params.Get(name)
			switch {
			case strings.HasPrefix(want, "!"):
				if there {
					return fmt.Sprintf("Cache-Status %q has %s", x.got.header["Cache-Status"], name)
				}
			case !there, value != "" && fmt.Sprint(got) != value, value == "" && got == false:
				return fmt.Sprintf("Cache-Status %q has not %s", x.got.header["Cache-Status"], want)
			}
		}
		return ""
	})
}

// ttl expects the ttl of Cache-Status to be between two numbers.
func (s *step) ttl(least, most int64) *step {
	return s.check(func(x *exchange) string {
		m, err := member(x.got.header)
		if err != nil {
			return err.Error()
		}
		got, _ := m.Params.Get("ttl")
		if n, ok := got.(int64); !ok || n < least || n > most {
			return fmt.Sprintf("got ttl %v, want %d to %d", got, least, most)
		}
		return ""
	})
}

// early expects the statuses of the informational responses.
func (s *step) early(statuses ...int) *step {
	return s.check(func(x *exchange) string {
		var got []int
		for _, i := range x.got.interims {
			got = append(got, i.status)
		}
		if !slices.Equal(got, statuses) {
			return fmt.Sprintf("got informational responses %v, want %v", got, statuses)
		}
		return ""
	})
}

// last is the request that the origin got last.
func (x *exchange) last() received {
	if len(x.received) == 0 {
		return received{header: http.Header{}}
	}
	return x.received[len(x.received)-1]
}

func (x *exchange) compare(where string, h http.Header, name, want string) string {
	want = strings.NewReplacer("{path}", x.path, "{row}", x.path).Replace(want)
	lines, ok := h[http.CanonicalHeaderKey(name)]
	if got := strings.Join(lines, ", "); !ok || got != want {
		return fmt.Sprintf("%s has %s: %s, want %s", where, name, short(got), short(want))
	}
	return ""
}

func lacking(where string, h http.Header, names []string) string {
	for _, name := range names {
		if lines, ok := h[http.CanonicalHeaderKey(name)]; ok {
			return fmt.Sprintf("%s has %s: %q, want none", where, name, lines)
		}
	}
	return ""
}
