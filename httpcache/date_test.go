package httpcache

import (
	"testing"
	"time"
)

// RFC 9110, Section 5.6.7.
func TestParseDate(t *testing.T) {
	want := time.Date(1994, time.November, 6, 8, 49, 37, 0, time.UTC)
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT",
		"Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994",
		"Sun Nov 06 08:49:37 1994",
		"sun, 06 nov 1994 08:49:37 gmt",
		"SUN, 06 NOV 1994 08:49:37 GMT",
		"SUNDAY, 06-NOV-94 08:49:37 gmt",
	} {
		got, ok := ParseDate(s, epoch)
		if !ok || !got.Equal(want) {
			t.Errorf("%q: got %v, %t, want %v", s, got, ok, want)
		}
	}
	for _, row := range []struct{ name, s string }{
		{"empty", ""},
		{"zero", "0"},
		{"a number", "1234567890"},
		{"ISO 8601", "1994-11-06T08:49:37Z"},
		{"zone UTC", "Sun, 06 Nov 1994 08:49:37 UTC"},
		{"zone EST", "Sun, 06 Nov 1994 08:49:37 EST"},
		{"zone offset", "Sun, 06 Nov 1994 08:49:37 +0000"},
		{"no zone", "Sun, 06 Nov 1994 08:49:37"},
		{"two-digit year", "Sun, 06 Nov 94 08:49:37 GMT"},
		{"three-digit year", "Sun, 06 Nov 994 08:49:37 GMT"},
		{"five-digit year", "Sun, 06 Nov 11994 08:49:37 GMT"},
		{"no comma", "Sun 06 Nov 1994 08:49:37 GMT"},
		{"no space after the comma", "Sun,06 Nov 1994 08:49:37 GMT"},
		{"two spaces after the comma", "Sun,  06 Nov 1994 08:49:37 GMT"},
		{"two spaces before the hour", "Sun, 06 Nov 1994  08:49:37 GMT"},
		{"two spaces before the zone", "Sun, 06 Nov 1994 08:49:37  GMT"},
		{"dashes", "Sun, 06-Nov-1994 08:49:37 GMT"},
		{"dashes and a short day", "Sun, 06-Nov-94 08:49:37 GMT"},
		{"spaces and a long day", "Sunday, 06 Nov 1994 08:49:37 GMT"},
		{"four-digit year and a long day", "Sunday, 06-Nov-1994 08:49:37 GMT"},
		{"periods", "Sun, 06 Nov 1994 08.49.37 GMT"},
		{"one-digit day", "Sun, 6 Nov 1994 08:49:37 GMT"},
		{"one-digit hour", "Sun, 06 Nov 1994 8:49:37 GMT"},
		{"no seconds", "Sun, 06 Nov 1994 08:49 GMT"},
		{"hour 24", "Sun, 06 Nov 1994 24:49:37 GMT"},
		{"minute 60", "Sun, 06 Nov 1994 08:60:37 GMT"},
		{"second 61", "Sun, 06 Nov 1994 08:49:61 GMT"},
		{"February 30", "Wed, 30 Feb 1994 08:49:37 GMT"},
		{"day 0", "Sun, 00 Nov 1994 08:49:37 GMT"},
		{"no such month", "Sun, 06 Foo 1994 08:49:37 GMT"},
		{"no such day name", "Foo, 06 Nov 1994 08:49:37 GMT"},
		{"more after it", "Sun, 06 Nov 1994 08:49:37 GMT foo"},
		{"two dates", "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"},
		{"asctime with one space", "Sun Nov 6 08:49:37 1994"},
		{"asctime with a zone", "Sun Nov  6 08:49:37 GMT 1994"},
		{"asctime with a two-digit year", "Sun Nov  6 08:49:37 94"},
	} {
		if got, ok := ParseDate(row.s, epoch); ok {
			t.Errorf("%s: %q: got %v, want none", row.name, row.s, got)
		}
	}
}

// RFC 9110, Section 5.6.7: a year that seems to be more than 50 years ahead is in the past.
func TestParseDateTwoDigitYear(t *testing.T) {
	for _, row := range []struct {
		year string
		want int
	}{{"26", 2026}, {"25", 2025}, {"00", 2000}, {"76", 2076}, {"77", 1977}, {"99", 1999}} {
		got, ok := ParseDate("Sunday, 06-Nov-"+row.year+" 08:49:37 GMT", epoch)
		if !ok || got.Year() != row.want {
			t.Errorf("%s: got %v, %t, want %d", row.year, got, ok, row.want)
		}
	}
}

func TestParseDateLeapSecond(t *testing.T) {
	got, ok := ParseDate("Sat, 31 Dec 2016 23:59:60 GMT", epoch)
	want := time.Date(2017, time.January, 1, 0, 0, 0, 0, time.UTC)
	if !ok || !got.Equal(want) {
		t.Errorf("got %v, %t, want %v", got, ok, want)
	}
}
