package shard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// valueOf is the value of a key in this test, of a length that depends on the key.
func valueOf(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%04d", i), 1+i*29) // 4 B to 23 KB
}

// Memory that is lent is nobody else's until all who have the value have given it
// back. Some do at once, some late, some never; some keep a copy; and some have
// given up waiting.
func TestLentValuesAreNobodyElses(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	ctx := context.Background()
	server := redistest.Start(t)
	n, _ := open(t, server.URL(), Options{Timeout: 20 * time.Second})
	const keys = 200
	for i := range keys {
		if err := n.Client().Set(ctx, fmt.Sprint(i), valueOf(i), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lent := make(chan bool, 1)
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 300 {
				i := r.IntN(keys)
				if r.IntN(3) == 0 {
					i = 40 + r.IntN(2) // which several have at a time
				}
				ctx, cancel := context.WithCancel(ctx)
				if r.IntN(10) == 0 {
					time.AfterFunc(time.Duration(r.IntN(300))*time.Microsecond, cancel)
				}
				v, beside, err := n.Borrow(ctx, fmt.Sprint(i), "1")
				cancel()
				if errors.Is(err, context.Canceled) {
					continue
				}
				for range 1 + r.IntN(4) {
					if err != nil || !bytes.Equal(v.Bytes, valueOf(i)) || !bytes.Equal(beside, valueOf(1)) {
						t.Errorf("Borrow(%d) = %.20q (%d bytes), %.20q, %v; want its value and what is beside it", i, v.Bytes, len(v.Bytes), beside, err)
						return
					}
					runtime.Gosched()
				}
				switch r.IntN(4) {
				case 0: // never
				case 1:
					if own := v.Own(); !bytes.Equal(own, valueOf(i)) {
						t.Errorf("Own() of %d = %.20q", i, own)
					}
				default:
					if v.Loan != nil {
						select {
						case lent <- true:
						default:
						}
					}
					v.Loan.Return()
				}
			}
		})
	}
	wg.Wait()
	if len(lent) == 0 {
		t.Error("no value was lent")
	}
}

// What a server replies to an MGET, whole and in parts, and what becomes of it.
func TestMGETReplies(t *testing.T) {
	long := strings.Repeat("x", 600)
	tests := []struct {
		reply string
		want  []string // "-" is no value
		err   string
	}{
		{reply: "*2\r\n$3\r\nabc\r\n$-1\r\n", want: []string{"abc", "-"}},
		{reply: "*2\r\n_\r\n$0\r\n\r\n", want: []string{"-", ""}},
		{reply: "*2\r\n$4\r\na\r\nb\r\n$600\r\n" + long + "\r\n", want: []string{"a\r\nb", long}},
		{reply: "-LOADING Redis is loading the dataset in memory\r\n", err: "LOADING Redis is loading the dataset in memory"},
		{reply: "*1\r\n$3\r\nabc\r\n", err: `shard: "*1" in reply to an MGET of 2 keys`},
		{reply: "*3\r\n$-1\r\n$-1\r\n$-1\r\n", err: `shard: "*3" in reply to an MGET of 2 keys`},
		{reply: ":1\r\n", err: `shard: ":1" in reply to an MGET of 2 keys`},
		{reply: "+OK\r\n", err: `shard: "+OK" in reply to an MGET of 2 keys`},
		{reply: "*2\r\n:1\r\n$1\r\na\r\n", err: `shard: ":1" in reply to an MGET`},
		{reply: "*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n", err: `shard: "*1" in reply to an MGET`},
		{reply: "*2\r\n*0\r\n$1\r\nb\r\n", err: `shard: "*0" in reply to an MGET`},
		{reply: "*2\r\n-ERR no such backend\r\n$1\r\na\r\n", want: []string{"-", "a"}},
		{reply: "*2\r\n$600\r\n" + long[:500], err: "unexpected EOF"},
		{reply: "*2\r\n$1\r\na\r\n", err: "EOF"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.40q", tt.reply), func(t *testing.T) {
			got, err := readValues(t.Context(), replying(t, tt.reply), []any{"mget", "a", "b"}, []int32{1, 1})
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				var reply redis.Error
				if isReply := errors.As(err, &reply); isReply != strings.HasPrefix(tt.reply, "-") {
					t.Errorf("%v: taken for the server's word: %v", err, isReply)
				}
				return
			}
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("%d values, %v; want %d", len(got), err, len(tt.want))
			}
			for i, want := range tt.want {
				if v := got[i].Bytes; (v == nil) != (want == "-") || v != nil && string(v) != want {
					t.Errorf("value %d is %q, want %q", i, v, want)
				}
			}
		})
	}
}

// A connection on which a reply came that is none to an MGET is given up, as the
// answer may yet come; one on which the server said what is wrong is kept, or is not,
// as with any command of go-redis.
func TestConnectionsAfterMGETReplies(t *testing.T) {
	tests := []struct {
		reply  string // $addr: where the server is
		giveUp bool
	}{
		{"*2\r\n$1\r\na\r\n$-1\r\n", false},
		{"-LOADING Redis is loading the dataset in memory\r\n", false},
		{"-NOAUTH Authentication required.\r\n", false},
		{"-MOVED 1 127.0.0.1:1\r\n", false},
		{"-MOVED 1 $addr\r\n", true},
		{"-READONLY You can't write against a read only replica.\r\n", true},
		{"+OK\r\n", true},
		{":1\r\n", true},
		{"*-1\r\n", true},
		{"*1\r\n$3\r\nabc\r\n", true},
		{"*2\r\n:1\r\n$1\r\na\r\n", true},
		{"*2\r\n-ERR no\r\n$1\r\na\r\n", false},
		{"|1\r\n+a\r\n+b\r\n*2\r\n$1\r\na\r\n$-1\r\n", true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.40q", tt.reply), func(t *testing.T) {
			client, asked := numbering(t, tt.reply)
			read := func() error {
				_, err := readValues(t.Context(), client, []any{"mget", "a", "b"}, []int32{1, 1})
				return err
			}
			if err := read(); (err == nil) != (tt.reply[0] == '*' && !tt.giveUp) {
				t.Fatalf("first: %v", err)
			}
			if err := read(); err != nil {
				t.Fatalf("second: %v", err)
			}
			first, second := <-asked, <-asked
			if gaveUp := first != second; gaveUp != tt.giveUp {
				t.Errorf("asked first on connection %d, then on %d; given up %v, want %v", first, second, gaveUp, tt.giveUp)
			}
			if tt.reply[0] != '-' {
				return
			}
			client, asked = numbering(t, tt.reply)
			for range 2 {
				client.MGet(t.Context(), "a", "b")
			}
			if first, second := <-asked, <-asked; (first != second) != tt.giveUp {
				t.Errorf("go-redis itself asks first on connection %d, then on %d", first, second)
			}
		})
	}
}

// numbering returns a client of a server that replies so to the first MGET, and with
// two values to each that follows, and the numbers of the connections that they come on.
func numbering(t *testing.T, reply string) (redis.UniversalClient, <-chan int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	reply = strings.ReplaceAll(reply, "$addr", l.Addr().String())
	asked := make(chan int, 10)
	replies := make(chan string, 10)
	replies <- reply
	for range 9 {
		replies <- "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
	}
	go func() {
		for number := 1; ; number++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, func() string {
				asked <- number
				return <-replies
			})
		}
	}()
	return clientOf(t, l), asked
}

// answer answers each MGET on a connection, until that ends; to what else comes, it
// says that it does not know that.
func answer(c net.Conn, mget func() string) {
	defer c.Close()
	for buf := make([]byte, 4<<10); ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("mget")) {
			io.WriteString(c, mget()) //nolint:errcheck // the client will say
			continue
		}
		io.WriteString(c, strings.Repeat("-ERR unknown command\r\n", bytes.Count(buf[:n], []byte("*")))) //nolint:errcheck // likewise
	}
}

// clientOf returns a client of what listens there.
func clientOf(t *testing.T, l net.Listener) redis.UniversalClient {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), DialTimeout: 20 * time.Second, ReadTimeout: 20 * time.Second,
		Protocol: 2, MaxRetries: -1, DisableIdentity: true, PoolSize: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// replying returns a client of a server that replies so to each MGET, and then ends
// the connection; to what comes before, it says that it does not know that.
func replying(t *testing.T, reply string) redis.UniversalClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for buf := make([]byte, 4<<10); ; {
			n, err := c.Read(buf)
			switch {
			case err != nil:
				return
			case bytes.Contains(buf[:n], []byte("mget")):
				io.WriteString(c, reply) //nolint:errcheck // the client will say
				return
			}
			io.WriteString(c, strings.Repeat("-ERR unknown command\r\n", bytes.Count(buf[:n], []byte("*")))) //nolint:errcheck // likewise
		}
	}()
	return clientOf(t, l)
}
