package journal

import (
	"sync"
	"testing"
)

// mutants are the rules of the protocol, each of which is taken out in turn.
var mutants = []struct {
	name           string
	without, wrong rules
	first          uint64 // a seed shortly before one that shows it: some take thousands
}{
	{"a node's response is compared with its journal", ruleTable, 0, 0},
	{"a near response is compared with what was learnt", ruleLearnt, 0, 0},
	{"what an owed record selects is refused", ruleOwed, 0, 0},
	{"what a loaded journal lacks is owed to it", ruleOwe, 0, 0},
	{"a position is its inc, seq and nonce", ruleNonce, 0, 0},
	{"a journal is read from the known position inclusive", ruleInclusive, 0, 0},
	{"a heard entry follows the one that it says it follows", ruleAfter, 0, 1820},
	{"a journal without a head is another one", ruleNoHead, 0, 0},
	{"a head that stays below the known position is a fork", ruleRollback, 0, 520},
	{"a fork makes the near cache dead", ruleForget, 0, 115},
	{"a trimmed journal makes the near cache dead", ruleTrimmed, 0, 235},
	{"the near cache is believed for a lease", ruleLease, 0, 0},
	{"the near cache is not believed before every node was tried", ruleUnknown, 0, 2360},
	{"what can be named no more is owed as all", ruleLost, 0, 0},
	{"a stamp is taken before the request", 0, mirrorStamp, 0},
	{"a learn number is taken before the request", 0, mirrorLearn, 0},
	{"what is owed is relayed", 0, mirrorRelay, 0},
	{"heads are polled", 0, mirrorPoll, 0},
	{"a node is used after its journal was read", 0, mirrorSync, 0},
	{"a response is read together with the head", 0, mirrorTogether, 0},
	{"the leases are asked for a node's responses", 0, mirrorLeased, 4770},
	{"a proof counts from the time of sending", 0, mirrorSent, 5020},
	{"a nonce belongs to an append", 0, mirrorNonce, 0},
	{"a message makes one record, whoever hears it", 0, mirrorName, 350},
	{"a record key belongs to one inc", 0, mirrorKeyInc, 0},
}

// TestMutants shows that the simulation notices when a rule is taken out.
func TestMutants(t *testing.T) {
	const most = 20000
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, m := range mutants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for i := m.first; i < m.first+most; i++ {
				if _, err := simulate(i, m.without, m.wrong); err != nil {
					if _, err := simulate(i, 0, 0); err != nil {
						t.Errorf("seed %d fails with all rules: %v", i, err)
					}
					t.Logf("caught after %5d schedules: without %q: %.160v", i-m.first+1, m.name, err)
					return
				}
			}
			t.Errorf("not caught in %d schedules: without %q", most, m.name)
		})
	}
	wg.Wait()
}
