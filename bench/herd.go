package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// herdCases are many requests for one thing at the same time.
func herdCases() []Case {
	return []Case{
		{"herd process", func(l *Lab, r *Report) error { return herd(l, r, "process", 2) }},
		{"herd cluster", func(l *Lab, r *Report) error { return herd(l, r, "cluster", 1) }},
	}
}

// herd lets 1000 requests for one cold key come to two Caddys, and counts what
// the origin sees.
func herd(l *Lab, r *Report, collapse string, goal int) error {
	redis, err := l.startRedis("redis")
	if err != nil {
		return err
	}
	_, originAddr, err := l.startOrigin()
	if err != nil {
		return err
	}
	var addrs []string
	for i := range 2 {
		global := "fluster {\n\t\tnodes " + redis.redis.URL() + "\n\t}"
		_, addr, err := l.startCaddy(fmt.Sprint("cache", i), global, "fluster_cache {\n\t\tcollapse "+collapse+"\n\t\tkey {\n\t\t\tignore_host\n\t\t}\n\t}\n\treverse_proxy "+originAddr)
		if err != nil && strings.Contains(err.Error(), "is none of") {
			return fmt.Errorf("this version has no collapse %s", collapse)
		}
		if err != nil {
			return err
		}
		addrs = append(addrs, addr)
	}
	const callers = 1000
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	worst := 0
	for round := range l.rounds {
		before, err := askedOf(originAddr)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		errs := make(chan error, callers)
		for i := range callers {
			wg.Go(func() {
				resp, err := client.Get(fmt.Sprintf("http://%s/slow/4096/?%d", addrs[i%2], round)) //nolint:noctx // the client has a time-out
				if err == nil {
					var n int64
					n, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close() //nolint:errcheck // it was read
					if err == nil && (n != 4096 || resp.StatusCode != http.StatusOK) {
						err = fmt.Errorf("got %s with %d bytes", resp.Status, n)
					}
				}
				errs <- err
			})
		}
		wg.Wait()
		for range callers {
			if err := <-errs; err != nil {
				return err
			}
		}
		after, err := askedOf(originAddr)
		if err != nil {
			return err
		}
		worst = max(worst, after-before)
	}
	r.add(Row{Case: "1000 requests for a cold key, over two Caddys", Ours: fmt.Sprintf("%d forwards at most", worst), Against: "collapse " + collapse,
		Theirs: "—", Result: fmt.Sprint(worst), Goal: fmt.Sprint(goal), Met: worst == goal})
	return nil
}
