package queue

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type frameVector struct {
	Name, Dir string
	Raw       []byte `json:"raw_b64"`
	Body      []byte `json:"body_b64"`
	Headers   map[string]string
}

// frameVectors returns what FastStream itself has written and read.
func frameVectors(tb testing.TB) []frameVector {
	tb.Helper()
	text, err := os.ReadFile("testdata/faststream/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var out []frameVector
	if err := json.Unmarshal(text, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// tornHeaders are what two of FastStream's frames hold that it wrote with lengths
// in characters: its own reader loses the second one's headers, and takes the
// whole frame for the body.
var tornHeaders = map[string]map[string]string{
	"nonascii_header_last": {"correlation_id": "cid-1", "content-type": "application/json", "x-name": "Zoë€"},
	"nonascii_header_mid":  {"correlation_id": "cid-1", "content-type": "application/json", "x-name": "Zoë€", "x-b": "2"},
}

func TestFrameReadsWhatFastStreamWritesAndReads(t *testing.T) {
	for _, v := range frameVectors(t) {
		t.Run(v.Dir+" "+v.Name, func(t *testing.T) {
			header, body, err := parseFrame(v.Raw)
			if err != nil {
				t.Fatal(err)
			}
			wantHeader, wantBody := v.Headers, v.Body
			if torn, ok := tornHeaders[v.Name]; ok {
				wantHeader, wantBody = torn, []byte(`{"v":1}`)
			}
			if diff := cmp.Diff(wantHeader, header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if !bytes.Equal(body, wantBody) {
				t.Errorf("got body %q, want %q", body, wantBody)
			}
		})
	}
}

func TestFrameIsWrittenAsFastStreamWritesIt(t *testing.T) {
	for _, v := range frameVectors(t) {
		if v.Dir != "encode" || tornHeaders[v.Name] != nil {
			continue
		}
		// FastStream keeps the order in which the user's headers came.
		if v.Name == "headers" {
			v.Raw = bytes.Replace(v.Raw, []byte("\x00\x03x-a\x00\x01b\x00\x0amessage_id\x00\x03m-7"), []byte("\x00\x0amessage_id\x00\x03m-7\x00\x03x-a\x00\x01b"), 1)
		}
		got, err := appendFrame([]byte("before"), v.Headers, v.Body)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before" + string(v.Raw); string(got) != want {
			t.Errorf("%s: got %q, want %q", v.Name, got, want)
		}
	}
}

func TestFrameRefusesWhatItCannotHold(t *testing.T) {
	many := map[string]string{}
	for i := range 1 << 16 {
		many[string(rune('a'+i%26))+base64.StdEncoding.EncodeToString([]byte{byte(i), byte(i >> 8)})] = ""
	}
	for name, header := range map[string]map[string]string{
		"long name":      {strings.Repeat("n", 1<<16): ""},
		"long value":     {"n": strings.Repeat("v", 1<<16)},
		"name no UTF-8":  {"\xff": ""},
		"value no UTF-8": {"n": "\xc3"},
		"too many":       many,
	} {
		if _, err := appendFrame(nil, header, nil); !errors.Is(err, errHeader) {
			t.Errorf("%s: got %v, want %v", name, err, errHeader)
		}
	}
	longest := map[string]string{strings.Repeat("n", 1<<16-1): strings.Repeat("v", 1<<16-1)}
	frame, err := appendFrame(nil, longest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header, _, err := parseFrame(frame); err != nil || !maps.Equal(header, longest) {
		t.Errorf("the longest header came back otherwise, %v", err)
	}
}

func TestFrameThatIsTornIsAnError(t *testing.T) {
	whole, err := appendFrame(nil, map[string]string{"correlation_id": "c", "x": "é"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for end := frameFixed; end < len(whole); end++ {
		if _, _, err := parseFrame(whole[:end]); !errors.Is(err, errFrame) {
			t.Errorf("cut after %d of %d bytes: got %v, want %v", end, len(whole), err, errFrame)
		}
	}
	for name, change := range map[string]func(b []byte){
		"count beyond body": func(b []byte) { b[13] = 200 },
		"body beyond end":   func(b []byte) { b[14] = 1 },
		"more headers":      func(b []byte) { b[19]++ },
		"a longer name":     func(b []byte) { b[21]++ },
		"no UTF-8":          func(b []byte) { b[22] = 0xff },
	} {
		b := bytes.Clone(whole)
		change(b)
		if header, _, err := parseFrame(b); !errors.Is(err, errFrame) {
			t.Errorf("%s: got %v, %v, want %v", name, header, err, errFrame)
		}
	}
}

func TestFrameRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	// Without NULs: those look like lengths, and can be read in two ways that both
	// end where they should.
	letters := []rune("ab-_é€😀\n\"{")
	text := func(n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	for range 2000 {
		header := map[string]string{}
		for range r.IntN(6) {
			header[text(8)] = text(20)
		}
		if r.IntN(2) == 0 {
			header["correlation_id"], header["content-type"] = text(5), text(5)
		}
		body := make([]byte, r.IntN(100))
		for i := range body {
			body[i] = byte(r.Uint32())
		}
		for writer, frame := range map[string][]byte{"bytes": mustFrame(t, header, body), "characters": runeFrame(header, body)} {
			gotHeader, gotBody, err := parseFrame(frame)
			if err != nil || !maps.Equal(gotHeader, header) || !bytes.Equal(gotBody, body) {
				t.Fatalf("lengths in %s: got %q %q %v, want %q %q", writer, gotHeader, gotBody, err, header, body)
			}
		}
	}
}

func mustFrame(tb testing.TB, header map[string]string, body []byte) []byte {
	tb.Helper()
	frame, err := appendFrame(nil, header, body)
	if err != nil {
		tb.Fatal(err)
	}
	return frame
}

// runeFrame is a frame whose lengths are counts of characters.
func runeFrame(header map[string]string, body []byte) []byte {
	var lengths []byte
	names, _, err := headerNames(nil, "", header)
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		for _, s := range []string{name, header[name]} {
			n := len([]rune(s))
			lengths = append(lengths, byte(n>>8), byte(n))
			lengths = append(lengths, s...)
		}
	}
	data := frameFixed + len(lengths)
	frame := append([]byte(frameMagic), 0, 1, 0, 0, 0, 18, 0, 0, byte(data>>8), byte(data), 0, byte(len(header)))
	return append(append(frame, lengths...), body...)
}

func FuzzFrame(f *testing.F) {
	for _, v := range frameVectors(f) {
		f.Add(v.Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		header, body, err := parseFrame(raw)
		if err != nil {
			return
		}
		if header == nil {
			t.Fatal("a nil header")
		}
		again, err := appendFrame(nil, header, body)
		if err != nil {
			if len(raw) > frameFixed && isFrame(raw) {
				t.Fatalf("what was read from a frame cannot be written: %v", err)
			}
			return
		}
		header2, body2, err := parseFrame(again)
		if err != nil || !maps.Equal(header, header2) || !bytes.Equal(body, body2) {
			t.Fatalf("got %q %q %v, want %q %q", header2, body2, err, header, body)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	header := map[string]string{
		"correlation_id": "01J0000000000000000000000A", "message_id": "01J0000000000000000000000A", "content-type": "application/json",
		"x-fluster-method": "POST", "x-fluster-uri": "/hooks/a?b=1", "x-fluster-host": "hooks.example.com",
	}
	body := make([]byte, 1024)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := appendFrame(nil, header, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	frame := mustFrame(b, header, body)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := parseFrame(frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}
