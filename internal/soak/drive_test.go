package soak

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// drive asks for another URL each time, over some connections at once, for so
// long or until there are no more URLs. Requests go out in batches, as the
// client is to cost little.
func drive(addr string, length time.Duration, name string) error {
	const batch = 32
	deadline := time.Now().Add(length)
	var asked atomic.Int64
	errs := make([]error, asking)
	var wg sync.WaitGroup
	for i := range asking {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close() //nolint:errcheck // all was read
			r, out := bufio.NewReaderSize(conn, 64<<10), []byte(nil)
			for time.Now().Before(deadline) {
				n := asked.Add(batch)
				if n > urls {
					return
				}
				out = out[:0]
				for j := range int64(batch) {
					out = fmt.Appendf(out, "GET /%s/%d HTTP/1.1\r\nHost: soak.test\r\n\r\n", name, n+j)
				}
				if _, err := conn.Write(out); err != nil {
					errs[i] = err
					return
				}
				for range batch {
					if errs[i] = skipAnswer(r); errs[i] != nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// skipAnswer reads a response with status 200 and a Content-Length to its end.
func skipAnswer(r *bufio.Reader) error {
	first, length := "", -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch value, ok := strings.CutPrefix(text, "Content-Length: "); {
		case first == "":
			first = text
		case ok:
			if length, err = strconv.Atoi(value); err != nil {
				return err
			}
		case text == "":
			if !strings.Contains(first, " 200 ") || length < 0 {
				return fmt.Errorf("got %q with a length of %d, want 200 and a length", first, length)
			}
			_, err := io.CopyN(io.Discard, r, int64(length))
			return err
		}
	}
}
