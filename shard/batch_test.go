package shard

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// mgets returns how many MGETs the server has answered.
func mgets(t *testing.T, server *redistest.Server) string {
	t.Helper()
	info, err := server.Client(t).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`cmdstat_mget:calls=(\d+),`).FindStringSubmatch(info); m != nil {
		return m[1]
	}
	return "0"
}

// waitFor waits until so many reads were accepted and are not done.
func (r *batchReader) waitFor(t *testing.T, reads int) {
	t.Helper()
	for range 1000 {
		r.mu.Lock()
		n := r.reads
		r.mu.Unlock()
		if n == reads {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %d reads", reads)
}

// What is asked while one MGET is under way goes out together in the next, and
// what all ask beside theirs goes out once.
func TestReadsShareRoundTrips(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, _ := open(t, server.URL(), Options{Timeout: 20 * time.Second})
	values := map[string]string{"beside": "shared"}
	for i := range 40 {
		values[fmt.Sprint(i)] = fmt.Sprint("value ", i)
	}
	for key, value := range values {
		if err := n.Client().Set(ctx, key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := n.Read(ctx, "0", ""); err != nil { // it dials
		t.Fatal(err)
	}
	n.batches.waitFor(t, 0)
	server.Pause()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			got, beside, err := n.Read(ctx, fmt.Sprint(i), "beside")
			if err != nil || string(got) != fmt.Sprint("value ", i) || string(beside) != "shared" {
				t.Errorf("Read(%d) = %q, %q, %v; want its value, and what is beside it", i, got, beside, err)
			}
		})
		n.batches.waitFor(t, i+1)
		if i == 0 {
			n.batches.waitTaken(t)
		}
	}
	n.batches.mu.Lock()
	if q := n.batches.queue; len(q) != 1 || len(q[0].keys) != 40 {
		t.Errorf("39 reads behind one that is under way: %d batches wait, want one with 40 keys", len(q))
	}
	n.batches.mu.Unlock()
	server.Resume()
	wg.Wait()
	if got := mgets(t, server); got != "3" {
		t.Errorf("the server has answered %s MGETs, want 3: to dial, the first, and all others", got)
	}
}

// A key that several ask for at a time is asked for once, and each has its value;
// so is one that others have beside theirs.
func TestReadsOfOneKeyAreOne(t *testing.T) {
	ctx := context.Background()
	server := redistest.Start(t)
	n, _ := open(t, server.URL(), Options{Timeout: 20 * time.Second})
	values := map[string]string{"hot": "value of hot", "cold": "value of cold", "beside": "shared", "none": ""}
	for key, value := range values {
		if err := n.Client().Set(ctx, key, value, 0).Err(); key != "none" && err != nil {
			t.Fatal(err)
		}
	}
	server.Client(t).Del(ctx, "none")
	if _, _, err := n.Read(ctx, "cold", ""); err != nil { // it dials
		t.Fatal(err)
	}
	n.batches.waitFor(t, 0)
	server.Pause()
	var wg sync.WaitGroup
	asked := []struct{ key, beside string }{
		{"cold", "beside"}, // under way when the others come
		{"hot", "beside"}, {"none", "beside"}, {"hot", "beside"}, {"cold", "beside"}, {"hot", ""},
		{"beside", ""}, {"cold", "hot"}, {"none", "cold"}, {"hot", "hot"}, {"hot", "beside"},
	}
	for i, a := range asked {
		wg.Go(func() {
			got, beside, err := n.Read(ctx, a.key, a.beside)
			if err != nil || string(got) != values[a.key] || (got == nil) != (a.key == "none") || string(beside) != values[a.beside] {
				t.Errorf("Read(%q, %q) = %q, %q, %v; want %q and %q", a.key, a.beside, got, beside, err, values[a.key], values[a.beside])
			}
		})
		n.batches.waitFor(t, i+1)
		if i == 0 {
			n.batches.waitTaken(t)
		}
	}
	n.batches.mu.Lock()
	if q := n.batches.queue; len(q) != 1 || q[0].reads != len(asked)-1 || len(q[0].keys) != 4 || len(q[0].args) != 1+4 {
		t.Errorf("%d reads of 4 keys behind one that is under way: %d batches wait, want one with 4 keys", len(asked)-1, len(q))
	}
	n.batches.mu.Unlock()
	server.Resume()
	wg.Wait()
}

// waitTaken waits until no batch is in the queue.
func (r *batchReader) waitTaken(t *testing.T) {
	t.Helper()
	for range 1000 {
		r.mu.Lock()
		n := len(r.queue)
		r.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("waited in vain for the queue to be empty")
}

// A server that went on is not asked for what nobody waits for any more, and a
// batch has an end.
func TestReadsThatWereGivenUpAreNotAsked(t *testing.T) {
	server := redistest.Start(t)
	n, told := open(t, server.URL(), Options{Timeout: 20 * time.Second})
	if _, _, err := n.Read(t.Context(), "k", ""); err != nil {
		t.Fatal(err)
	}
	n.batches.waitFor(t, 0)
	server.Pause()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 1 + 2*maxBatch {
		wg.Go(func() {
			if _, _, err := n.Read(ctx, "k", "beside"); i > 0 && !errors.Is(err, context.Canceled) {
				t.Errorf("a read that was given up: got %v, want %v", err, context.Canceled)
			}
		})
		n.batches.waitFor(t, i+1)
		if i == 0 {
			n.batches.waitTaken(t)
		}
	}
	n.batches.mu.Lock()
	if got := len(n.batches.queue); got != 2 {
		t.Errorf("%d batches wait, want 2 of %d reads", got, maxBatch)
	}
	n.batches.mu.Unlock()
	told.take()
	cancel()
	wg.Wait()
	for _, o := range told.take() {
		if o != Nobody {
			t.Errorf("a read that was given up: reported %v, want %v", o, Nobody)
		}
	}
	server.Resume()
	n.batches.waitFor(t, 0)
	if got := mgets(t, server); got != "2" {
		t.Errorf("the server has answered %s MGETs, want 2", got)
	}
}

// The goroutine that asks ends when nobody waits, and with the node.
func TestReadingEnds(t *testing.T) {
	server := redistest.Start(t)
	a, err := ParseAddress(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(a, Options{Timeout: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.Read(t.Context(), "k", ""); err != nil {
		t.Fatal(err)
	}
	n.batches.asking.Wait() // in vain if the goroutine went on
	server.Pause()
	ended := make(chan error)
	go func() {
		_, _, err := n.Read(context.Background(), "k", "")
		ended <- err
	}()
	n.batches.waitFor(t, 1)
	n.batches.waitTaken(t)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	n.batches.asking.Wait()
	if err := <-ended; err == nil {
		t.Error("a read from a node that was closed: no error")
	}
	if _, _, err := n.Read(t.Context(), "k", ""); !errors.Is(err, redis.ErrClosed) || !strings.Contains(err.Error(), "reading from node") {
		t.Errorf("a read after the end: got %v, want %v", err, redis.ErrClosed)
	}
	server.Resume()
}
