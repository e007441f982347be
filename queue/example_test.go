package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
	"github.com/caddy-fluster/caddy-fluster/queue"
	"github.com/caddy-fluster/caddy-fluster/shard"
)

// nodes starts two redis-servers for an example, and returns the nodes that they
// are, and a function that ends them.
func nodes() ([]*shard.Node, func()) {
	var out []*shard.Node
	var ends []func()
	for _, name := range []string{"a", "b"} {
		dir, err := os.MkdirTemp("", "queue")
		if err != nil {
			log.Fatal(err)
		}
		server, err := redistest.Launch(dir)
		if err != nil {
			log.Fatal(err)
		}
		address, err := shard.ParseAddress(server.URL() + "?name=" + name)
		if err != nil {
			log.Fatal(err)
		}
		node, err := shard.NewNode(address, shard.Options{Timeout: 300 * time.Millisecond}, nil)
		if err != nil {
			log.Fatal(err)
		}
		out = append(out, node)
		ends = append(ends, func() { _ = node.Close(); server.Close(); _ = os.RemoveAll(dir) })
	}
	return out, func() {
		for _, end := range ends {
			end()
		}
	}
}

// Messages go in on one side and come out on the other, whatever lies between.
func Example() {
	pool, stop := nodes()
	defer stop()
	ctx := context.Background()
	client, err := queue.NewClient(queue.Options{Name: "mail", Partitions: queue.OnNodes(pool...)})
	if err != nil {
		log.Fatal(err)
	}

	receipt, err := client.Enqueue(ctx, &queue.Message{
		Header: map[string]string{"content-type": "text/plain"},
		Body:   []byte("hello"),
	})
	if err != nil {
		log.Fatal(err)
	}

	var wg sync.WaitGroup
	done := make(chan struct{})
	worker, err := queue.NewWorker(client, queue.WorkerOptions{}, func(_ context.Context, d *queue.Delivery) queue.Result {
		fmt.Printf("attempt %d: %s (%s)\n", d.Attempt, d.Body, d.Header["content-type"])
		fmt.Println("the same id:", d.ID == receipt.ID)
		close(done)
		return queue.Result{Outcome: queue.Done}
	})
	if err != nil {
		log.Fatal(err)
	}
	wg.Go(func() { _ = worker.Run(ctx) })
	<-done
	worker.Drain(ctx) // ends Run when all is recorded
	wg.Wait()
	// Output:
	// attempt 1: hello (text/plain)
	// the same id: true
}

// A message with a dedup key is one message, however often it is put in.
func ExampleClient_Enqueue_dedup() {
	pool, stop := nodes()
	defer stop()
	client, err := queue.NewClient(queue.Options{Name: "orders", Partitions: queue.OnNodes(pool...)})
	if err != nil {
		log.Fatal(err)
	}
	order := func(body string) *queue.Message {
		return &queue.Message{Body: []byte(body), DedupKey: "order-17", DedupWindow: 10 * time.Minute}
	}
	first, err := client.Enqueue(context.Background(), order("2 apples"))
	if err != nil {
		log.Fatal(err)
	}
	again, err := client.Enqueue(context.Background(), order("2 apples"))
	fmt.Println(again.Replayed, again.ID == first.ID, err)
	_, err = client.Enqueue(context.Background(), order("3 apples"))
	fmt.Println(errors.Is(err, queue.ErrMismatch))
	// Output:
	// true true <nil>
	// true
}

// Many messages go in in a round trip a node; each is accepted or not by itself.
func ExampleClient_EnqueueBatch() {
	pool, stop := nodes()
	defer stop()
	client, err := queue.NewClient(queue.Options{Name: "import", Partitions: queue.OnNodes(pool...), MaxBody: 100})
	if err != nil {
		log.Fatal(err)
	}
	messages := make([]*queue.Message, 1000)
	for i := range messages {
		messages[i] = &queue.Message{Body: fmt.Append(nil, "row ", i), OrderKey: fmt.Sprint("customer ", i%10)}
	}
	messages[500].Body = make([]byte, 101)
	receipts, err := client.EnqueueBatch(context.Background(), messages)
	fmt.Println(err)
	accepted := 0
	for _, receipt := range receipts {
		if receipt.Err == nil {
			accepted++
		}
	}
	fmt.Println(accepted, "accepted")
	// Output:
	// queue: the body is too large
	// 999 accepted
}
