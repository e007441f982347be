// Command bench measures Caddy with the fluster plugin against Caddy without
// it and against other caches, on this machine, and prints a table of ratios.
//
//	go run . -rounds 5 -for 2s                  everything
//	go run . -run 'hit|304'                     some
//	go run . -doc ../docs/performance.md        and write it down, with plots
//
// Server, Redis and load share two cores. What is compared runs in turns: a
// round is one run of each side, the order changes from round to round, and a
// ratio is the median of the rounds' ratios. Other load on the machine thus hits
// both sides. Beside it stands the CPU time that each side's servers took for a
// request, which other load hardly changes.
//
//	case.go      what is measured: the list, and what one gives
//	lab.go       the servers, each a process of its own
//	caddy.go     Caddy, which is this program under another name
//	origin.go    the origin, likewise
//	peers.go     nginx and Varnish
//	keep.go get.go   handlers that do the least of a cache, and of one on Redis
//	load.go      wrk
//	compare.go   two sides in turns
//	hits.go misses.go large.go herd.go cost.go growth.go   the cases of the cache
//	queue.go queuehttp.go queuelatency.go asynq.go         those of the queue, and its peer
//	report.go plot.go   the table and the plots
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	if mainIfChild() {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	only := flag.String("run", ".", "which cases, by a regular expression")
	rounds := flag.Int("rounds", 5, "how many rounds")
	length := flag.Duration("for", 2*time.Second, "how long each run in a round is, in whole seconds")
	doc := flag.String("doc", "", "the page in which the table is to be written")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if err := useTwoCores(); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(allCases(), func(c Case) bool { return !match.MatchString(c.Name) })
	lab, err := openLab(*rounds, *length)
	if err != nil {
		return err
	}
	defer lab.Close()
	cache, queue := newReport(lab, "cache"), newReport(lab, "queue")
	for _, c := range chosen {
		fmt.Fprintf(os.Stderr, "— %s\n", c.Name)
		report := cache
		if strings.HasPrefix(c.Name, "queue ") {
			report = queue
		}
		if err := c.Run(lab, report); err != nil {
			report.skip(c.Name, err)
		}
		lab.stopAll()
	}
	for _, report := range []*Report{cache, queue} {
		if report.isEmpty() {
			continue
		}
		report.print(os.Stdout)
		if *doc == "" {
			continue
		}
		if err := report.write(*doc); err != nil {
			return err
		}
	}
	return nil
}
