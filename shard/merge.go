package shard

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ZRevRangeWithScores reads the sorted set at key from all available nodes and
// returns the members with the indices start to stop, both included, of the
// merged set: of a member that several nodes have, the highest score counts.
// Order and indices are those of Redis's ZREVRANGE: by descending score, then
// by descending member; a negative index counts from the end.
//
// When some node fails, the result is what the others have, and the error says
// who failed; it is ErrNoNode when there was none to ask.
func (p *Pool) ZRevRangeWithScores(ctx context.Context, key string, start, stop int64) ([]redis.Z, error) {
	// Whoever is among the first n of the merged set is among the first n on the
	// node that has its highest score, so no node is asked for more. An index from
	// the end can be anywhere.
	last := stop
	if start < 0 || stop < 0 {
		last = -1
	}
	var mu sync.Mutex // guards highest
	highest := make(map[string]float64)
	err := p.Each(ctx, func(ctx context.Context, n *Node) error {
		members, err := n.Bulk().ZRevRangeWithScores(ctx, key, 0, last).Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, z := range members {
			member, _ := z.Member.(string)
			if score, ok := highest[member]; !ok || z.Score > score {
				highest[member] = z.Score
			}
		}
		return nil
	})
	return between(descending(highest), start, stop), err
}

// descending returns the members in the order of ZREVRANGE.
func descending(scores map[string]float64) []redis.Z {
	members := make([]redis.Z, 0, len(scores))
	for member, score := range scores {
		members = append(members, redis.Z{Score: score, Member: member})
	}
	slices.SortFunc(members, func(a, b redis.Z) int {
		if c := cmp.Compare(b.Score, a.Score); c != 0 {
			return c
		}
		return strings.Compare(b.Member.(string), a.Member.(string))
	})
	return members
}

// between returns the elements from start to stop, both included, where
// negative indices count from the end and others may lie outside.
func between(members []redis.Z, start, stop int64) []redis.Z {
	n := int64(len(members))
	if start < 0 {
		start = max(start+n, 0)
	}
	if stop < 0 {
		stop += n
	}
	stop = min(stop, n-1)
	if start > stop {
		return nil
	}
	return members[start : stop+1]
}
