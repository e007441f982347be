package httpcache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Times are when a request was sent on and when the head of its response came. RFC 9111, Section 4.2.3.
type Times struct{ Sent, Received time.Time }

// Terms are what may be done with a stored response, decided once when it is stored so that a hit only compares
// instants. Instants are Unix milliseconds, windows milliseconds.
type Terms struct {
	Received   int64 // response_time: when its head came, or that of its last validation
	Born       int64 // when its age was zero: Received less the corrected_initial_age of RFC 9111, Section 4.2.3
	FreshUntil int64 // Born and its freshness lifetime: from this instant on it is stale

	// StaleWhileRevalidate and StaleIfError are the windows of RFC 5861 after FreshUntil. 0 is none.
	StaleWhileRevalidate, StaleIfError int64

	Flags Flags
}

// Flags are what a response says about its use, each a bit. Their values are part of the stored format.
type Flags uint16

// The flags of a stored response.
const (
	// MustRevalidate: it is not used stale, but in the windows of Terms: must-revalidate, proxy-revalidate, s-maxage.
	MustRevalidate Flags = 1 << iota
	// NoCache: it is validated before each use.
	NoCache
	// HasValidator: it has an entity tag or a date of modification to validate it by.
	HasValidator
	// Immutable: while fresh, it does not change (RFC 8246).
	Immutable
	// HeuristicLifetime: its freshness was guessed (RFC 9111, Section 4.2.2).
	HeuristicLifetime
	// ConfiguredLifetime: its freshness is that of Policy.TTL.
	ConfiguredLifetime
	// BoundedError: StaleIfError was named, and is the limit for use after an error even where it is 0.
	BoundedError
	// Partial: it is a 206 (Partial Content).
	Partial
	// Recoded: it was compressed on its way into the cache. Compressing it again may give other bytes, so that parts of it
	// are of no use.
	Recoded
	// Untyped: its handler has forbidden to guess a Content-Type where it knew none.
	Untyped
)

// Has reports whether all bits of g are set in f.
func (f Flags) Has(g Flags) bool { return f&g == g }

// Age returns the current_age of the response (RFC 9111, Section 4.2.3), never negative.
func (t *Terms) Age(now time.Time) time.Duration {
	return time.Duration(max(0, now.UnixMilli()-t.Born)) * time.Millisecond
}

// TTL returns how long the response is still fresh; it is negative for a stale one.
func (t *Terms) TTL(now time.Time) time.Duration {
	return time.Duration(t.FreshUntil-now.UnixMilli()) * time.Millisecond
}

// AppendAge appends the value of an Age field to dst: whole seconds, at most 2³¹.
func AppendAge(dst []byte, age time.Duration) []byte {
	return strconv.AppendInt(dst, min(max(0, int64(age/time.Second)), maxDelta), 10)
}

// parseAge returns the age_value of a response, in seconds. RFC 9111, Section 5.1: of a list the first member counts,
// and what is no number of seconds is ignored.
func parseAge(h http.Header) int64 {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	seconds, _ := parseDelta(strings.Trim(first, " \t"))
	return seconds
}

// correctedInitialAge returns the age, in milliseconds, that the response had when its head came, by the formulas of
// RFC 9111, Section 4.2.3. Dates have whole seconds, so does apparent_age; response_delay is taken as exactly as it is
// known.
func correctedInitialAge(h http.Header, t Times) int64 {
	apparent := int64(0)
	if date, ok := dateField(h, "Date", t.Received); ok {
		apparent = max(0, t.Received.Unix()-date.Unix()) * 1000
	}
	delay := max(0, t.Received.UnixMilli()-t.Sent.UnixMilli())
	return max(apparent, parseAge(h)*1000+delay)
}
