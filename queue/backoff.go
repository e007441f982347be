package queue

import (
	"math/rand/v2"
	"time"
)

// backoff returns how long to wait after the attempt with this number, from 1:
// a random time up to first·2^(attempt−1), at most longest ("full jitter": many
// that failed together come back apart). A receiver's own wish is a lower bound,
// beyond which up to a tenth of it is spread, for the same reason.
func backoff(first, longest time.Duration, attempt int, after time.Duration) time.Duration {
	ceiling := longest
	if shift := attempt - 1; shift < 32 && first<<shift>>shift == first && first<<shift < longest {
		ceiling = first << shift
	}
	d := rand.N(ceiling + 1)
	if d < after {
		d = after + rand.N(min(after, longest)/10+1)
	}
	return d
}
