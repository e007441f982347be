package chaos

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// manner is what a proxy does to replies.
type manner int

const (
	passing    manner = iota
	swallowing        // nothing gets through any more, and nobody is told
	delaying          // each reply is late
	cutting           // half a reply, and then the connection is reset
	resetting         // connections are reset as soon as they come
	babbling          // what answers is no Redis
	answering         // each command gets the same reply, and not from the server
)

// A proxy stands before a server, and is the network that fails. It is safe for
// concurrent use.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex // guards all below
	manner  manner
	late    time.Duration
	mute    string        // the next command that has this text gets no reply
	lost    bool          // nor does it reach the server
	second  string        // where every other connection leads, if not empty
	turn    bool          // the next one does
	reply   string        // while it is answering
	members string        // likewise, to CLUSTER SLOTS
	changed chan struct{} // closed when the manner changes
	conns   map[net.Conn]bool
	closed  bool
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{listener: l, target: target, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes what happens to replies from now on. Connections that have lost
// something do not go on.
func (p *proxy) set(m manner, late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	broken := p.manner == swallowing || m == resetting
	p.manner, p.late = m, late
	close(p.changed)
	p.changed = make(chan struct{})
	if broken {
		p.resetLocked()
	}
}

// lose has the next command that has this text get no reply, nor what comes behind it on
// its connection; with reaches, the server gets it all the same.
func (p *proxy) lose(text string, reaches bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute, p.lost = text, !reaches
}

// loses reports whether this command is the one that is to get no reply, and whether it
// does not reach the server.
func (p *proxy) loses(command []byte) (mute, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute == "" || !bytes.Contains(command, []byte(p.mute)) {
		return false, false
	}
	p.mute = ""
	return true, p.lost
}

// alternate makes every other connection lead to another server.
func (p *proxy) alternate(second string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.second = second
	p.resetLocked()
}

// lead makes connections to come lead to another server; those that there are go on.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// next is where the next connection leads.
func (p *proxy) next() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn = !p.turn; p.turn && p.second != "" {
		return p.second
	}
	return p.target
}

// answer makes it answer each command with this reply.
func (p *proxy) answer(reply string) {
	p.mu.Lock()
	p.reply = reply
	p.mu.Unlock()
	p.set(answering, 0)
}

// slots makes it answer CLUSTER SLOTS with this reply.
func (p *proxy) slots(reply string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = reply
}

// replyTo is what it answers to what a client sent: one reply for each command.
// Those with which a client begins are as a server's.
func (p *proxy) replyTo(sent []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, command := range strings.Split(string(sent), "\r\n*") {
		switch lower := strings.ToLower(command); {
		case strings.Contains(lower, "\r\nhello\r\n"):
			b.WriteString("-ERR unknown command\r\n")
		case strings.Contains(lower, "\r\nclient\r\n"), strings.Contains(lower, "\r\nselect\r\n"):
			b.WriteString("+OK\r\n")
		case strings.Contains(lower, "\r\ncluster\r\n") && p.members != "":
			b.WriteString(p.members)
		default:
			b.WriteString(p.reply)
		}
	}
	return b.String()
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	close(p.changed)
	p.changed = make(chan struct{})
	p.resetLocked()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) resetLocked() {
	for c := range p.conns {
		reset(c)
	}
}

// reset closes a connection by RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

func (p *proxy) state() (manner, time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.manner, p.late, p.changed
}

// hold notes a connection; it reports false where there are to be none.
func (p *proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.manner == resetting {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(client net.Conn) {
	if !p.hold(client) {
		reset(client)
		return
	}
	defer p.drop(client)
	var muted atomic.Bool
	if m, _, _ := p.state(); m == answering {
		p.forward(client, client, false, &muted)
		return
	}
	server, err := net.DialTimeout("tcp", p.next(), time.Second)
	if err != nil {
		return
	}
	if !p.hold(server) {
		reset(server)
		return
	}
	defer p.drop(server)
	p.wg.Go(func() {
		defer p.drop(client)
		defer p.drop(server)
		p.forward(server, client, false, &muted)
	})
	p.forward(client, server, true, &muted)
}

// forward copies what src says to dst, in the manner of the moment.
func (p *proxy) forward(dst, src net.Conn, replies bool, muted *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		m, late, changed := p.state()
		if !replies {
			mute, lost := p.loses(buf[:n])
			if mute {
				muted.Store(true)
			}
			if lost {
				continue
			}
		}
		switch {
		case m == swallowing, replies && muted.Load():
			continue
		case m == delaying && replies:
			timer := time.NewTimer(late)
			select {
			case <-timer.C:
			case <-changed:
			}
			timer.Stop()
		case m == cutting && replies:
			dst.Write(buf[:n/2])
			return
		case m == babbling && replies:
			io.WriteString(dst, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			return
		case m == answering && replies:
			continue
		case m == answering:
			if _, err := io.WriteString(src, p.replyTo(buf[:n])); err != nil {
				return
			}
			continue
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}
