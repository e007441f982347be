package conformance

import "time"

// The layouts of RFC 9110, Section 5.6.7.
const (
	imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"
	rfc850     = "Monday, 02-Jan-06 15:04:05 GMT"
	asctime    = "Mon Jan _2 15:04:05 2006"
)

// started is when the table was made. A run takes much less than the margins of
// all rows that compare dates.
var started = time.Now().UTC()

// in is the date so much after the start, or before it where d is negative.
func in(d time.Duration) string { return dateAs(imfFixdate, d) }

// dateAs is that date in another layout.
func dateAs(layout string, d time.Duration) string { return started.Add(d).Format(layout) }
