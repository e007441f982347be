package queue

import "time"

// An inlet is one lane of a source: one class of priority of its destination.
type inlet struct {
	name, key          string
	destination, class string
	abandoned          bool // no block has its destination: it is read to be buried
	weight             int
	share              int       // what it is owed of the deliveries, by smooth weighted round robin
	empty              time.Time // when it was last found so
	cursor             string    // where claiming goes on
}

// emptyFor is for how long a lane that was found empty is not asked again while
// others have messages.
const emptyFor = 20 * time.Millisecond

// newInlets returns the lanes of a destination.
func newInlets(o Options, destination string, k keys) []*inlet {
	var out []*inlet
	add := func(class string, weight int) {
		out = append(out, newInlet(lane(destination, class), k, weight))
	}
	for _, c := range o.Classes {
		add(c.Name, c.Weight)
	}
	add("", 1)
	return out
}

func newInlet(name string, k keys, weight int) *inlet {
	in := &inlet{name: name, key: k.stream(name), weight: weight, cursor: "0-0"}
	in.destination, in.class = splitLane(name)
	return in
}

// shareOut divides n deliveries among those lanes that may have messages, by
// their weights: over time each gets its share to within one, however n is.
func shareOut(n int, inlets []*inlet, mayHave func(*inlet) bool) map[*inlet]int {
	total := 0
	candidates := make([]*inlet, 0, len(inlets))
	for _, in := range inlets {
		if mayHave(in) {
			candidates = append(candidates, in)
			total += in.weight
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	out := make(map[*inlet]int, len(candidates))
	for range n {
		best := candidates[0]
		for _, in := range candidates {
			in.share += in.weight
			if in.share > best.share {
				best = in
			}
		}
		best.share -= total
		out[best]++
	}
	return out
}
