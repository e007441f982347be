package conformance

import (
	"strings"
	"time"
)

// expiresRows are about Expires, Date and what they say together.
func expiresRows() []section {
	const h = time.Hour
	return []section{
		{"RFC 9111 §5.3 Expires", []row{
			fresh("in the future", "Expires", in(h)),
			stale("in the past", "Expires", in(-h)),
			stale("long ago", "Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
			stale("0", "Expires", "0"),
			stale("−1", "Expires", "-1"),
			stale("a number", "Expires", "99999999999"),
			stale("a word", "Expires", "never"),
			stale("empty", "Expires", ""),
			fresh("with an unknown directive", "Expires", in(h), "Cache-Control", "foo"),
			fresh("with public", "Expires", in(h), "Cache-Control", "public"),
			fresh("a hundred years from now", "Expires", in(100*365*24*h)),
			stale("the same as Date", "Expires", in(0), "Date", in(0)),
			stale("with no-store", "Expires", in(h), "Cache-Control", "no-store"),
			stale("with no-cache", "Expires", in(h), "Cache-Control", "no-cache"),
			stale("several lines", "Expires", in(-h), "Expires", in(h)),
			stale("several dates on a line", "Expires", in(-h)+", "+in(h)),
		}},
		{"RFC 9111 §4.2.1 Expires against Date", []row{
			fresh("a slow clock, within the lifetime", "Date", in(-h), "Expires", in(h)),
			stale("a slow clock, past the lifetime", "Date", in(-2*h), "Expires", in(-h)),
			fresh("a fast clock", "Date", in(2*h), "Expires", in(3*h)),
			stale("a fast clock, expired by itself", "Date", in(2*h), "Expires", in(h)),
			fresh("an invalid Date", "Date", "foo", "Expires", in(h)),
			stale("an invalid Date, expired", "Date", "foo", "Expires", in(-h)),
			test("no Date", origins(with("Expires", in(h)).withoutDate()), get().miss(), get().hit()),
			test("no Date, expired", origins(with("Expires", in(-h)).withoutDate()), get().miss(), get().miss()),
			fresh("an RFC 850 Date", "Date", dateAs(rfc850, 0), "Expires", in(h)),
			stale("an old asctime Date", "Date", dateAs(asctime, -2*h), "Expires", in(-h)),
		}},
		{"RFC 9111 §4.2.3 Age counts against Expires", []row{
			fresh("less than the lifetime", "Expires", in(h), "Age", "1800"),
			stale("more than the lifetime", "Expires", in(h), "Age", "7200"),
			fresh("an invalid Age", "Expires", in(h), "Age", "-7200"),
			fresh("less, with a fast clock", "Date", in(2*h), "Expires", in(3*h), "Age", "1800"),
			stale("more, with a fast clock", "Date", in(2*h), "Expires", in(3*h), "Age", "7200"),
		}},
	}
}

// dateRows are the grammar of dates, by Expires: what is no date has expired.
func dateRows() []section {
	const h = time.Hour
	good := func(name, date string) row { return fresh(name, "Expires", date) }
	bad := func(name, date string) row { return stale(name, "Expires", date) }
	imf := in(h)
	day := func(layout string) string { return firstDays().Format(layout) }
	return []section{
		{"RFC 9110 §5.6.7 dates", []row{
			good("IMF-fixdate", imf),
			good("RFC 850", dateAs(rfc850, h)),
			good("asctime", dateAs(asctime, h)),
			good("asctime with a day of one digit", day(asctime)),
			good("asctime with a zero instead of the space", strings.Replace(day(asctime), "  ", " 0", 1)),
			good("RFC 850 some years ahead", dateAs(rfc850, 5*365*24*h)),
			stale("RFC 850 in the past", "Expires", dateAs(rfc850, -h)),
			stale("RFC 850 of the last century", "Expires", "Sunday, 06-Nov-94 08:49:37 GMT"),
			stale("asctime in the past", "Expires", dateAs(asctime, -h)),
			good("the 29th of February", "Tue, 29 Feb 2028 12:00:00 GMT"),
		}},
		{"RFC 9111 §4.2 dates are matched in any case", []row{
			good("lower case", strings.ToLower(imf)),
			good("upper case", strings.ToUpper(imf)),
			good("the zone in lower case", strings.Replace(imf, "GMT", "gmt", 1)),
			good("the zone in mixed case", strings.Replace(imf, "GMT", "GmT", 1)),
			good("the day in lower case", strings.ToLower(imf[:3])+imf[3:]),
			good("RFC 850 in lower case", strings.ToLower(dateAs(rfc850, h))),
			good("asctime in upper case", strings.ToUpper(dateAs(asctime, h))),
		}},
		{"RFC 9111 §4.2 zones other than GMT are invalid", []row{
			bad("UTC", strings.Replace(imf, "GMT", "UTC", 1)),
			bad("EST", strings.Replace(in(24*h), "GMT", "EST", 1)),
			bad("AEST", strings.Replace(in(24*h), "GMT", "AEST", 1)),
			bad("Z", strings.Replace(imf, "GMT", "Z", 1)),
			bad("+0000", strings.Replace(imf, "GMT", "+0000", 1)),
			bad("GMT+1", strings.Replace(imf, "GMT", "GMT+1", 1)),
			bad("none", strings.TrimSuffix(imf, " GMT")),
			bad("asctime with a zone", dateAs(asctime, h)+" GMT"),
		}},
		{"RFC 9110 §5.6.7 what is no date", []row{
			bad("a year of two digits", dateAs("Mon, 02 Jan 06 15:04:05 GMT", h)),
			bad("RFC 850 with four digits", dateAs("Monday, 02-Jan-2006 15:04:05 GMT", h)),
			bad("no comma", strings.Replace(imf, ",", "", 1)),
			bad("no space after the comma", strings.Replace(imf, ", ", ",", 1)),
			bad("several spaces after the comma", strings.Replace(imf, ", ", ",  ", 1)),
			bad("several spaces before the time", dateAs("Mon, 02 Jan 2006  15:04:05 GMT", h)),
			bad("several spaces before the zone", dateAs("Mon, 02 Jan 2006 15:04:05  GMT", h)),
			bad("several spaces between day and month", dateAs("Mon, 02  Jan 2006 15:04:05 GMT", h)),
			bad("a tab", strings.Replace(imf, ", ", ",\t", 1)),
			bad("dashes", dateAs("Mon, 02-Jan-2006 15:04:05 GMT", h)),
			bad("periods in the time", dateAs("Mon, 02 Jan 2006 15.04.05 GMT", h)),
			bad("an hour of one digit", firstDays().Format("Mon, 02 Jan 2006 ")+"8:49:37 GMT"),
			bad("a minute of one digit", firstDays().Format("Mon, 02 Jan 2006 ")+"08:4:37 GMT"),
			bad("no seconds", dateAs("Mon, 02 Jan 2006 15:04 GMT", h)),
			bad("a day of one digit", day("Mon, 2 Jan 2006 15:04:05 GMT")),
			bad("no day of the week", dateAs("02 Jan 2006 15:04:05 GMT", h)),
			bad("the whole day of the week", dateAs("Monday, 02 Jan 2006 15:04:05 GMT", h)),
			bad("RFC 850 with a short day of the week", dateAs("Mon, 02-Jan-06 15:04:05 GMT", h)),
			bad("the whole month", dateAs("Mon, 02 January 2006 15:04:05 GMT", 24*31*h)),
			bad("no such month", dateAs("Mon, 02 Foo 2006 15:04:05 GMT", h)),
			bad("no such day of the week", "Foo"+imf[3:]),
			bad("the 30th of February", "Wed, 30 Feb 2028 12:00:00 GMT"),
			bad("the 29th of February of another year", "Thu, 29 Feb 2029 12:00:00 GMT"),
			bad("day 0", "Wed, 00 Jan 2031 12:00:00 GMT"),
			bad("hour 24", dateAs("Mon, 02 Jan 2006 ", 48*h)+"24:00:00 GMT"),
			bad("minute 60", dateAs("Mon, 02 Jan 2006 ", 48*h)+"12:60:00 GMT"),
			bad("second 61", dateAs("Mon, 02 Jan 2006 ", 48*h)+"12:00:61 GMT"),
			bad("ISO 8601", dateAs(time.RFC3339, h)),
			bad("something behind it", imf+" foo"),
			bad("a parameter behind it", imf+"; foo"),
			bad("in quotes", `"`+imf+`"`),
			bad("month before day", dateAs("Mon, Jan 02 2006 15:04:05 GMT", h)),
			bad("asctime with the year before the time", dateAs("Mon Jan _2 2006 15:04:05", h)),
		}},
	}
}

// firstDays is a day of one digit in the next year but one.
func firstDays() time.Time {
	return time.Date(started.Year()+2, time.June, 6, 8, 49, 37, 0, time.UTC)
}
