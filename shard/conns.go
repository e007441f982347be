package shard

import (
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// conns are the connections of a node that is one server, so that all of them can be
// closed. A server that is no master any more may live on as a replica while the node's
// name leads to another one: then every connection that was made before is of no use, and
// each of them would cost the node a penalty, as go-redis gives up only the one that was
// told READONLY. A nil conns notes nothing. It is safe for concurrent use.
type conns struct {
	mu   sync.Mutex // guards open
	open map[net.Conn]struct{}
}

// add notes a connection; forget is to be called when it is closed.
func (c *conns) add(conn net.Conn) (forget func()) {
	if c == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	c.open[conn] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
	}
}

// outlived closes all connections if err says that they lead to a replica. What is under
// way there fails, and says nothing about the node.
func (c *conns) outlived(err error) {
	if c == nil || !redis.HasErrorPrefix(err, "READONLY") {
		return
	}
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for conn := range open {
		conn.Close() //nolint:errcheck // it is of no use any more
	}
}
