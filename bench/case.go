package main

import "slices"

// A Case is one thing that is measured. Run starts the servers that it needs,
// which are stopped behind it, and adds what it found to the report. An error
// is told in the report in its place.
type Case struct {
	Name string // of the queue's, the first word is queue
	Run  func(*Lab, *Report) error
}

// allCases returns what is measured, in the order of the report.
func allCases() []Case {
	return slices.Concat(hitCases(), missCases(), largeCases(), herdCases(), costCases(), growthCases(), queueCases())
}
