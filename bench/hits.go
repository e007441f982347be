package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// hitCases are answers from what is stored.
func hitCases() []Case {
	cases := []Case{}
	for _, kib := range []int{1, 4, 64} {
		cases = append(cases, Case{fmt.Sprintf("hit near %d KiB", kib), func(l *Lab, r *Report) error { return nearHit(l, r, kib<<10) }})
	}
	return append(cases,
		Case{"hit node 4 KiB", nodeHit},
		Case{"hit 304", notModified},
		Case{"hit peers 4 KiB", peers},
	)
}

// cacheBefore starts an origin and a Caddy that caches before it.
func (l *Lab) cacheBefore(global, options string) (cache, origin *Process, addr string, err error) {
	origin, originAddr, err := l.startOrigin()
	if err != nil {
		return nil, nil, "", err
	}
	cache, addr, err = l.startCaddy("cache", global, "fluster_cache "+options+"\n\treverse_proxy "+originAddr)
	return cache, origin, addr, err
}

// respond is Caddy's respond with the header lines of a hit.
func respond(status, size int) string {
	var b strings.Builder
	for _, l := range hitLines {
		if status == http.StatusNotModified && (l.name == "Content-Type" || l.name == "Via") {
			continue // not in a 304
		}
		fmt.Fprintf(&b, "header %s `%s`\n\t", l.name, l.value)
	}
	if status == http.StatusNotModified {
		return b.String() + "respond 304"
	}
	fmt.Fprintf(&b, "header Content-Length %d\n\trespond %q", size, strings.Repeat("x", size))
	return b.String()
}

// wantAlike checks that two loads get answers of the same status, length and
// number of header lines, and the first one a hit of this kind.
func wantAlike(ours, theirs Load, hit string) error {
	var answers [2]struct{ status, length, lines int }
	for i, load := range []Load{ours, theirs} {
		for try := range 100 {
			req, err := http.NewRequest(http.MethodGet, load.URL, nil) //nolint:noctx // it answers soon
			if err != nil {
				return err
			}
			for name, value := range load.Fields {
				req.Header.Set(name, value)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				return err
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close() //nolint:errcheck // it was read
			got := resp.Header.Get("Cache-Status")
			if i == 0 && !strings.Contains(got, hit) {
				if try == 99 {
					return fmt.Errorf("Cache-Status of %s is %q, want %q", load.URL, got, hit)
				}
				time.Sleep(20 * time.Millisecond) // until it is stored
				continue
			}
			resp.Header.Del("Server") // Caddy has it in what it makes itself alone
			answers[i] = struct{ status, length, lines int }{resp.StatusCode, len(body), len(resp.Header)}
			break
		}
	}
	if answers[0] != answers[1] {
		return fmt.Errorf("answers differ in status, length or number of header lines: %v and %v", answers[0], answers[1])
	}
	return nil
}

func nearHit(l *Lab, r *Report, size int) error {
	cache, _, addr, err := l.cacheBefore("fluster", "")
	if err != nil {
		return err
	}
	plain, plainAddr, err := l.startCaddy("respond", "", respond(200, size))
	if err != nil {
		return err
	}
	least, leastAddr, err := l.startCaddy("static", "", fmt.Sprintf("bench_static %d", size))
	if err != nil {
		return err
	}
	ours := Side{Name: "near hit", Load: Load{URL: fmt.Sprintf("http://%s/fresh/%d", addr, size)}, Servers: []*Process{cache}}
	for _, theirs := range []Side{
		{Name: "respond", Load: Load{URL: "http://" + plainAddr + "/"}, Servers: []*Process{plain}},
		{Name: "static handler", Load: Load{URL: "http://" + leastAddr + "/"}, Servers: []*Process{least}},
	} {
		if err := wantAlike(ours.Load, theirs.Load, "hit"); err != nil {
			return err
		}
		c, err := l.compare(ours, theirs)
		if err != nil {
			return err
		}
		r.addRatio(fmt.Sprintf("near hit, %d KiB", size>>10), ours, theirs, c, 0.95)
	}
	return nil
}

func nodeHit(l *Lab, r *Report) error {
	const size = 4 << 10
	redis, err := l.startRedis("redis")
	if err != nil {
		return err
	}
	cache, _, addr, err := l.cacheBefore("fluster {\n\t\tnodes "+redis.redis.URL()+"\n\t\tnear off\n\t}", "")
	if err != nil {
		return err
	}
	plain, plainAddr, err := l.startCaddy("respond", "", respond(200, size))
	if err != nil {
		return err
	}
	theirs := Side{Name: "respond", Load: Load{URL: "http://" + plainAddr + "/"}, Servers: []*Process{plain}}
	for _, urls := range []int{1, manyURLs} {
		ours := Side{Name: "node hit", Load: Load{URL: fmt.Sprintf("http://%s/fresh/%d", addr, size), URLs: urls}, Servers: []*Process{cache, redis}}
		if err := wantAlike(ours.Load, theirs.Load, "hit"); err != nil {
			return err
		}
		c, err := l.compare(ours, theirs)
		if err != nil {
			return err
		}
		what := "one URL"
		if urls > 1 {
			what = fmt.Sprintf("%d URLs in turn", urls)
		}
		r.addRatio("node hit, 4 KiB, near off, "+what, ours, theirs, c, 0.70)
		if err := l.redisCPU(r, redis, ours, what); err != nil {
			return err
		}
	}
	return nil
}

// manyURLs is as many as no two requests under way ask for the same of.
const manyURLs = 1000

// redisCPU compares what a node hit costs the Redis server with what a plain client's
// GET of as much costs it: once in a handler, under the same load, and once from a
// process that does nothing else.
func (l *Lab) redisCPU(r *Report, redis *Process, hit Side, what string) error {
	const size = 4 << 10
	_, addr, err := l.startGet(redis, size, hit.Load.URLs)
	if err != nil {
		return err
	}
	servers := []*Process{redis}
	var ours, handler, alone []float64
	for range l.rounds {
		a, err := l.run(hit.Load, l.length, servers)
		if err != nil {
			return err
		}
		b, err := l.run(Load{URL: "http://" + addr + "/", URLs: hit.Load.URLs}, l.length, servers)
		if err != nil {
			return err
		}
		c, err := plainGets(redis, size, hit.Load.URLs, l.length)
		if err != nil {
			return err
		}
		ours, handler, alone = append(ours, a.CPU), append(handler, b.CPU), append(alone, c)
	}
	a := median(ours)
	for _, against := range []struct {
		name string
		cpu  float64
	}{{"a handler with a plain client's GET", median(handler)}, {"bare GET by a plain client alone", median(alone)}} {
		r.add(Row{Case: "server CPU of a node hit, " + what, Ours: fmt.Sprintf("%.1f µs", a), Against: against.name, Theirs: fmt.Sprintf("%.1f µs", against.cpu),
			Result: fmt.Sprintf("%.2f ×", a/against.cpu), Goal: "≤ 0.5 ×", Met: a/against.cpu < 0.505})
	}
	return nil
}

func notModified(l *Lab, r *Report) error {
	cache, _, addr, err := l.cacheBefore("fluster", "")
	if err != nil {
		return err
	}
	plain, plainAddr, err := l.startCaddy("respond", "", respond(http.StatusNotModified, 0))
	if err != nil {
		return err
	}
	fields := map[string]string{"If-None-Match": `"v1"`}
	ours := Side{Name: "304 from the cache", Load: Load{URL: "http://" + addr + "/fresh/4096", Fields: fields}, Servers: []*Process{cache}}
	theirs := Side{Name: "respond 304", Load: Load{URL: "http://" + plainAddr + "/", Fields: fields}, Servers: []*Process{plain}}
	if err := wantAlike(ours.Load, theirs.Load, "hit"); err != nil {
		return err
	}
	c, err := l.compare(ours, theirs)
	if err != nil {
		return err
	}
	r.addRatio("304", ours, theirs, c, 0.95)
	return nil
}
