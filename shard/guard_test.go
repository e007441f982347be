package shard

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestReplyScanner: replies are within the bounds, however they are cut.
func TestReplyScanner(t *testing.T) {
	nested := "*1000\r\n" + strings.Repeat("*2\r\n$3\r\nabc\r\n:1\r\n", 1000)
	tests := []struct {
		name, stream string
		ok           bool
	}{
		{"simple", "+OK\r\n-ERR 99999999999999 no\r\n:99999999999\r\n", true},
		{"bulk", "$5\r\n*9999\r\n$-1\r\n*-1\r\n", true},
		{"bulk that looks like a length", "$24\r\n\r\n*1000000000\r\n*90000000\r\n+OK\r\n", true},
		{"nested", strings.Repeat(nested, 3000), true},
		{"array", "*1000000000\r\n", false},
		{"array, more digits than fit", "*99999999999999999999999999\r\n", false},
		{"bulk beyond the bound", "$999999999999\r\n", false},
		{"nested beyond the bound", "*2\r\n*600000\r\n" + strings.Repeat(":1\r\n", 600000) + "*600000\r\n", false},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 7, 4096, len(tt.stream)} {
			var s replyScanner
			ok := true
			for b := []byte(tt.stream); len(b) > 0 && ok; {
				n := min(size, len(b))
				ok, b = s.scan(b[:n]), b[n:]
			}
			if ok != tt.ok {
				t.Errorf("%s, in pieces of %d: got %v, want %v", tt.name, size, ok, tt.ok)
			}
		}
	}
}

// TestReplyTooLarge: C7. A server that announces a reply without bound is
// refused, and costs no memory.
func TestReplyTooLarge(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "*1000000000\r\n")
				c.Read(make([]byte, 1)) //nolint:errcheck // it waits for the end
			}()
		}
	}()
	a, err := ParseAddress("redis://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(a, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	err = n.Client().Get(t.Context(), "k").Err()
	if err == nil || !strings.Contains(err.Error(), errReply.Error()) {
		t.Fatalf("got %v, want %v", err, errReply)
	}
	if got := Classify(t.Context(), err); got != Refused {
		t.Errorf("got %v, want it refused", got)
	}
}
