package journal

import (
	"fmt"
	"sync"
	"testing"
)

// mutants are the rules of the protocol (INVALIDATION.md, docs/invalidation.md),
// each of which is taken out in turn.
var mutants = []struct {
	rule           string
	mutant         string
	without, wrong rules
	first          uint64 // a seed shortly before one that shows it: some take thousands
}{
	{"an invalidation is learnt here first, then sent to all nodes", "it is learnt when all have answered", 0, mirrorFirst, 0},
	{"it is acknowledged when every node in use has it", "when the first has it", 0, mirrorAck, 3615},
	{"quorum strict: when more than half of all nodes have it", "when every node in use has it", 0, mirrorMajority, 4400},
	{"quorum strict: nothing is served while a majority is not proven", "a minority suffices", ruleQuorum, 0, 0},
	{"a position is its inc, its seq and its nonce", "its seq alone", ruleNonce, 0, 0},
	{"a nonce belongs to an append, not to a record", "it is made of the record's id", 0, mirrorNonce, 1930},
	{"a node takes a record once, whoever relays it", "as often as it comes", 0, mirrorTwice, 0},
	{"that it has one counts for the journal's inc alone", "for the next journal too", 0, mirrorKeyInc, 2960},
	{"a journal is read from the known position inclusive", "what comes before is not looked at", ruleInclusive, 0, 330},
	{"a journal without a head is another one", "it is the one that was known", ruleNoHead, 0, 360},
	{"a head that stays below the known position is a fork", "it is a late answer", ruleRollback, 0, 805},
	{"a fork makes the near cache and the fills under way dead", "it leaves them", ruleForget, 0, 535},
	{"so does a journal that has lost its beginning", "it leaves them", ruleTrimmed, 0, 3040},
	{"heads are seen with each lookup", "a response is read without the head of its time", 0, mirrorTogether, 0},
	{"and with each poll", "nobody polls", 0, mirrorPoll, 0},
	{"a proof counts from the sending of the read", "from its answer", 0, mirrorSent, 85},
	{"an entry that is heard of follows the one that it names", "the one with the seq before", ruleAfter, 0, 4460},
	{"a message makes one record, whoever hears it", "each makes one, others may cover it", 0, mirrorName, 880},
	{"what a journal lacks when it was loaded is owed to it", "it is not", ruleOwe, 0, 0},
	{"what an owed record selects on the node is refused", "it is served", ruleOwed, 0, 0},
	{"what is owed is relayed", "it is not", 0, mirrorRelay, 0},
	{"what can be named no more is owed as one record all", "it is forgotten", ruleLost, 0, 0},
	{"what a table has no room for counts as invalidated", "it is forgotten", ruleFloor, 0, 385},
	{"a node is used after its journal was read", "at once", 0, mirrorSync, 0},
	{"a stamp is taken before the request to the origin", "after it", 0, mirrorStamp, 0},
	{"so is a learn number", "after it", 0, mirrorLearn, 0},
	{"a follower asks whether anything was learnt since the forward began", "it does not ask", 0, mirrorFollower, 0},
	{"a node's response: no record in its journal since the stamp selects it", "it is not compared", ruleTable, 0, 0},
	{"a near response: no record learnt since selects it", "it is not compared", ruleLearnt, 0, 0},
	{"soft records make stale", "they do nothing", ruleSoft, 0, 0},
	{"the near cache: every node in use was proven within a lease", "some day", ruleLease, 0, 0},
	{"and every node was tried since the start", "or will be", ruleUnknown, 0, 3930},
	{"a node's responses ask the leases too", "they do not", 0, mirrorLeased, 0},
	{"without any node: for max_blind", "for ever", ruleBlind, 0, 0},
	{"a node that may lack what another journal has lost is not believed", "it is", ruleSuspect, 0, 435},
	{"what was stored before a Flush is dead", "it is served", ruleFlush, 0, 70},
	{"leases run while the process is suspended", "they stand still", 0, mirrorClock, 0},
}

// caught says after how many schedules the mutant was, and by what.
type caught struct {
	after uint64
	by    error
}

// TestMutants shows that the simulation notices when a rule is taken out. With
// -v it tells which rule, and what was noticed.
func TestMutants(t *testing.T) {
	const most = 20000
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	results := make([]caught, len(mutants))
	for m, mutant := range mutants {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for i := mutant.first; i < mutant.first+most; i++ {
				if _, err := simulate(i, mutant.without, mutant.wrong); err != nil {
					if _, err := simulate(i, 0, 0); err != nil {
						t.Errorf("seed %d fails with all rules: %v", i, err)
					}
					results[m] = caught{i - mutant.first + 1, err}
					return
				}
			}
		})
	}
	wg.Wait()
	for m, r := range results {
		if r.by == nil {
			t.Errorf("not caught in %d schedules: %q instead of %q", most, mutants[m].mutant, mutants[m].rule)
			continue
		}
		t.Logf("rule: %s\n\tmutant: %s\n\tcaught in schedule %d: %s", mutants[m].rule, mutants[m].mutant, mutants[m].first+r.after-1, fmt.Sprintf("%.140v", r.by))
	}
}
