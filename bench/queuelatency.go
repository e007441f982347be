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
)

// latencyGoal is what 99 in 100 messages are to take at most, at 1000/s.
const latencyGoal = 20 * time.Millisecond

// delivering measures how long it takes from sending a request until it arrives
// upstream, through the queue and, in turns, through a proxy alone: that is what
// machine and load take themselves.
func delivering(l *Lab, r *Report) error {
	redis, err := l.startRedis("redis")
	if err != nil {
		return err
	}
	a := newArrivals()
	upstream := httptest.NewServer(a)
	defer upstream.Close()
	to := "reverse_proxy " + strings.TrimPrefix(upstream.URL, "http://")
	_, addr, err := l.startCaddy("caddy", queueGlobal(redis), "handle /queue {\n\t\tfluster_queue bench {\n\t\t\tdeliver {\n\t\t\t\t"+to+"\n\t\t\t}\n\t\t}\n\t}\n\t"+to)
	if err != nil {
		return err
	}
	queue, proxy := "http://"+addr+"/queue", "http://"+addr+"/proxy"
	most, err := a.capacity(queue, l.length)
	if err != nil {
		return err
	}
	for _, load := range []struct {
		name string
		send func(url string, length time.Duration) error
		goal time.Duration // 0: none
	}{
		{"one after the other, at rest", a.oneByOne, 0},
		{"at 1000/s", a.steady(1000), latencyGoal},
		{fmt.Sprintf("at half of what it can do, %.0f/s", most/2), a.steady(most / 2), 0},
	} {
		ours, theirs, err := l.compareLatency(a, load.send, queue, proxy)
		if err != nil {
			return fmt.Errorf("%s: %w", load.name, err)
		}
		p99 := ours.median(1)
		row := Row{Case: "queue, HTTP: from sending to arriving upstream, " + load.name, Ours: ours.String(),
			Against: "reverse_proxy at once", Theirs: theirs.String(), Result: "p99 " + ours.rounds(1), Goal: "—", Met: true}
		if load.goal > 0 {
			row.Goal, row.Met = fmt.Sprintf("< %.0f ms", ms(load.goal)), p99 < ms(load.goal)
		}
		r.add(row)
	}
	return nil
}

// compareLatency sends to both in turns.
func (l *Lab) compareLatency(a *arrivals, send func(url string, length time.Duration) error, ours, theirs string) (of, against latencies, err error) {
	urls := []string{ours, theirs}
	found := map[string]latencies{}
	for round := range l.rounds + 1 {
		slices.Reverse(urls)
		for _, url := range urls {
			took, err := a.measure(url, l.length, send)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", url, err)
			}
			if round > 0 { // the first warms up
				found[url] = append(found[url], [3]float64{ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1])})
			}
		}
	}
	return found[ours], found[theirs], nil
}

// latencies are p50, p99 and the longest time of each round, in ms.
type latencies [][3]float64

// of returns one of the three, of each round.
func (l latencies) of(i int) []float64 {
	var all []float64
	for _, round := range l {
		all = append(all, round[i])
	}
	return all
}

func (l latencies) median(i int) float64 { return median(l.of(i)) }

// String returns the medians of the rounds.
func (l latencies) String() string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, max %.1f ms", l.median(0), l.median(1), l.median(2))
}

// rounds returns the median and the values of all rounds.
func (l latencies) rounds(i int) string {
	var all []string
	for _, v := range l.of(i) {
		all = append(all, fmt.Sprintf("%.1f", v))
	}
	return fmt.Sprintf("%.1f ms (rounds: %s)", l.median(i), strings.Join(all, ", "))
}

// arrivals is an upstream that notes how long requests took to it. Each has the
// time of sending in its query.
type arrivals struct {
	client *http.Client

	mu   sync.Mutex // guards took
	took map[string]time.Duration
}

func newArrivals() *arrivals {
	return &arrivals{
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}},
		took:   map[string]time.Duration{},
	}
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

// forget begins anew.
func (a *arrivals) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.took)
}

// expect waits until n have arrived, looking every so often.
func (a *arrivals) expect(n int, every time.Duration) error {
	for end := time.Now().Add(queuePatience); a.number() < n; time.Sleep(every) {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d arrived", a.number(), n)
		}
	}
	return nil
}

// post sends one request.
func (a *arrivals) post(url string) error {
	// Two that are sent in one nanosecond would be one.
	resp, err := a.client.Post(fmt.Sprintf("%s?%d", url, time.Since(epoch)), "", bytes.NewReader(queueBody)) //nolint:noctx // the client has a time-out
	if err != nil {
		return err
	}
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // the status says it
	resp.Body.Close()              //nolint:errcheck // it was read
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}

// measure sends for a while, and returns how long each request took to arrive, in order.
func (a *arrivals) measure(url string, length time.Duration, send func(url string, length time.Duration) error) ([]time.Duration, error) {
	a.forget()
	if err := send(url, length); err != nil {
		return nil, err
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

// oneByOne sends the next when the one before has arrived and all is at rest again.
func (a *arrivals) oneByOne(url string, length time.Duration) error {
	for n, began := 1, time.Now(); time.Since(began) < length; n++ {
		if err := a.post(url); err != nil {
			return err
		}
		if err := a.expect(n, time.Millisecond); err != nil {
			return err
		}
		time.Sleep(3 * time.Millisecond)
	}
	return nil
}

// steady sends so many a second, whether or not the ones before were answered.
func (a *arrivals) steady(rate float64) func(url string, length time.Duration) error {
	return func(url string, length time.Duration) error {
		n := int(rate * length.Seconds())
		errs := make(chan error, n)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range n {
			time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
			wg.Go(func() {
				if err := a.post(url); err != nil {
					errs <- err
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
		}
		return a.expect(n, 10*time.Millisecond)
	}
}

// capacity returns how many requests a second arrive where many send one after
// the other for a while.
func (a *arrivals) capacity(url string, length time.Duration) (float64, error) {
	ctx, end := context.WithTimeout(context.Background(), length)
	defer end()
	began := time.Now()
	n, err := callers(ctx, -1, func() error { return a.post(url) })
	if err != nil {
		return 0, err
	}
	if err := a.expect(int(n), 10*time.Millisecond); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
