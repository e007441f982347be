package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	caddy, addr, err := l.startCaddy("caddy", queueGlobal(redis), "handle /queue {\n\t\tfluster_queue bench\n\t}\n\trespond 202")
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

// delivering measures how long it takes from sending a request until it arrives
// upstream, at 1000 a second, through the queue and, in turns, through a proxy
// alone: that is what machine and load take themselves.
func delivering(l *Lab, r *Report) error {
	redis, err := l.startRedis("redis")
	if err != nil {
		return err
	}
	a := &arrivals{took: map[string]time.Duration{}}
	upstream := httptest.NewServer(a)
	defer upstream.Close()
	to := "reverse_proxy " + strings.TrimPrefix(upstream.URL, "http://")
	_, addr, err := l.startCaddy("caddy", queueGlobal(redis), "handle /queue {\n\t\tfluster_queue bench {\n\t\t\tdeliver {\n\t\t\t\t"+to+"\n\t\t\t}\n\t\t}\n\t}\n\t"+to)
	if err != nil {
		return err
	}
	paths := []string{"/queue", "/proxy"}
	found := map[string][][2]float64{} // p50 and p99 of each round, in ms
	for round := range l.rounds + 1 {
		slices.Reverse(paths)
		for _, path := range paths {
			took, err := a.measure("http://"+addr+path, l.length)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if round > 0 { // the first warms up
				found[path] = append(found[path], [2]float64{ms(took[len(took)/2]), ms(took[len(took)*99/100])})
			}
		}
	}
	tell := func(path string) (string, float64) {
		var p50, p99 []float64
		for _, f := range found[path] {
			p50, p99 = append(p50, f[0]), append(p99, f[1])
		}
		return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", median(p50), median(p99)), median(p99)
	}
	ours, p99 := tell("/queue")
	theirs, _ := tell("/proxy")
	var all []string
	for _, f := range found["/queue"] {
		all = append(all, fmt.Sprintf("%.1f", f[1]))
	}
	r.add(Row{Case: "queue, HTTP: from sending to arriving upstream, at 1000/s", Ours: ours, Against: "reverse_proxy at once", Theirs: theirs,
		Result: fmt.Sprintf("p99 %.1f ms (rounds: %s)", p99, strings.Join(all, ", ")), Goal: "< 20 ms", Met: p99 < 20})
	return nil
}

// arrivals is an upstream that notes how long requests took to it. Each has the
// time of sending in its query.
type arrivals struct {
	mu   sync.Mutex // guards took
	took map[string]time.Duration
}

// epoch is what the times in queries count from.
var epoch = time.Now()

// ServeHTTP answers.
func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	at := time.Since(epoch)
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n != int64(len(queueBody)) {
		return
	}
	sent, _ := strconv.ParseInt(r.URL.RawQuery, 10, 64)
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.took[r.URL.RawQuery]; !ok {
		a.took[r.URL.RawQuery] = at - time.Duration(sent)
	}
}

func (a *arrivals) number() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.took)
}

// measure posts 1000 times a second, whether or not the ones before were
// answered, and returns how long each took to arrive, in order.
func (a *arrivals) measure(url string, length time.Duration) ([]time.Duration, error) {
	a.mu.Lock()
	clear(a.took)
	a.mu.Unlock()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	defer client.CloseIdleConnections()
	n := int(length / time.Millisecond)
	errs := make(chan error, n)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond)))
		wg.Go(func() {
			// Two that are sent in one nanosecond would be one.
			resp, err := client.Post(fmt.Sprintf("%s?%d", url, time.Since(epoch)), "", bytes.NewReader(queueBody)) //nolint:noctx // the client has a time-out
			if err != nil {
				errs <- err
				return
			}
			io.Copy(io.Discard, resp.Body) //nolint:errcheck // the status says it
			resp.Body.Close()              //nolint:errcheck // it was read
			if resp.StatusCode/100 != 2 {
				errs <- errors.New(resp.Status)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	for end := time.Now().Add(queuePatience); a.number() < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return nil, fmt.Errorf("%d of %d arrived", a.number(), n)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var took []time.Duration
	for _, t := range a.took {
		took = append(took, t)
	}
	slices.Sort(took)
	return took, nil
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
