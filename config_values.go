package fluster

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"
)

// Size is a number of bytes: in JSON a number, or a string like "64MiB" or "off".
type Size struct {
	Bytes uint64
	Off   bool
	Set   bool
}

// ParseSize reads a size as users write it.
func ParseSize(s string) (Size, error) {
	if s == "off" {
		return Size{Off: true, Set: true}, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil {
		return Size{}, fmt.Errorf("%q is not a size like 64MiB", s)
	}
	return Size{Bytes: n, Set: true}, nil
}

// IsZero reports whether s was not given; it keeps s out of JSON.
func (s Size) IsZero() bool { return !s.Set }

// MarshalJSON writes s as a number of bytes, or "off".
func (s Size) MarshalJSON() ([]byte, error) {
	if s.Off {
		return []byte(`"off"`), nil
	}
	return json.Marshal(s.Bytes)
}

// UnmarshalJSON reads a number of bytes or a string as users write it.
func (s *Size) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		var err error
		*s, err = ParseSize(text)
		return err
	}
	s.Set = true
	return json.Unmarshal(b, &s.Bytes)
}

// Blind is a duration or for ever (negative): in JSON a duration or "forever".
type Blind time.Duration

// ParseBlind reads a max_blind as users write it.
func ParseBlind(s string) (Blind, error) {
	if s == "forever" {
		return -1, nil
	}
	d, err := caddy.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is neither a duration like 1m nor forever", s)
	}
	return Blind(d), nil
}

// MarshalJSON writes b as a duration or "forever".
func (b Blind) MarshalJSON() ([]byte, error) {
	if b < 0 {
		return []byte(`"forever"`), nil
	}
	return json.Marshal(time.Duration(b).String())
}

// UnmarshalJSON reads a duration, a number of nanoseconds or "forever".
func (b *Blind) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		var err error
		*b, err = ParseBlind(text)
		return err
	}
	var n int64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("%d is neither a duration like 1m nor forever", n)
	}
	*b = Blind(n)
	return nil
}
