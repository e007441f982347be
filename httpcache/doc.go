// Package httpcache is the law of the cache: RFC 9111 and its relatives as pure functions of headers and instants.
//
// It has no clock, no goroutine and no state; what it decides about a response it decides once, when the response comes
// (MayStore), so that a hit only compares instants (ReuseFor). It does not fetch, keep or send anything.
//
//	policy.go         what an operator chose where the RFCs leave a choice
//	directives.go     RFC 9111, Sections 1.2.2, 5.2 and 5.2.2: Cache-Control, and the directives of a response
//	request.go        RFC 9111, Sections 5.2.1 and 5.4: the directives of a request, Pragma
//	targeted.go       RFC 9213: targeted fields such as CDN-Cache-Control
//	date.go           RFC 9110, Section 5.6.7: dates
//	age.go            RFC 9111, Sections 4.2.3 and 5.1: ages; Terms, what MayStore decided
//	freshness.go      RFC 9111, Sections 4.2.1 and 4.2.2, 5.3: freshness lifetimes, heuristics, Expires
//	store.go          RFC 9111, Sections 3, 3.3 and 3.5; RFC 6585: whether a response may be stored
//	fields.go         RFC 9111, Sections 3.1 and 3.2; RFC 9110, Section 7.6.1: which fields are stored, and updated
//	vary.go           RFC 9111, Section 4.1; RFC 9110, Section 12.5.5: selecting fields and their normal form
//	language.go       RFC 9110, Section 12.4.2 and 12.5.4; RFC 4647: weights and languages
//	reuse.go          RFC 9111, Sections 4, 4.2.4 and 5.2.1; RFC 5861; RFC 8246: whether a stored response may be used
//	etag.go           RFC 9110, Section 8.8.3: entity tags
//	validation.go     RFC 9111, Sections 4.3.1, 4.3.4 and 4.3.5: asking the origin, and what its answer updates
//	preconditions.go  RFC 9111, Section 4.3.2; RFC 9110, Sections 13.1, 13.2.2 and 15.4.5: answering 304
//	ranges.go         RFC 9110, Sections 14.1, 14.2 and 13.1.5: Range and If-Range
//	multipart.go      RFC 9110, Sections 14.6 and 15.3.7: several ranges in one response
//	partial.go        RFC 9111, Sections 3.3 and 3.4; RFC 9110, Sections 14.4 and 15.3.7.3: stored partial responses
//	invalidation.go   RFC 9111, Section 4.4: what an unsafe request invalidates
//	cachestatus.go    RFC 9211: the Cache-Status field
//	groups.go         RFC 9875: Cache-Groups
//	tags.go           Surrogate-Key, Cache-Tag: names for invalidation
//	novarysearch.go   draft-ietf-httpbis-no-vary-search: queries that mean the same
package httpcache
