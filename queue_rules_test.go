package fluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
)

func TestReadPreferences(t *testing.T) {
	for _, test := range []struct {
		lines   []string
		want    preferences
		applied string
	}{
		{nil, preferences{}, ""},
		{[]string{"respond-async"}, preferences{async: true}, "respond-async"},
		{[]string{"Respond-Async , WAIT = 5"}, preferences{async: true, wait: 5 * time.Second}, "respond-async, wait=5"},
		{[]string{"wait=5; x=y, respond-async; foo"}, preferences{async: true, wait: 5 * time.Second}, "respond-async, wait=5"},
		{[]string{"foo=\"a, respond-async\", wait=\"7\""}, preferences{wait: 7 * time.Second}, "wait=7"},
		{[]string{`foo="a\", respond-async"`, `bar="\", respond-async, wait=3"`}, preferences{}, ""},
		{[]string{"return=minimal", "respond-async"}, preferences{async: true}, "respond-async"},
		{[]string{"wait=1, wait=9"}, preferences{wait: time.Second}, "wait=1"},
		{[]string{"wait=x, wait=9"}, preferences{}, ""}, // the first counts, and is none
		{[]string{"wait=-1"}, preferences{}, ""},
		{[]string{"wait=99999999999999999999"}, preferences{}, ""},
		{[]string{"wait=0"}, preferences{}, ""},
		{[]string{"respond-async=no"}, preferences{}, ""},
		{[]string{`respond-async=""`}, preferences{async: true}, "respond-async"},
		{[]string{`", ,;=,"\`}, preferences{}, ""},
		{[]string{",,,respond-async,"}, preferences{async: true}, "respond-async"},
		{[]string{"respond-asynchronously"}, preferences{}, ""},
	} {
		got := readPreferences(http.Header{"Prefer": test.lines})
		if got != test.want || got.applied() != test.applied {
			t.Errorf("%q: got %+v %q, want %+v %q", test.lines, got, got.applied(), test.want, test.applied)
		}
	}
}

func TestPreferencesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "p%d, ", i)
	}
	if p := readPreferences(http.Header{"Prefer": {b.String() + "respond-async"}}); p.async {
		t.Error("the 1001st preference was read")
	}
}

func TestTemplatesWithoutValuesAreEmpty(t *testing.T) {
	repl := caddy.NewEmptyReplacer()
	repl.Set("a", "1")
	for text, want := range map[string]string{"": "", "{a}": "1", "{b}": "", "x{b}-{c}": "", "x{b}-{a}": "", "x{a}-{a}": "x1-1", "x": "x", "{b": "{b"} {
		if got := newTemplate(text).value(repl); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseAhead(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"90s": "1m30s", "1d": "24h0m0s", "30": "30s", "0": "0s",
		"2026-03-01T12:00:05Z": "5s", "2026-03-01T13:00:05+01:00": "5s", "Sun, 01 Mar 2026 12:01:00 GMT": "1m0s",
		"2026-03-01T11:00:00Z": "0s", "2028-01-01T00:00:00Z": "error", "-1s": "error", "soon": "error", "": "error", "367d": "error", "1e9": "error",
	} {
		got := "error"
		if d, err := parseAhead(text, now); err == nil {
			got = d.String()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestFieldFilter(t *testing.T) {
	for words, want := range map[string]string{
		"":                   "Accept Cookie X-A X-Ab",
		"-cookie -x-*":       "Accept",
		"Accept x-a":         "Accept X-A",
		"X-A*":               "X-A X-Ab",
		"-Cookie":            "Accept X-A X-Ab",
		"*":                  "error",
		"X*A":                "error",
		"Accept -Cookie":     "error",
		"-Cookie Accept":     "error",
		"-":                  "error",
		"-Bad Header Name: ": "error",
	} {
		keep, err := newFieldFilter(strings.Fields(words))
		if err != nil {
			if want != "error" {
				t.Errorf("%q: %v", words, err)
			}
			continue
		}
		var kept []string
		for _, name := range []string{"Accept", "Cookie", "X-A", "X-Ab"} {
			if keep(name) {
				kept = append(kept, name)
			}
		}
		if got := strings.Join(kept, " "); got != want {
			t.Errorf("%q: got %q, want %q", words, got, want)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"01J9Z": true, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W": true, `a/b?c#d"\%`: true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "a:b": false, "a~b": false, "{a": false, "a}": false, "é": false, "a\x00": false, "a\x7f": false, "\xff": false,
	} {
		if got := isMessageID(id); got != want {
			t.Errorf("%q: got %v", id, got)
		}
	}
}

func TestSplit(t *testing.T) {
	for name, test := range map[string]struct {
		lines, array string // "": not tried
		want         []string
	}{
		"values":      {"{\"a\":1}\n[2]\r\n\n  \"3\"", `[ {"a":1}, [2] ,"3"]`, []string{`{"a":1}`, "[2]", `"3"`}},
		"as written":  {"{ \"a\" : 1e2 }", `[{ "a" : 1e2 }]`, []string{`{ "a" : 1e2 }`}},
		"none":        {"\n\n", "[]", nil},
		"not JSON":    {"{}\n{", `[{}, {]`, []string{"error"}},
		"more behind": {"", "[1] [2]", []string{"error"}},
		"too many":    {"1\n2\n3\n4", "[1,2,3,4]", []string{"many"}},
		"the most":    {"1\n2\n3\n", "[1,2,3]", []string{"1", "2", "3"}},
	} {
		for kind, input := range map[string]string{"lines": test.lines, "array": test.array} {
			if input == "" {
				continue
			}
			split := splitLines
			if kind == "array" {
				split = splitArray
			}
			items, err := split([]byte(input), 3)
			var got []string
			for _, i := range items {
				got = append(got, string(i))
			}
			if err == errManyItems {
				got = []string{"many"}
			} else if err != nil {
				got = []string{"error"}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s as %s (-want +got):\n%s", name, kind, diff)
			}
		}
	}
}

func TestItemMembers(t *testing.T) {
	item := &batchItem{raw: []byte(`{"s":"a\"b","n":12.50,"o":{"x": 1},"z":null}`)}
	for name, want := range map[string]string{"s": `a"b`, "n": "12.50", "o": `{"x": 1}`, "z": "", "none": ""} {
		if got := item.member(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := (&batchItem{raw: []byte(`[1]`)}).member("0"); got != "" {
		t.Errorf("of an array: got %q", got)
	}
}

func TestQueueIsBare(t *testing.T) {
	for text, want := range map[string]bool{`{"name":"a"}`: true, `{"name":"a","methods":["POST"]}`: false, `{"name":"a","attempts":3}`: false, `{"name":"a","max_body":5}`: false} {
		var q Queue
		if err := json.Unmarshal([]byte(text), &q); err != nil {
			t.Fatal(err)
		}
		if got := q.isBare(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
