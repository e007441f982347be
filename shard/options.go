package shard

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// defaultTimeout is the time-out where Options name none.
const defaultTimeout = 100 * time.Millisecond

// Options are what the nodes of a pool have in common.
type Options struct {
	// Username and Password are for the servers. Those in a node's URL win.
	Username, Password string
	// TLS is how to speak TLS. Nil: plainly, except to a rediss:// URL, which is
	// verified by the system's roots. Not used on Unix sockets.
	TLS *tls.Config
	// Timeout is the longest that one operation may take, dialing, handshake and
	// waiting for a free connection included. 0 means 100 ms.
	Timeout time.Duration
	// ClientName is what CLIENT LIST shows. Empty: none.
	ClientName string
}

func (o Options) timeout() (time.Duration, error) {
	switch {
	case o.Timeout < 0:
		return 0, errors.New("shard: the timeout must not be negative")
	case o.Timeout == 0:
		return defaultTimeout, nil
	}
	return o.Timeout, nil
}

// config returns the TLS configuration for an address, or nil.
func (o Options) config(a Address) *tls.Config {
	switch {
	case a.network() == "unix":
		return nil
	case o.TLS != nil:
		return o.TLS
	case a.TLS:
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return nil
}

// credentials returns who to log in as at an address.
func (o Options) credentials(a Address) (username, password string) {
	if a.username != "" || a.password != "" {
		return a.username, a.password
	}
	return o.Username, o.Password
}

// redisOptions returns what all of a node's clients have in common. Their connections are
// noted in open.
func redisOptions(addrs []Address, o Options, timeout time.Duration, open *conns) *redis.UniversalOptions {
	username, password := o.credentials(addrs[0])
	// A dial may outlive the operation that wanted it, so that the next one finds
	// a connection even if dialing takes longer than the time-out; but not for long.
	dialTimeout := max(250*time.Millisecond, timeout)
	u := &redis.UniversalOptions{
		Username:   username,
		Password:   password,
		ClientName: o.ClientName,
		DB:         addrs[0].DB,
		Dialer:     newDialer(o.config(addrs[0]), dialTimeout, open),
		TLSConfig:  o.config(addrs[0]),

		// RESP2: nothing here needs RESP3, and without it no read looks for pushed
		// messages first, and no maintenance notifications are negotiated.
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DisableIdentity:          true, // a round trip less for a new connection

		// Nothing is tried again here: that is the caller's, on another node.
		DialTimeout:   dialTimeout,
		DialerRetries: 1, // dials in all
		MaxRetries:    -1,

		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		ContextTimeoutEnabled: true,
		// Less than the time-out: else it could not be told who is to blame, the
		// node or our own lack of connections.
		PoolTimeout: timeout / 2,
		// One pool of connections a client, which pipelines use as well.
		PipelinePoolSize: -1,
	}
	for _, a := range addrs {
		u.Addrs = append(u.Addrs, a.Endpoint)
	}
	return u
}
