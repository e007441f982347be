package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// queueGlobal is the global option for a queue on some servers.
func queueGlobal(servers ...*Process) string {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.redis.URL())
	}
	return "fluster {\n\t\tnodes " + strings.Join(urls, " ") + "\n\t}"
}

// accepting compares taking a request with answering 202 and nothing else, by
// the same Caddy.
func accepting(l *Lab, r *Report) error {
	redis, err := l.startRedis("redis")
	if err != nil {
		return err
	}
	// A route, as respond is sorted before fluster_queue otherwise; both have the same way then.
	caddy, addr, err := l.startCaddy("caddy", queueGlobal(redis), "route {\n\t\tfluster_queue /queue bench\n\t\trespond 202\n\t}")
	if err != nil {
		return err
	}
	if err := isQueued("http://"+addr+"/queue", redis); err != nil {
		return err
	}
	ours := Side{Name: "fluster_queue", Load: Load{URL: "http://" + addr + "/queue", Post: len(queueBody)}, Servers: []*Process{caddy, redis}, After: redis.empty}
	theirs := Side{Name: "respond 202", Load: Load{URL: "http://" + addr + "/", Post: len(queueBody)}, Servers: []*Process{caddy}}
	c, err := l.compare(ours, theirs)
	if err != nil {
		return err
	}
	r.addRatio("queue, HTTP: 1 KB accepted", ours, theirs, c, 0.5)
	return nil
}

// isQueued makes sure that what is posted to url lies on the server.
func isQueued(url string, server *Process) error {
	resp, err := http.Post(url, "", bytes.NewReader(queueBody)) //nolint:noctx // it answers within seconds
	if err != nil {
		return err
	}
	resp.Body.Close() //nolint:errcheck // it says nothing that is wanted
	client := redis.NewClient(&redis.Options{Addr: server.redis.Addr()})
	defer client.Close() //nolint:errcheck // nothing is under way
	n, err := client.XLen(context.Background(), "{fluster:q:bench:0}:s").Result()
	if err != nil || n != 1 || resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("got %s, and %d messages on the server (%w)", resp.Status, n, err)
	}
	return nil
}

// idling measures what a Caddy with one queue on five nodes takes when there is
// nothing to do.
func idling(l *Lab, r *Report) error {
	var servers []*Process
	for i := range 5 {
		s, err := l.startRedis(fmt.Sprint("redis", i))
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	caddy, _, err := l.startCaddy("caddy", queueGlobal(servers...), "fluster_queue bench {\n\t\tdeliver {\n\t\t\trespond 200\n\t\t}\n\t}")
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // what happens once at the start is over
	before, cpu, began := commandsOf(servers), caddy.cpu(), time.Now()
	time.Sleep(max(time.Duration(l.rounds)*l.length, 10*time.Second))
	took := time.Since(began).Seconds()
	share := (caddy.cpu() - cpu).Seconds() / took * 100
	var total float64
	var each []string
	for name, n := range commandsOf(servers) {
		if per := (n - before[name]) / took / float64(len(servers)); per > 0 && name != "info" {
			total += per
			each = append(each, fmt.Sprintf("%s %.1f", name, per))
		}
	}
	slices.Sort(each)
	r.add(Row{Case: "queue, idle on five nodes", Ours: fmt.Sprintf("%.1f %% of a core, %.1f commands/s/node", share, total), Against: "—", Theirs: "—",
		Result: strings.Join(each, ", "), Goal: "< 2 %, < 10", Met: share < 2 && total < 10})
	return nil
}

// commandsOf returns how often each command was called on the servers, also by
// scripts.
func commandsOf(servers []*Process) map[string]float64 {
	sum := map[string]float64{}
	for _, s := range servers {
		client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
		text := client.Info(context.Background(), "commandstats").Val()
		client.Close() //nolint:errcheck // nothing is under way
		for line := range strings.Lines(text) {
			name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
			if !ok {
				continue
			}
			calls, _, _ := strings.Cut(rest, ",")
			n, _ := strconv.ParseFloat(calls, 64)
			sum[name] += n
		}
	}
	return sum
}
