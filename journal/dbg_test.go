package journal

import (
	"fmt"
	"testing"
)

func TestDbg(t *testing.T) {
	w, err := simulate(*simSeed, 0, 0)
	fmt.Println(err, "maxLen", w.maxLen, "targets", w.maxTargets, "records", w.maxRecords, "loss", w.loss, "lag", w.lag, "invs", len(w.invalidations))
	for _, n := range w.nodes {
		fmt.Println(n.index, n.down, n.data.head, n.data.ok, len(n.data.stream))
		for _, e := range n.data.stream {
			fmt.Println("   ", e.Seq, e.ID, e.Target)
		}
	}
	for _, p := range w.processes {
		for _, pl := range p.places {
			fmt.Println(p.index, pl.node.index, pl.view.state, pl.view.head, pl.view.first, len(pl.view.nonces), pl.view.loaded, pl.view.lost, len(pl.view.owed), p.links, pl.slow, pl.reading, len(p.book.log.records), p.book.log.dropped)
		}
	}
}
