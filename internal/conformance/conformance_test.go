// Package conformance asks a real Caddy with this repository's plugin, in front
// of a scripted origin, whether it caches HTTP to the letter. Its tables are
// written from the text of the RFCs; each row names its section. The package
// has tests only.
//
//	conformance_test.go  the runs, and the sections of the tables
//	caddy_test.go        building and starting Caddy
//	client_test.go       asking it, in HTTP/1.1 and HTTP/2
//	node_test.go         a Redis node, and knowing when a response lies on it
//	origin_test.go       the origin, which answers what a row says, byte by byte
//	row_test.go          a row: what the origin answers, what the client asks
//	judge_test.go        what a row expects of an answer
//	dates_test.go        dates in the three forms of HTTP
//
// The other files are the tables. A row fails alone: each has a URL of its own,
// and all rows share one Caddy.
package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain lets many rows run at once: they wait for clocks and sockets rather
// than compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if !isSet("test.parallel") {
		if err := flag.Set("test.parallel", "48"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	removeCaddy()
	os.Exit(code)
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// A section is the part of a table that one section of an RFC is the source of.
type section struct {
	source string // like "RFC 9111 §4.2.1"
	rows   []row
}

// sections is the whole table, in the order of the files.
func sections() []section {
	var all []section
	for _, part := range [][]section{
		cacheControlRows(), ageRows(), expiresRows(), dateRows(), heuristicRows(), statusRows(),
		storingRows(), authorizationRows(), methodRows(), fieldRows(), contentRows(),
		varyRows(), negotiationRows(), conditionRows(), validationRows(), updateRows(), headRows(),
		staleRows(), requestRows(), invalidationRows(), groupRows(),
		rangeRows(), partialRows(), interimRows(), brokenRows(),
		targetedRows(), cacheStatusRows(), searchRows(), keyRows(), profileRows(),
	} {
		all = append(all, part...)
	}
	return all
}

// TestEmbedded is the whole table on the near cache alone.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	c := startCaddy(t, "")
	for _, r := range []*run{
		{caddy: c, name: "h1", client: newHTTP1(), once: newHTTP1Once()},
		{caddy: c, name: "h2", client: newHTTP2()},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.all(t)
		})
	}
}

// TestNode is the whole table on a Redis node, without a near cache, so that
// all that is used has been written and read.
func TestNode(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c := startCaddy(t, "nodes "+n.url+"\nnear off\ntimeout 5s")
	r := &run{caddy: c, name: "node", client: newHTTP1(), once: newHTTP1Once(), node: n}
	r.waitUntilStoring(t)
	r.all(t)
}

// all plays all rows.
func (r *run) all(t *testing.T) {
	for i, s := range sections() {
		t.Run(s.source, func(t *testing.T) {
			t.Parallel()
			for j, w := range s.rows {
				if w.near && r.node != nil {
					continue
				}
				path := fmt.Sprintf("/%s/%s-%d-%dx", w.siteName(), r.name, i, j)
				t.Run(w.name, func(t *testing.T) {
					t.Parallel()
					r.play(t, w, path)
				})
			}
		})
	}
}

// TestRowsHaveNames keeps rows apart from each other.
func TestRowsHaveNames(t *testing.T) {
	seen, n := map[string]bool{}, 0
	for _, s := range sections() {
		for _, w := range s.rows {
			n++
			name := s.source + ": " + w.name
			if w.name == "" || seen[name] {
				t.Errorf("row %q has no name of its own", name)
			}
			if len(w.steps) == 0 {
				t.Errorf("row %q asks nothing", name)
			}
			seen[name] = true
		}
	}
	t.Logf("%d rows", n)
}
