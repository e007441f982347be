package shard

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// dialFunc is the shape of go-redis's Dialer option.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// keepAlive finds out within a minute that the host at the other end is gone;
// a subscription, which may be silent for long, would not notice otherwise.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 4}

// newDialer returns a function that connects by plain TCP or a Unix socket, or
// by TLS over it if config is not nil, and takes no longer than timeout (to
// which go-redis would not hold it for a subscription). Its failures show at the
// first use of the connection, see undialed. The connections are noted in open.
func newDialer(config *tls.Config, timeout time.Duration, open *conns) dialFunc {
	dialer := &net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	dial := dialer.DialContext
	if config != nil {
		dial = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			// Wrapped once more: of an error in the handshake go-redis unwraps one
			// layer, and "dial tcp 10.0.0.1:6379" is worth to be kept.
			return undialed{fmt.Errorf("connecting: %w", err)}, nil
		}
		return guard(conn, open), nil
	}
}

// An undialed is a connection that did not come about; every read and write
// says why.
//
// It exists because of what go-redis's pool does with a dialer's error: it
// prints it to stderr, and after as many as the pool has connections, over the
// whole life of the client, it answers with the last error instead of dialing,
// and sleeps for a second between its own tries, in a goroutine that outlives
// the client. A node that is back would be refused by us for another second,
// and its penalty would grow. With this the handshake fails with the same
// error, the connection is dropped, and the next command dials again: when to
// leave a node alone is the caller's to decide, by Availability. (Where sentinels
// are asked for the address first, their failure still goes go-redis's way.)
type undialed struct{ err error }

func (u undialed) Read([]byte) (int, error)         { return 0, u.err }
func (u undialed) Write([]byte) (int, error)        { return 0, u.err }
func (u undialed) Close() error                     { return nil }
func (u undialed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (u undialed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (u undialed) SetDeadline(time.Time) error      { return nil }
func (u undialed) SetReadDeadline(time.Time) error  { return nil }
func (u undialed) SetWriteDeadline(time.Time) error { return nil }
