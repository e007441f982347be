package fluster

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-fluster/caddy-fluster/httpcache"
	"github.com/caddy-fluster/caddy-fluster/queue"
)

// What a message says of the request that it was. Other programs may leave all
// of them out: a message without a method is delivered as POST /.
const (
	headerMethod   = "x-fluster-method"
	headerURI      = "x-fluster-uri"    // path and query, as they were sent
	headerHost     = "x-fluster-host"   // the Host field
	headerScheme   = "x-fluster-scheme" // https; absent: http
	headerAccepted = "x-fluster-accepted"
	headerRemote   = "x-fluster-remote" // the client's address
	headerStatus   = "x-fluster-status" // of a response
	// headerExact holds what a header of text with one value a name cannot: fields
	// with several values, values that are not UTF-8, names that mean something
	// else in a message. JSON, [[name, value in base64], …].
	headerExact = "x-fluster-exact"
)

// The names that FastStream gives a meaning.
const (
	headerCorrelation = "correlation_id"
	headerMessageID   = "message_id"
	headerReplyTo     = "reply_to"
)

// exactURI stands in headerExact for a URI that is not UTF-8. No field can have that name.
const exactURI = ":path"

// maxFields bounds what is kept of a request beside its body, in bytes. A frame
// has room for 65535 a value.
const maxFields = 60 << 10

// maxResponse bounds the response bodies that are kept or sent back.
const maxResponse = 1 << 20

// errFieldsTooLarge: the header is longer than maxFields.
var errFieldsTooLarge = errors.New("the header fields are too large")

// messageOf makes a message of a request; its body is the caller's to add. keep
// reports whether a field, by its canonical name, is kept.
func messageOf(r *http.Request, keep func(name string) bool, accepted time.Time) (*queue.Message, error) {
	header := make(map[string]string, len(r.Header)+5)
	header[headerMethod] = r.Method
	header[headerHost] = r.Host
	header[headerAccepted] = accepted.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	if r.TLS != nil {
		header[headerScheme] = "https"
	}
	if remote := clientIP(r); remote != "" {
		header[headerRemote] = remote
	}
	var exact exactFields
	if uri := requestURI(r); utf8.ValidString(uri) {
		header[headerURI] = uri
	} else {
		exact.add(exactURI, uri)
	}
	addFields(header, &exact, r.Header, keep)
	if err := exact.put(header); err != nil {
		return nil, err
	}
	return &queue.Message{Header: header}, nil
}

// responseHeader is the header of a message that is a response.
func responseHeader(status int, h http.Header) map[string]string {
	header := make(map[string]string, len(h)+2)
	header[headerStatus] = strconv.Itoa(status)
	var exact exactFields
	addFields(header, &exact, h, func(string) bool { return true })
	if exact.put(header) != nil {
		// The fields of a response are worth less than that there is one.
		return map[string]string{headerStatus: strconv.Itoa(status), "content-type": h.Get("Content-Type")}
	}
	return header
}

// addFields puts fields into a message's header, or into exact.
func addFields(header map[string]string, exact *exactFields, h http.Header, keep func(name string) bool) {
	named := httpcache.ConnectionOptions(h)
	for name, values := range h {
		canonical := http.CanonicalHeaderKey(name)
		if httpcache.IsHopByHop(name) || slices.Contains(named, name) || isNeverKept(canonical) || !keep(canonical) {
			continue
		}
		lower := strings.ToLower(name)
		if len(values) == 1 && name == canonical && utf8.ValidString(values[0]) && !isReserved(lower) {
			header[lower] = values[0]
			continue
		}
		for _, v := range values {
			exact.add(name, v)
		}
	}
	slices.SortStableFunc(*exact, func(a, b exactField) int { return strings.Compare(a.name, b.name) })
}

// isNeverKept reports whether a field is about this hop or for this queue
// alone, or said by other means.
func isNeverKept(canonical string) bool {
	switch canonical {
	case "Content-Length", "Host", "Expect", "Prefer", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(canonical, "Fluster-")
}

// isReserved reports whether a name in a message's header means something else
// than the field: a client must not choose where its response is published.
func isReserved(lower string) bool {
	return lower == headerCorrelation || lower == headerMessageID || lower == headerReplyTo || strings.HasPrefix(lower, "x-fluster-")
}

// exactFields are the fields that would not arrive as they are from a map of names in
// lower case to text: several lines of one, other spellings, other bytes.
type exactFields []exactField

// exactField is a line of a header, to the byte.
type exactField struct {
	name  string
	value []byte
}

func (e *exactFields) add(name, value string) { *e = append(*e, exactField{name, []byte(value)}) }

// MarshalJSON writes [name, value in base64].
func (f exactField) MarshalJSON() ([]byte, error) { return json.Marshal([]any{f.name, f.value}) }

// UnmarshalJSON reads it.
func (f *exactField) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("%d members instead of a name and a value", len(pair))
	}
	return errors.Join(json.Unmarshal(pair[0], &f.name), json.Unmarshal(pair[1], &f.value))
}

// put puts e into the header, and checks that the header has not become too large.
func (e exactFields) put(header map[string]string) error {
	if len(e) > 0 {
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("writing header fields: %w", err)
		}
		header[headerExact] = string(b)
	}
	total := 0
	for name, value := range header {
		total += len(name) + len(value)
	}
	if total > maxFields {
		return errFieldsTooLarge
	}
	return nil
}

// requestURI returns path and query of a request as the client sent them, or as
// handlers before this one have changed them.
func requestURI(r *http.Request) string {
	uri := r.URL.RequestURI()
	if uri == r.RequestURI || !strings.HasPrefix(r.RequestURI, "/") {
		return uri
	}
	// The same path may be written in several ways; only the client's is exact.
	if sent, err := url.ParseRequestURI(r.RequestURI); err == nil && sent.Path == r.URL.Path && sent.RawQuery == r.URL.RawQuery {
		return r.RequestURI
	}
	return uri
}

// clientIP is the client's address as Caddy knows it, behind trusted proxies too.
func clientIP(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// requestOf makes a request of a delivery, as it was when it was accepted. Its
// body is open. The message is from anybody who can write to a node: what no
// HTTP request can have is an error, or left out where it is a field.
func requestOf(d *queue.Delivery) (*http.Request, error) {
	exact, err := exactOf(d.Header)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: d.Header[headerMethod], Host: d.Header[headerHost], RequestURI: d.Header[headerURI],
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(d.Header)), ContentLength: d.Size,
		RemoteAddr: remoteAddr(d.Header[headerRemote]),
	}
	isForeign := r.Method == ""
	if isForeign {
		r.Method = http.MethodPost
	}
	for _, f := range exact {
		if f.name == exactURI {
			r.RequestURI = string(f.value)
		}
	}
	if r.RequestURI == "" {
		r.RequestURI = "/"
	}
	if !httpguts.ValidHeaderFieldName(r.Method) || !httpguts.ValidHostHeader(r.Host) {
		return nil, errors.New("the message's method or host is none")
	}
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil || r.RequestURI[0] != '/' && r.RequestURI != "*" {
		return nil, errors.New("the message's URI is none")
	}
	if d.Header[headerScheme] == "https" {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, ServerName: hostname(r.Host)}
	}
	readFields(r.Header, d.Header, exact)
	if c := d.Header[headerCorrelation]; isForeign && c != "" && c != d.ID && httpguts.ValidHeaderFieldValue(c) {
		r.Header.Set("Correlation-Id", c)
	}
	switch {
	case d.Size == 0:
		r.Body = http.NoBody
	case int64(len(d.Body)) == d.Size:
		r.Body = io.NopCloser(bytes.NewReader(d.Body))
	default:
		r.Body = d.Open()
	}
	return r, nil
}

// responseOf returns what a message that is a response says. One of another
// program has status 200.
func responseOf(m *queue.Response) (status int, h http.Header, body []byte, err error) {
	exact, err := exactOf(m.Header)
	if err != nil {
		return 0, nil, nil, err
	}
	status = http.StatusOK
	if s := m.Header[headerStatus]; s != "" {
		if status, err = strconv.Atoi(s); err != nil || status < 200 || status > 999 {
			return 0, nil, nil, errors.New("the response's status is none")
		}
	}
	h = make(http.Header, len(m.Header))
	readFields(h, m.Header, exact)
	return status, h, m.Body, nil
}

// exactOf reads what addFields could not say otherwise.
func exactOf(header map[string]string) (exact exactFields, err error) {
	text := header[headerExact]
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &exact); err != nil {
		return nil, fmt.Errorf("reading the message's header fields: %w", err)
	}
	return exact, nil
}

// readFields is addFields the other way. What cannot be a field is left out, and
// so is what would be about the connection.
func readFields(h http.Header, header map[string]string, exact exactFields) {
	for name, value := range header {
		if !isReserved(name) && httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) {
			h[http.CanonicalHeaderKey(name)] = []string{value}
		}
	}
	for _, f := range exact {
		if httpguts.ValidHeaderFieldName(f.name) && httpguts.ValidHeaderFieldValue(string(f.value)) {
			h[f.name] = append(h[f.name], string(f.value))
		}
	}
	kept := httpcache.EndToEnd(h)
	for name := range h {
		if _, ok := kept[name]; !ok || isNeverKept(http.CanonicalHeaderKey(name)) {
			delete(h, name)
		}
	}
}

// remoteAddr is a request's RemoteAddr for a client's address. One that is not
// known is empty: then reverse_proxy leaves X-Forwarded-For away, and no matcher of
// addresses takes it for a friend.
func remoteAddr(ip string) string {
	if _, err := netip.ParseAddr(ip); err != nil {
		return ""
	}
	return net.JoinHostPort(ip, "0")
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}
