package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// A try is one thing to try: a shell command, and what it shows.
type try struct {
	title   string
	command string
	see     string         // what a person should look for in the output
	want    *regexp.Regexp // the same for a test: what the output must match
	waits   bool           // the command may have to be repeated until it shows that
}

// tries returns what to try with this demo, in this order.
func (d *demo) tries() []try {
	var (
		one     = fmt.Sprintf("http://localhost:%d", d.caddies[0].port)
		two     = fmt.Sprintf("http://localhost:%d", d.caddies[1].port)
		host    = strings.TrimPrefix(one, "http://")
		a, b    = d.nodes[0], d.nodes[1]
		fetch   = d.fetcher()
		publish = func(message string) string {
			return fmt.Sprintf("%s publish fluster:invalidate '%s'", d.redisCLI(b), message)
		}
	)
	const miss = "Cache-Status: fluster; fwd=uri-miss; fwd-status=200; stored"
	heard := regexp.MustCompile(`^\(integer\) [1-9]`)
	return []try{
		{
			title:   "a page that nobody asked for yet: the origin makes it",
			command: fetch.page(one + "/product/42"),
			see:     miss, want: fieldLine(miss),
		}, {
			title:   "the same page again, from this Caddy's memory",
			command: fetch.page(one + "/product/42"),
			see:     "Cache-Status: fluster; hit; ttl=59; detail=near",
			want:    regexp.MustCompile(`(?m)^Cache-Status: fluster; hit; ttl=\d+; detail=near\r?$`),
		}, {
			title:   "the second Caddy never asked the origin for it, and has it from Redis",
			command: fetch.pageAs(host, two+"/product/42"),
			see:     "Cache-Status: fluster; hit; ttl=58; detail=node",
			want:    regexp.MustCompile(`(?m)^Cache-Status: fluster; hit; ttl=\d+; detail=node\r?$`),
		}, {
			title:   "a page that takes the origin a second, three times",
			command: fetch.times(one+"/slow", 3),
			see:     "the first takes a second, the others next to nothing",
			want:    regexp.MustCompile(`^200 in 1\.\d+ s\n(200 in [01]\.\d+ s\n)200 in 0\.\d+ s\n$`),
		}, {
			title:   "a private page is nothing for a shared cache",
			command: fetch.page(one + "/private"),
			see:     "a Cache-Status without stored, each time",
			want:    regexp.MustCompile(`(?m)^Cache-Status: fluster; fwd=uri-miss; fwd-status=200(; detail=[^;\s]+)?\r?$`),
		}, {
			title:   "the product changed: whoever can reach any one of the nodes says so",
			command: publish("tag product-42"),
			see:     "(integer) 2, because both Caddys listen on each node", want: heard,
		}, {
			title:   "and the page is made anew, with a new time in it",
			command: fetch.page(one + "/product/42"),
			see:     miss, want: fieldLine(miss), waits: true,
		}, {
			title:   "the same for everything at once",
			command: publish("all"),
			see:     "(integer) 2", want: heard,
		}, {
			title:   "the page is made anew again",
			command: fetch.page(one + "/product/42"),
			see:     miss, want: fieldLine(miss), waits: true,
		}, {
			title:   "a node dies, in the rudest way",
			command: fmt.Sprintf("kill -9 %d", a.server.PID()),
			see:     fmt.Sprintf("here: node %s is gone; it starts again in %v", a.name, d.opt.reviveAfter),
			want:    regexp.MustCompile(`^$`),
		}, {
			title:   "and no visitor notices, whichever page is asked for",
			command: fetch.products(one, 9),
			see:     "200, nine times, each in no time",
			want:    regexp.MustCompile(`^(200 in 0\.\d+ s\n){9}$`),
		}, {
			title:   "later the node is back, and both Caddys use it again",
			command: d.redisCLI(a) + " ping",
			see:     "PONG", want: regexp.MustCompile(`^PONG\n`), waits: true,
		},
	}
}

// fieldLine returns a pattern for one whole line of a response's head.
func fieldLine(line string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + `\r?$`)
}

// printTries prints the list.
func (d *demo) printTries() {
	var b strings.Builder
	fmt.Fprintf(&b, "\nAll of it runs. In a browser: http://localhost:%d/\n", d.caddies[0].port)
	b.WriteString("Things to try, in another terminal and in this order:\n")
	for i, t := range d.tries() {
		fmt.Fprintf(&b, "\n%2d. %s\n      %s\n    → %s\n", i+1, t.title, t.command, t.see)
	}
	b.WriteString("\nCtrl-C ends it, and leaves nothing behind.")
	d.say("%s", b.String())
}

// redisCLI returns the start of a command for node n.
func (d *demo) redisCLI(n *node) string {
	name := "redis-cli"
	if _, err := exec.LookPath(name); err != nil {
		name = "valkey-cli"
	}
	return fmt.Sprintf("%s --no-raw -p %d", name, n.server.Port())
}

// A fetcher writes commands that fetch pages: by curl, or by this program
// where there is no curl.
type fetcher struct{ self string } // this program's path, or empty for curl

func (d *demo) fetcher() fetcher {
	if _, err := exec.LookPath("curl"); err != nil {
		return fetcher{self: d.opt.self}
	}
	return fetcher{}
}

// page returns a command that prints a response, head and body.
func (f fetcher) page(url string) string {
	if f.self != "" {
		return fmt.Sprintf("'%s' get %s", f.self, url)
	}
	return "curl -si " + url
}

// pageAs returns the same for another Host than the URL's: Host is part of
// what a stored response is found by.
func (f fetcher) pageAs(host, url string) string {
	if f.self != "" {
		return fmt.Sprintf("'%s' get -host %s %s", f.self, host, url)
	}
	return fmt.Sprintf("curl -si -H 'Host: %s' %s", host, url)
}

// brief returns a command that prints status and time of each response.
func (f fetcher) brief(urls string) string {
	if f.self != "" {
		return fmt.Sprintf("'%s' get -brief %s", f.self, urls)
	}
	return `curl -s -o /dev/null -w '%{http_code} in %{time_total} s\n' ` + urls
}

// times returns a command that fetches one page n times.
func (f fetcher) times(url string, n int) string {
	return fmt.Sprintf("for i in $(seq %d); do %s; done", n, f.brief(url))
}

// products returns a command that fetches products 1 to n.
func (f fetcher) products(site string, n int) string {
	return fmt.Sprintf("for i in $(seq %d); do %s; done", n, f.brief(site+"/product/$i"))
}
