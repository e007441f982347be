package queue

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestReplies(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, Options{})
	replies := NewReplies(r.c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { replies.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	run(t, r.client(), WorkerOptions{Attempts: 2}, func(_ context.Context, m *Delivery) Result {
		out := Result{Response: &Response{Header: map[string]string{"status": "200"}, Body: append([]byte("re: "), m.Body...)}}
		switch m.Header["outcome"] {
		case "dead":
			out.Outcome = Dead
		case "retry":
			if m.Attempt == 1 {
				out.Response.Body = []byte("not the last word")
			}
		default:
			out.Outcome = Done
		}
		return out
	})
	ask := func(header map[string]string, name, body string) {
		t.Helper()
		header["reply_to"] = replies.ReplyTo()
		receipt := r.enqueue(&Message{Header: header, Body: []byte(body)})[0]
		if name == "" {
			name = receipt.ID
		}
		if name == "late" {
			time.Sleep(300 * time.Millisecond)
		}
		response, forget := replies.Expect(name)
		defer forget()
		select {
		case got := <-response:
			if string(got.Body) != "re: "+body || got.Header["status"] != "200" {
				t.Errorf("%s: got %s, %v", body, got.Body, got.Header)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no response", body)
		}
	}
	if !replies.Ready(t.Context()) {
		t.Fatal("not ready")
	}
	for _, s := range r.servers {
		if n := s.Client(t).PubSubNumSub(t.Context(), replies.ReplyTo()).Val()[replies.ReplyTo()]; n != 1 {
			t.Errorf("it says that it is ready with %d subscriptions", n)
		}
	}
	for i := range 10 {
		ask(map[string]string{}, "", fmt.Sprint("plain", i))
	}
	ask(map[string]string{"correlation_id": "mine"}, "mine", "by correlation id")
	ask(map[string]string{"correlation_id": "late"}, "late", "expected late")
	ask(map[string]string{"outcome": "dead"}, "", "refused")
	ask(map[string]string{"outcome": "retry"}, "", "used up")

	// A subscription that dies without a word is noticed.
	for _, s := range r.servers {
		s.Pause()
	}
	time.Sleep(2500 * time.Millisecond)
	for _, s := range r.servers {
		s.Resume()
		s.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
	}
	eventually(t, 30*time.Second, "the subscriptions are back", func() bool {
		return r.raw().PubSubNumSub(t.Context(), replies.ReplyTo()).Val()[replies.ReplyTo()] == 1 &&
			r.servers[1].Client(t).PubSubNumSub(t.Context(), replies.ReplyTo()).Val()[replies.ReplyTo()] == 1
	})
	ask(map[string]string{}, "", "after that")
}

// A node that is away makes nobody wait, and who does not wait for ever is told.
func TestRepliesWithANodeAway(t *testing.T) {
	r := newRig(t, 2, Options{})
	r.servers[1].Kill()
	replies := NewReplies(r.c)
	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if replies.Ready(impatient) {
		t.Error("ready before it runs")
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { replies.Run(ctx); close(ended) }()
	defer func() { end(); <-ended }()
	patient, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !replies.Ready(patient) {
		t.Error("not ready")
	}
}

func TestExpectForgets(t *testing.T) {
	r := newRig(t, 1, Options{})
	replies := NewReplies(r.c)
	_, forget := replies.Expect("a")
	forget()
	if len(replies.expected) != 0 {
		t.Error("it is still expected")
	}
	frame := func(id string) []byte {
		f, _ := (&Response{}).frame(&Delivery{ID: id})
		return f
	}
	for i := range 3 * repliesKept {
		replies.take(frame(fmt.Sprint(i)))
	}
	replies.take([]byte("garbage"))
	replies.take(frame(""))
	if len(replies.early) != repliesKept || len(replies.order) != repliesKept {
		t.Errorf("got %d kept, want %d", len(replies.early), repliesKept)
	}
}
