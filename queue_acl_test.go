package fluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-fluster/caddy-fluster/internal/caddytest"
	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// TestQueueACL: with the permissions that the documentation names, all of a queue
// works.
func TestQueueACL(t *testing.T) {
	doc, err := os.ReadFile("docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(doc), "user queue on >secret ")
	rules, _, ok := strings.Cut(rules, "\n")
	if !ok {
		t.Fatal("docs/operating.md has no ACL of a user named queue")
	}
	var servers []*redistest.Server
	var clients []*redis.Client
	line := "fluster {\nusername queue\npassword secret\nnodes"
	for range 2 {
		s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		client := s.Client(t)
		args := []any{"acl", "setuser", "queue", "reset", "on", ">secret"}
		for _, rule := range strings.Fields(rules) {
			args = append(args, rule)
		}
		if known := client.Command(t.Context()).Val(); known["waitaof"] != nil {
			args = append(args, "+waitaof")
		}
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		line += " " + s.URL()
		servers, clients = append(servers, s), append(clients, client)
	}
	box := newLetterbox(t, 503, 422)
	c := caddytest.Load(t, line+"\n}", queueSite(deliverTo(box.Origin),
		"copies 2", "ack aof", "status /status", "wait", "dedup {header.Key}", "order_by {header.Order}", "priority {header.Class} high=2", "backlog 1000 1MiB 1h",
		"rate 1000/s", "inline_body 10", "allow_client delay expire", "backoff 1ms 1ms", "when prefer", "dead_letters 100 1h",
		"id {header.X-Id}", "visibility 1s"))
	for _, header := range [][]string{{}, {}, {"Key", "k"}, {"Key", "k"}, {"Order", "o"}, {"Order", "o"}, {"Class", "high"}, {"Fluster-Delay", "1s"}, {"Fluster-Expire", "1h"}, {"X-Id", "mine"}, {"X-Id", "mine"}} {
		wantAccepted(t, c.Do("POST", "/", "longer than ten bytes", append(header, "Prefer", "respond-async")...))
	}
	if r := c.Do("POST", "/", "x", "Prefer", "respond-async, wait=10"); r.Status != 200 {
		t.Errorf("waited for: %v %s", r, r.Took)
	}
	caddytest.Eventually(t, "all is delivered or dead", func() bool {
		d := ask[depthOf](t, c, "/fluster/queues/q")
		return d.Ready+d.InFlight+d.Delayed == 0 && d.Dead == 1 && !d.Partial
	})
	for _, path := range []string{"/fluster/queues/q/messages", "/fluster/queues/q/dead", "/metrics"} {
		if r := c.AskAdmin(path); r.Status != 200 {
			t.Errorf("GET %s: %v", path, r)
		}
	}
	caddytest.Eventually(t, "second copies are seen to", func() bool {
		n := 0
		for _, client := range clients {
			n += int(client.Exists(t.Context(), "{fluster:q:q:0}:i").Val())
		}
		return n == 2
	})
	sleepFor(t, 1500) // and of the dead letter
	if r := c.AskAdmin("/fluster/queues/q/messages/none"); r.Status != 404 {
		t.Errorf("a message that is not there: %v", r)
	}
	c.DoAdmin("POST", "/fluster/queues/q/pause", "")
	c.DoAdmin("POST", "/fluster/queues/q/resume", "")
	for _, all := range []string{"POST /fluster/queues/q/dead/replay", "DELETE /fluster/queues/q/dead"} {
		method, path, _ := strings.Cut(all, " ")
		if r := c.DoAdmin(method, path, `{"all":true}`); r.Status != 200 {
			t.Errorf("%s: %v", all, r)
		}
	}
	for _, client := range clients {
		log, err := client.Do(t.Context(), "acl", "log", "100").Slice()
		if err != nil {
			t.Error(err)
		}
		for _, entry := range log {
			// The cache, which is not used here, tries the node too.
			if s := fmt.Sprint(entry); !strings.Contains(s, "object:{fluster:0}:") && !strings.Contains(s, "object:fluster:") {
				t.Errorf("denied: %s", s)
			}
		}
	}
}

// TestQueueACLNamesWhatScriptsUse: also the commands of scripts that run but when something
// fails are in the permissions that the documentation names.
func TestQueueACLNamesWhatScriptsUse(t *testing.T) {
	doc, err := os.ReadFile("docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(doc), "user queue on >secret ")
	rules, _, _ = strings.Cut(rules, "\n")
	files, err := filepath.Glob("queue/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	call := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(source), -1) {
			command := "+" + strings.ToLower(m[1])
			if words := strings.Fields(rules); !slices.Contains(words, command) && !slices.Contains(words, command+"|"+strings.ToLower(m[2])) {
				t.Errorf("%s uses %s %s, which is not among the permissions", file, m[1], m[2])
			}
		}
	}
}
