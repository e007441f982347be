package shard_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// servers starts redis-servers for an example, and returns their URLs, with the
// names a, b, …, and a function that ends them.
func servers(n int) (urls []string, stop func()) {
	var stops []func()
	for i := range n {
		dir, err := os.MkdirTemp("", "shard")
		if err != nil {
			log.Fatal(err)
		}
		p, err := redistest.Launch(dir)
		if err != nil {
			log.Fatal(err)
		}
		stops = append(stops, func() { p.Close(); _ = os.RemoveAll(dir) })
		urls = append(urls, p.URL()+"?name="+string(rune('a'+i)))
	}
	return urls, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// connect returns a pool of the nodes at these URLs, and a function that closes
// its nodes.
func connect(urls []string, availability shard.Availability) (*shard.Pool, func()) {
	var nodes []*shard.Node
	for _, url := range urls {
		address, err := shard.ParseAddress(url)
		if err != nil {
			log.Fatal(err)
		}
		node, err := shard.NewNode(address, shard.Options{}, availability)
		if err != nil {
			log.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	pool, err := shard.NewPool(nodes, availability)
	if err != nil {
		log.Fatal(err)
	}
	return pool, func() {
		for _, node := range nodes {
			_ = node.Close()
		}
	}
}

// away is an Availability that takes a node out of use when it is refused, and
// never returns it.
type away struct{ node atomic.Pointer[shard.Node] }

func (a *away) Available(node *shard.Node) bool { return a.node.Load() != node }

func (a *away) Report(node *shard.Node, o shard.Outcome, _ error) {
	if o == shard.Refused {
		a.node.Store(node)
	}
}

// A key is always on the same node, until that is taken out of use.
func ExamplePool_Pick() {
	ctx := context.Background()
	urls, stop := servers(2)
	defer stop()
	// Nothing listens at the third.
	pool, closeNodes := connect(append(urls, "redis://127.0.0.1:1?name=c"), &away{})
	defer closeNodes()

	for i := range 8 {
		key := "user:" + strconv.Itoa(i)
		node, err := pool.Pick(key)
		if err != nil {
			log.Fatal(err)
		}
		if err := node.Client().Set(ctx, key, "…", 0).Err(); err != nil {
			first := node.Name()
			if node, err = pool.PickNext(key, node); err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s is not on %s but on %s\n", key, first, node.Name())
			continue
		}
		fmt.Println(key, "is on", node.Name())
	}
	// Output:
	// user:0 is not on c but on a
	// user:1 is on b
	// user:2 is on a
	// user:3 is on b
	// user:4 is on a
	// user:5 is on a
	// user:6 is on a
	// user:7 is on b
}

// Each reaches all nodes at once; a failure of one does not hold up the others.
func ExamplePool_Each() {
	urls, stop := servers(2)
	defer stop()
	pool, closeNodes := connect(append(urls, "redis://127.0.0.1:1?name=c"), nil)
	defer closeNodes()

	var reached atomic.Int32
	err := pool.Each(context.Background(), func(ctx context.Context, node *shard.Node) error {
		if err := node.Client().Publish(ctx, "news", "hello").Err(); err != nil {
			return err
		}
		reached.Add(1)
		return nil
	})
	fmt.Println(reached.Load(), "nodes reached")
	fmt.Println(err)
	// Output:
	// 2 nodes reached
	// node "c": dial tcp 127.0.0.1:1: connect: connection refused
}

// Each client counted into the node that was available, and the merged reading
// finds all of it.
func ExamplePool_ZRevRangeWithScores() {
	ctx := context.Background()
	urls, stop := servers(2)
	defer stop()
	pool, closeNodes := connect(urls, nil)
	defer closeNodes()

	nodes := pool.Nodes()
	nodes[0].Client().ZAdd(ctx, "seen", redis.Z{Score: 170, Member: "ann"}, redis.Z{Score: 120, Member: "bob"})
	nodes[1].Client().ZAdd(ctx, "seen", redis.Z{Score: 150, Member: "bob"}, redis.Z{Score: 130, Member: "cid"})

	latest, err := pool.ZRevRangeWithScores(ctx, "seen", 0, 1)
	if err != nil {
		log.Fatal(err)
	}
	for _, z := range latest {
		fmt.Println(z.Member, z.Score)
	}
	// Output:
	// ann 170
	// bob 150
}

// Read is one round trip that never takes longer than the time-out; without any
// node that is available, the caller goes on without.
func ExampleNode_Read() {
	ctx := context.Background()
	urls, stop := servers(1)
	defer stop()
	pool, closeNodes := connect(urls, nil)
	defer closeNodes()

	node, err := pool.Pick("greeting")
	if errors.Is(err, shard.ErrNoNode) {
		return
	}
	if err := node.Bulk().Set(ctx, "greeting", "hello", 0).Err(); err != nil {
		log.Fatal(err)
	}
	greeting, farewell, err := node.Read(ctx, "greeting", "farewell")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %v\n", greeting, farewell == nil)
	// Output: hello true
}
