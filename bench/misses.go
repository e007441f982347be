package main

import "fmt"

// missCases are requests that the origin answers.
func missCases() []Case {
	return []Case{
		{"miss and pass near", func(l *Lab, r *Report) error { return forwards(l, r, "near alone", "fluster") }},
		{"miss kept by the least near", func(l *Lab, r *Report) error { return leastMiss(l, r, "near alone", "") }},
		{"miss and pass node", func(l *Lab, r *Report) error {
			redis, err := l.startRedis("redis")
			if err != nil {
				return err
			}
			return forwards(l, r, "with a node", "fluster {\n\t\tnodes "+redis.redis.URL()+"\n\t}", redis)
		}},
		{"miss kept by the least node", func(l *Lab, r *Report) error {
			redis, err := l.startRedis("redis")
			if err != nil {
				return err
			}
			return leastMiss(l, r, "with a node", redis.redis.URL(), redis)
		}},
	}
}

// leastMiss compares with a proxy alone what does no more than any cache must.
func leastMiss(l *Lab, r *Report, what, node string, servers ...*Process) error {
	origin, originAddr, err := l.startOrigin()
	if err != nil {
		return err
	}
	least, addr, err := l.startCaddy("least", "", "bench_keep "+node+"\n\treverse_proxy "+originAddr)
	if err != nil {
		return err
	}
	proxy, proxyAddr, err := l.startCaddy("proxy", "", "reverse_proxy "+originAddr)
	if err != nil {
		return err
	}
	side := func(name, addr string, servers ...*Process) Side {
		return Side{Name: name, Load: Load{URL: "http://" + addr + "/fresh/4096", Unique: true}, Servers: append(servers, origin)}
	}
	ours, theirs := side("the least", addr, append(servers, least)...), side("reverse_proxy", proxyAddr, proxy)
	got, err := l.compare(ours, theirs)
	if err != nil {
		return err
	}
	r.addRatio("not ours: the least that a cache does at a miss, 4 KiB, "+what, ours, theirs, got, 0)
	return nil
}

// forwards compares misses that are stored, and responses that may not be
// stored, with a proxy alone.
func forwards(l *Lab, r *Report, what, global string, servers ...*Process) error {
	origin, originAddr, err := l.startOrigin()
	if err != nil {
		return err
	}
	cache, addr, err := l.startCaddy("cache", global, "fluster_cache\n\treverse_proxy "+originAddr)
	if err != nil {
		return err
	}
	proxy, proxyAddr, err := l.startCaddy("proxy", "", "reverse_proxy "+originAddr)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name, path string
		unique     bool
	}{
		{"pass-through (uncacheable), 4 KiB", "/private/4096", false},
		{"miss, stored, 4 KiB", "/fresh/4096", true},
	} {
		ours := Side{Name: "through the cache", Load: Load{URL: "http://" + addr + c.path, Unique: c.unique}, Servers: append([]*Process{cache, origin}, servers...)}
		theirs := Side{Name: "reverse_proxy", Load: Load{URL: "http://" + proxyAddr + c.path, Unique: c.unique}, Servers: []*Process{proxy, origin}}
		got, err := l.compare(ours, theirs)
		if err != nil {
			return err
		}
		r.addRatio(fmt.Sprintf("%s, %s", c.name, what), ours, theirs, got, 0.92)
	}
	return nil
}
