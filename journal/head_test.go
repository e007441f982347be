package journal

import "testing"

func TestParseHead(t *testing.T) {
	good := Head{Inc: 0xa1, Seq: 42, Nonce: 0xffffffffffffffff}
	if got, ok := ParseHead(good.String()); !ok || got != good {
		t.Errorf("ParseHead(%q): got %v, %v", good.String(), got, ok)
	}
	for _, s := range []string{
		"", "x", "00000000000000a1:42", "a1:42:00000000000000a1",
		"00000000000000a1:0:00000000000000a1", "0000000000000000:1:00000000000000a1",
		"00000000000000a1:-1:00000000000000a1", "00000000000000a1:9007199254740993:00000000000000a1",
		"00000000000000g1:1:00000000000000a1", "00000000000000a1:1:00000000000000a1:", "+0000000000000a1:1:00000000000000a1",
	} {
		if h, ok := ParseHead(s); ok {
			t.Errorf("ParseHead(%q): got %v, want refused", s, h)
		}
	}
}
