package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// largeCases are long responses.
func largeCases() []Case {
	return []Case{
		{"large first byte near", firstByteNear},
		{"large first byte node", firstByteNode},
		{"large memory", memory},
	}
}

// largeCache starts a Redis server, an origin, and a Caddy that stores long
// responses.
func (l *Lab) largeCache() (cache, node *Process, addr, originAddr string, err error) {
	if node, err = l.startRedis("redis"); err != nil {
		return nil, nil, "", "", err
	}
	if _, originAddr, err = l.startOrigin(); err != nil {
		return nil, nil, "", "", err
	}
	global := "fluster {\n\t\tnodes " + node.redis.URL() + "\n\t}"
	cache, addr, err = l.startCaddy("cache", global, longSite+originAddr)
	return cache, node, addr, originAddr, err
}

// longSite is a site that stores long responses, up to the address of its origin.
const longSite = "fluster_cache {\n\t\tmax_body 200MiB\n\t}\n\treverse_proxy "

// firstByteNear compares how long the first byte of a miss takes with a proxy alone.
func firstByteNear(l *Lab, r *Report) error {
	_, originAddr, err := l.startOrigin()
	if err != nil {
		return err
	}
	_, addr, err := l.startCaddy("cache", "fluster", longSite+originAddr)
	if err != nil {
		return err
	}
	return l.firstByte(r, "near alone", addr, originAddr, nil)
}

// firstByteNode does so where a node is asked as well. Beside it stands what a lookup on
// a node takes at least: a bare MGET of two keys that are not there. Behind a long body
// that is more, as the processor's caches have nothing of it any more.
func firstByteNode(l *Lab, r *Report) error {
	_, node, addr, originAddr, err := l.largeCache()
	if err != nil {
		return err
	}
	plain := redis.NewClient(&redis.Options{Addr: node.redis.Addr(), Protocol: 2})
	defer plain.Close() //nolint:errcheck // it was read from
	return l.firstByte(r, "with a node", addr, originAddr, func() error { return plain.MGet(context.Background(), "not", "there").Err() })
}

// side is one of those that are asked in turns for a long body: its address, how long
// the first bytes took, and how long whole bodies.
type side struct {
	addr          string
	first, bodies []time.Duration
}

// ask asks for a body and keeps how long it took.
func (s *side) ask(client *http.Client, path string) error {
	first, whole, err := timeBody(client, "http://"+s.addr+path)
	s.first, s.bodies = append(s.first, first), append(s.bodies, whole)
	return err
}

// firstByte asks the cache, a proxy alone and another proxy alone in turns, on
// connections that are kept, and then for what is bare, if it is there. The two proxies
// show what differs although nothing does.
func (l *Lab) firstByte(r *Report, what, addr, originAddr string, bare func() error) error {
	var proxies [2]string
	for i := range proxies {
		var err error
		if _, proxies[i], err = l.startCaddy(fmt.Sprintf("proxy%d", i), "", "reverse_proxy "+originAddr); err != nil {
			return err
		}
	}
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for _, c := range []struct{ mib, asks int }{{1, 60}, {100, 40}} {
		sides := [3]side{{addr: addr}, {addr: proxies[0]}, {addr: proxies[1]}}
		var bares []time.Duration
		for i := range l.rounds * c.asks {
			for k := range sides { // each is as often behind each of the others
				k = (i + k*(1+i/3%2)) % len(sides)
				if err := sides[k].ask(client, fmt.Sprintf("/fresh/%d/?%d", c.mib<<20, i)); err != nil {
					return err
				}
			}
			if bare == nil {
				continue
			}
			began := time.Now()
			if err := bare(); err != nil {
				return err
			}
			bares = append(bares, time.Since(began))
		}
		sides[0].report(r, fmt.Sprintf("%d MiB, %s", c.mib, what), &sides[1], &sides[2])
		if bare != nil {
			r.add(Row{Case: fmt.Sprintf("not ours: a bare MGET behind %d MiB", c.mib), Ours: fmt.Sprintf("%.2f ms", ms(middle(bares))), Against: "—", Theirs: "—",
				Result: "—", Goal: "—", Met: true})
		}
	}
	return nil
}

// report adds the rows of ours against a proxy alone, and of that one against another.
func (s *side) report(r *Report, what string, proxy, other *side) {
	a, b, c := middle(s.first), middle(proxy.first), middle(other.first)
	mid := (b + c) / 2
	r.add(Row{Case: "first byte of a miss, " + what, Ours: fmt.Sprintf("%.2f ms", ms(a)), Against: "reverse_proxy, two of them", Theirs: fmt.Sprintf("%.2f ms", ms(mid)),
		Result: fmt.Sprintf("%+.2f ms", ms(a-mid)), Goal: "≤ + 0.2 ms", Met: a-mid <= 200*time.Microsecond})
	r.add(Row{Case: "not ours: first byte, " + what, Ours: fmt.Sprintf("%.2f ms", ms(b)), Against: "reverse_proxy, the other one", Theirs: fmt.Sprintf("%.2f ms", ms(c)),
		Result: fmt.Sprintf("%+.2f ms", ms(b-c)), Goal: "—", Met: true})
	a, b = middle(s.bodies), middle(append(proxy.bodies, other.bodies...))
	r.add(Row{Case: "whole body of a miss, " + what, Ours: fmt.Sprintf("%.1f ms", ms(a)), Against: "reverse_proxy", Theirs: fmt.Sprintf("%.1f ms", ms(b)),
		Result: fmt.Sprintf("%.2f × as long", float64(a)/float64(b)), Goal: "—", Met: true})
}

// middle returns the mean of the middle half. A client that waits for its turn takes a
// millisecond longer, which about every second one does: a median is with the ones or
// with the others.
func middle(times []time.Duration) time.Duration {
	slices.Sort(times)
	half := times[len(times)/4 : len(times)-len(times)/4]
	var sum time.Duration
	for _, d := range half {
		sum += d
	}
	return sum / time.Duration(len(half))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// timeBody returns how long the first byte of the body took, and all of it.
func timeBody(client *http.Client, url string) (first, all time.Duration, err error) {
	begin := time.Now()
	resp, err := client.Get(url) //nolint:noctx // the client has a time-out
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, 0, err
	}
	first = time.Since(begin)
	_, err = io.Copy(io.Discard, resp.Body)
	return first, time.Since(begin), err
}

// memory looks how much memory the process takes while 64 misses of 100 MiB
// stream at the same time.
func memory(l *Lab, r *Report) error {
	cache, _, addr, originAddr, err := l.largeCache()
	if err != nil {
		return err
	}
	proxy, proxyAddr, err := l.startCaddy("proxy", "", "reverse_proxy "+originAddr)
	if err != nil {
		return err
	}
	ours, err := growth(cache, addr)
	if err != nil {
		return err
	}
	theirs, err := growth(proxy, proxyAddr)
	if err != nil {
		return err
	}
	mib := func(n int64) string { return fmt.Sprintf("+ %.0f MiB", float64(n)/(1<<20)) }
	r.add(Row{Case: "memory at 64 misses of 100 MiB", Ours: mib(ours), Against: "reverse_proxy", Theirs: mib(theirs),
		Result: mib(ours - theirs), Goal: "≤ + 16 MiB", Met: ours-theirs <= 16<<20})
	return nil
}

// growth returns by how much the process grows while it serves 64 long misses.
func growth(p *Process, addr string) (int64, error) {
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	ask := func(size, n, round int) error {
		var wg sync.WaitGroup
		errs := make(chan error, n)
		for i := range n {
			wg.Go(func() {
				resp, err := client.Get(fmt.Sprintf("http://%s/fresh/%d/?%d-%d", addr, size, round, i)) //nolint:noctx // the client has a time-out
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close() //nolint:errcheck // it was read
				}
				errs <- err
			})
		}
		wg.Wait()
		for range n {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask(1<<10, 64, 0); err != nil { // connections and buffers
		return 0, err
	}
	before := p.memory("VmRSS")
	peak := before
	ctx, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			peak = max(peak, p.memory("VmRSS"))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	err := ask(100<<20, 64, 1)
	end()
	<-done
	return peak - before, err
}
