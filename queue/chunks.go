package queue

const (
	// chunkSize is how much of a body lies in one key.
	chunkSize = 256 << 10
	// maxChunked is the longest body that an entry is believed to have.
	maxChunked = 1 << 34
)
