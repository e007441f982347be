package httpcache

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

var (
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	longDays   = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
)

// ParseDate parses an HTTP date in any of its three forms and in nothing but these; letters are taken in either case.
// now places the two digits of an RFC 850 year. RFC 9110, Section 5.6.7.
//
//	Sun, 06 Nov 1994 08:49:37 GMT    IMF-fixdate
//	Sunday, 06-Nov-94 08:49:37 GMT   RFC 850
//	Sun Nov  6 08:49:37 1994         asctime
func ParseDate(s string, now time.Time) (t time.Time, ok bool) {
	const longest = len("Wednesday, 06-Nov-94 08:49:37 GMT")
	if len(s) > longest {
		return time.Time{}, false
	}
	// None of the errors is of interest alone: the parser goes on with zeros and fails at the end.
	p := dateParser{rest: s}
	var f dateFields
	comma := strings.IndexByte(s, ',')
	switch {
	case comma == 3:
		p.name(dayNames)
		p.literal(", ")
		f.day = p.digits(2)
		p.literal(" ")
		f.month = p.name(monthNames) + 1
		p.literal(" ")
		f.year = p.digits(4)
		p.literal(" ")
		p.clock(&f)
		p.literal(" gmt")
	case comma > 3:
		p.name(longDays)
		p.literal(", ")
		f.day = p.digits(2)
		p.literal("-")
		f.month = p.name(monthNames) + 1
		p.literal("-")
		f.year = p.digits(2)
		p.literal(" ")
		p.clock(&f)
		p.literal(" gmt")
		f.year = fullYear(f.year, now)
	default:
		p.name(dayNames)
		p.literal(" ")
		f.month = p.name(monthNames) + 1
		p.literal(" ")
		if strings.HasPrefix(p.rest, " ") {
			p.literal(" ")
			f.day = p.digits(1)
		} else {
			f.day = p.digits(2)
		}
		p.literal(" ")
		p.clock(&f)
		p.literal(" ")
		f.year = p.digits(4)
	}
	if p.failed || p.rest != "" {
		return time.Time{}, false
	}
	return f.time()
}

// dateFields are the parts of a date, not yet known to make one.
type dateFields struct{ year, month, day, hour, minute, second int }

// time returns the instant, if there is such a day and hour. A leap second is the first one of the next minute.
func (f dateFields) time() (time.Time, bool) {
	if f.hour > 23 || f.minute > 59 || f.second > 60 {
		return time.Time{}, false
	}
	day := time.Date(f.year, time.Month(f.month), f.day, 0, 0, 0, 0, time.UTC)
	if day.Day() != f.day || int(day.Month()) != f.month {
		return time.Time{}, false
	}
	return time.Date(f.year, time.Month(f.month), f.day, f.hour, f.minute, f.second, 0, time.UTC), true
}

// fullYear returns the year that two digits stand for: the last one so written that is at most 50 years ahead of now.
func fullYear(twoDigits int, now time.Time) int {
	year := now.UTC().Year()
	full := year - year%100 + twoDigits
	if full > year+50 {
		full -= 100
	} else if full <= year-50 {
		full += 100
	}
	return full
}

// dateParser eats a date from the left. After a failure it eats nothing more.
type dateParser struct {
	rest   string
	failed bool
}

// literal eats want, which is in lower case, in any case.
func (p *dateParser) literal(want string) {
	if len(p.rest) < len(want) || !strings.EqualFold(p.rest[:len(want)], want) {
		p.failed = true
	}
	if !p.failed {
		p.rest = p.rest[len(want):]
	}
}

// name eats one of the names and returns its index.
func (p *dateParser) name(names []string) int {
	for i, name := range names {
		if len(p.rest) >= len(name) && strings.EqualFold(p.rest[:len(name)], name) {
			p.literal(name)
			return i
		}
	}
	p.failed = true
	return 0
}

// digits eats exactly n digits and returns their value.
func (p *dateParser) digits(n int) (value int) {
	if p.failed || len(p.rest) < n {
		p.failed = true
		return 0
	}
	for i := range n {
		c := p.rest[i]
		if c < '0' || c > '9' {
			p.failed = true
			return 0
		}
		value = value*10 + int(c-'0')
	}
	p.rest = p.rest[n:]
	return value
}

// clock eats hour, minute and second.
func (p *dateParser) clock(f *dateFields) {
	f.hour = p.digits(2)
	p.literal(":")
	f.minute = p.digits(2)
	p.literal(":")
	f.second = p.digits(2)
}

// dateField returns the date in the field name of h. A field that is not there once, and valid, is none.
func dateField(h http.Header, name string, now time.Time) (time.Time, bool) {
	lines := h[name]
	if len(lines) != 1 {
		return time.Time{}, false
	}
	s := strings.Trim(lines[0], " \t")
	if last := lastDate.Load(); name == "Date" && last != nil && last.text == s {
		return last.time, true
	}
	t, ok := ParseDate(s, now)
	if ok && name == "Date" && len(s) == len(http.TimeFormat) { // the only form of this length says the whole year
		lastDate.Store(&parsedDate{strings.Clone(s), t})
	}
	return t, ok
}

// lastDate is the last Date that was parsed. For a second all responses have the same.
var lastDate atomic.Pointer[parsedDate]

// parsedDate is a date in a form that says the same at all times.
type parsedDate struct {
	text string
	time time.Time
}
