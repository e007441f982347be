package journal

// rules names what makes the protocol safe, one bit each. A Book keeps all of
// them; the simulation takes them out one at a time, to show that it notices.
type rules uint32

const (
	ruleTable       rules = 1 << iota // a node's response is compared with its journal
	ruleLearnt                        // a response of the near cache is compared with what was learnt
	ruleOwed                          // what an owed record selects is refused
	ruleOwe                           // what a journal lacks when it was loaded is owed to it
	ruleNonce                         // a position is its seq and its nonce
	ruleInclusive                     // a journal is read from the known position inclusive
	ruleAfter                         // a heard entry follows the one that it says it follows
	ruleNoHead                        // a journal without a head is another one
	ruleRollback                      // a head that stays below the known position is a fork
	ruleForget                        // a fork makes the near cache and the fills under way dead
	ruleTrimmed                       // so does a journal that has lost its beginning
	ruleLease                         // the near cache is believed for so long only
	ruleUnknown                       // and not before every node was tried
	ruleLost                          // what can be named no more is owed as `all`
	ruleFloor                         // what a table has forgotten counts as invalidated
	ruleBlind                         // without any node the near cache is believed for max_blind
	ruleQuorum                        // quorum strict: a minority of the nodes is no reason to believe anything
	ruleSoft                          // a soft record makes stale
	ruleSuspect                       // a node that may lack what another journal has lost is not believed
	ruleSuspectNear                   // nor is what was read there before that was found out
	ruleFlush                         // what was stored before a Flush is dead
	ruleVouchPaid                     // a journal vouches while its node is owed nothing
	ruleOwnHistory                    // and for the history that it was asked for
)

// has reports whether the rule is kept.
func (b *Book) has(r rules) bool { return b.without&r == 0 }
