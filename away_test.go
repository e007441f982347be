package fluster

import (
	"iter"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/journal"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// TestAwayAgain: C4. What came to stand in for a node the last time that this one was
// away is in doubt from the very moment that the node is away again, whoever takes it
// out of use.
func TestAwayAgain(t *testing.T) {
	leave := map[string]func(*penaltyBox, *node){
		"refused":        func(b *penaltyBox, n *node) { b.Report(n.Node, shard.Refused, errBlind) },
		"not found well": func(b *penaltyBox, n *node) { b.penalize(n.seat, errBlind, time.Now()) },
	}
	for name, leave := range leave {
		t.Run(name, func(t *testing.T) {
			b, o := newPenaltyBox(), &order{byShard: map[*shard.Node]*node{}}
			var all []*shard.Node
			for _, endpoint := range []string{"a:1", "b:1"} {
				sn, err := shard.NewNode(shard.Address{Endpoint: endpoint}, shard.Options{Timeout: time.Second}, b)
				if err != nil {
					t.Fatal(err)
				}
				defer sn.Close()
				n := &node{Node: sn, seat: b.admit(sn)}
				n.seat.release(time.Now())
				all, o.byShard[sn] = append(all, sn), n
			}
			var err error
			if o.ring, err = shard.NewPool(all, b); err != nil {
				t.Fatal(err)
			}
			next, stop := iter.Pull(o.ring.Order("key"))
			defer stop()
			first, _ := next()
			second, _ := next()
			own, other := o.byShard[first], o.byShard[second]
			older, newer := journal.Stamp{Inc: 1, Seq: 4}, journal.Stamp{Inc: 1, Seq: 5}

			leave(b, own)
			own.seat.away.set(own.seat.away.now(), other, journal.Head{Inc: 1, Seq: 5})
			if !o.doubts("key", other, older) || o.doubts("key", other, newer) {
				t.Error("while the node is away: want what is from before in doubt, and nothing else")
			}
			own.seat.release(time.Now())
			if leave(b, own); !o.doubts("key", other, newer) {
				t.Error("when the node is away again: what came to the other the last time is not in doubt")
			}
		})
	}
}
