package httpcache

import (
	"testing"
	"time"
)

// RFC 9111, Sections 4.2.3 and 5.1.
func TestCorrectedInitialAge(t *testing.T) {
	for _, row := range []struct {
		name  string
		lines []string
		delay time.Duration
		want  time.Duration
	}{
		{"nothing", nil, 0, 0},
		{"delay", nil, 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"Age", []string{"Age: 30"}, 0, 30 * time.Second},
		{"Age and delay", []string{"Age: 30"}, time.Second, 31 * time.Second},
		{"Date", []string{"Date: " + at(-10)}, 0, 10 * time.Second},
		{"Date ahead", []string{"Date: " + at(10)}, 0, 0},
		{"Age over Date", []string{"Age: 30", "Date: " + at(-10)}, 0, 30 * time.Second},
		{"Date over Age", []string{"Age: 5", "Date: " + at(-10)}, 0, 10 * time.Second},
		{"invalid Date", []string{"Date: foo"}, 0, 0},
		{"two Dates", []string{"Date: " + at(-10), "Date: " + at(-10)}, 0, 0},
		{"letters", []string{"Age: foo"}, 0, 0},
		{"negative", []string{"Age: -30"}, 0, 0},
		{"float", []string{"Age: 30.0"}, 0, 0},
		{"empty", []string{"Age:"}, 0, 0},
		{"parameter", []string{"Age: 30;foo=bar"}, 0, 0},
		{"first of a list", []string{"Age: 30, 0"}, 0, 30 * time.Second},
		{"first of a list is 0", []string{"Age: 0, 30"}, 0, 0},
		{"first of a list invalid", []string{"Age: foo, 30"}, 0, 0},
		{"first of the lines", []string{"Age: 30", "Age: 0"}, 0, 30 * time.Second},
		{"over-large", []string{"Age: 99999999999999999999"}, 0, time.Second << 31},
	} {
		times := Times{Sent: epoch.Add(-row.delay), Received: epoch}
		got := time.Duration(correctedInitialAge(header(row.lines...), times)) * time.Millisecond
		equal(t, row.name, got, row.want)
	}
}

func TestTermsAgeAndTTL(t *testing.T) {
	v := store(Policy{}, "Cache-Control: max-age=60", "Age: 10")
	equal(t, "age at once", v.Terms.Age(epoch), 10*time.Second)
	equal(t, "age later", v.Terms.Age(seconds(5)), 15*time.Second)
	equal(t, "age when the clock went back", v.Terms.Age(seconds(-60)), 0)
	equal(t, "ttl", v.Terms.TTL(seconds(5)), 45*time.Second)
	equal(t, "ttl when stale", v.Terms.TTL(seconds(51)), -time.Second)
	equal(t, "fresh", v.Terms.TTL(seconds(49.999)), time.Millisecond)
	equal(t, "stale", v.Terms.TTL(seconds(50)), 0)
}

func TestAppendAge(t *testing.T) {
	equal(t, "whole seconds", string(AppendAge([]byte("Age: "), 1999*time.Millisecond)), "Age: 1")
	equal(t, "negative", string(AppendAge(nil, -time.Second)), "0")
	equal(t, "large", string(AppendAge(nil, time.Second<<32)), "2147483648")
}
