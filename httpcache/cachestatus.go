package httpcache

import (
	"strconv"
	"time"
)

// CacheStatus is what a cache tells about how it handled a request. RFC 9211, Section 2.
type CacheStatus struct {
	Hit       bool
	Fwd       string // why it was forwarded: a token of RFC 9211, Section 2.2; not with Hit
	FwdStatus int    // the status that came back; 0 is none
	TTL       time.Duration
	HasTTL    bool // TTL is told, in whole seconds, rounded down
	Stored    bool
	Collapsed bool
	Key       string
	Detail    string
}

// Append appends the status as one member of a Cache-Status field, of the cache name, to dst.
func (s CacheStatus) Append(dst []byte, name string) []byte {
	dst = appendTokenOrString(dst, name)
	if s.Hit {
		dst = append(dst, "; hit"...)
	} else if s.Fwd != "" {
		dst = append(dst, "; fwd="...)
		dst = appendTokenOrString(dst, s.Fwd)
		if s.FwdStatus != 0 {
			dst = append(dst, "; fwd-status="...)
			dst = strconv.AppendInt(dst, int64(s.FwdStatus), 10)
		}
	}
	if s.HasTTL {
		dst = append(dst, "; ttl="...)
		dst = strconv.AppendInt(dst, WholeSeconds(s.TTL), 10)
	}
	if s.Stored {
		dst = append(dst, "; stored"...)
	}
	if s.Collapsed {
		dst = append(dst, "; collapsed"...)
	}
	if s.Key != "" {
		dst = append(dst, "; key="...)
		dst = appendString(dst, s.Key)
	}
	if s.Detail != "" {
		dst = append(dst, "; detail="...)
		dst = appendTokenOrString(dst, s.Detail)
	}
	return dst
}

// WholeSeconds returns d in seconds. It rounds down: a response that is stale by a moment has a ttl of -1.
func WholeSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// appendTokenOrString appends s as an sf-token where it is one, else as an sf-string. RFC 9651, Section 3.3.4.
func appendTokenOrString(dst []byte, s string) []byte {
	if s == "" || !isAlpha(s[0]) && s[0] != '*' {
		return appendString(dst, s)
	}
	for i := 1; i < len(s); i++ {
		if !isTokenByte(s[i]) && s[i] != ':' && s[i] != '/' {
			return appendString(dst, s)
		}
	}
	return append(dst, s...)
}

// appendString appends s as an sf-string, which has printable ASCII only: other bytes are percent-encoded.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c > '~':
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func isAlpha(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
