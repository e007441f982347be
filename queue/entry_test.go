package queue

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// valuesOf returns fields as an entry of a stream has them.
func valuesOf(fields []any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(fields); i += 2 {
		switch v := fields[i+1].(type) {
		case []byte:
			out[fields[i].(string)] = string(v)
		default:
			out[fields[i].(string)] = fmt.Sprint(v)
		}
	}
	return out
}

func TestEntryRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	maybe := func(n int64) int64 {
		if r.IntN(2) == 0 {
			return 0
		}
		return r.Int64N(n)
	}
	text := func() string { return []string{"", "x", "a\x00b\xff", "é"}[r.IntN(4)] }
	for range 500 {
		want := entry{
			id: text(), attempts: int(maybe(100)), accepted: maybe(1 << 50), expires: maybe(1 << 50), notBefore: maybe(1 << 50),
			lastError: text(), lastStatus: int(maybe(600)), order: text(), counted: maybe(1 << 40), size: maybe(maxChunked),
			tracked: r.IntN(2) == 0, copy: text(), frame: []byte(text()),
		}
		got, err := parseEntry(valuesOf(want.fields(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func TestEntryOfAnotherProducer(t *testing.T) {
	e, err := parseEntry(map[string]any{"i": "not ours", "order": "7"})
	if err != nil {
		t.Fatal(err)
	}
	header, body, err := parseFrame(e.frame)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"i": "not ours", "order": "7"}; !cmp.Equal(got, want) || e.id != "" || header["content-type"] != "application/json" {
		t.Errorf("got id %q, header %q, body %q, want no id, JSON of %q", e.id, header, body, want)
	}
}

func TestEntryThatIsGarbage(t *testing.T) {
	tests := map[string]map[string]any{
		"no fields":         {},
		"attempts, a word":  {"i": "id", "a": "many", dataField: ""},
		"expiry, negative":  {"i": "id", "x": "-1", dataField: ""},
		"size, beyond all":  {"i": "id", "n": "18446744073709551616", dataField: ""},
		"size, hostile":     {"i": "id", "n": "9000000000000000000", dataField: ""},
		"accepted, a float": {"i": "id", "t": "1e3", dataField: ""},
	}
	for name, values := range tests {
		e, err := parseEntry(values)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if len(values) > 0 && e.id != "id" {
			t.Errorf("%s: got id %q, want it all the same", name, e.id)
		}
		if e.size > maxChunked {
			t.Errorf("%s: believes in %d bytes", name, e.size)
		}
	}
}
