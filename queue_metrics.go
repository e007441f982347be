package fluster

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-fluster/caddy-fluster/queue"
)

// queueMetrics count over the life of the process, as metrics do.
var queueMetrics = newQueueMetrics()

// queueMetricSet is the metrics of queues.
type queueMetricSet struct {
	accepted, refused, failedOver                                  *prometheus.CounterVec
	delivered, retried, dead, released, duplicates                 *prometheus.CounterVec
	seconds                                                        *prometheus.HistogramVec
	descMessages, descOldest, descPaused, descAsked, descAbandoned *prometheus.Desc
}

func newQueueMetrics() *queueMetricSet {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "fluster_queue", Name: name, Help: help},
			append([]string{"pool", "queue"}, labels...))
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("caddy_fluster_queue_"+name, help, append([]string{"pool", "queue"}, labels...), nil)
	}
	return &queueMetricSet{
		accepted:   vec("accepted_total", "Messages accepted, by the node that took them.", "node"),
		refused:    vec("refused_total", "Requests that were not accepted, by the reason.", "reason"),
		failedOver: vec("failed_over_total", "Messages that another node took, by the node that was tried first.", "node"),
		delivered:  vec("delivered_total", "Messages delivered.", "destination", "node"),
		retried:    vec("retried_total", "Deliveries that failed and are tried again.", "destination", "node"),
		dead:       vec("dead_total", "Messages that became dead letters.", "destination", "node"),
		released:   vec("released_total", "Messages handed back untried.", "destination", "node"),
		duplicates: vec("suspected_duplicates_total", "Deliveries that may have been done twice: another worker took the message meanwhile, or an attempt before ended without a word.", "destination", "node"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "caddy", Subsystem: "fluster_queue", Name: "seconds",
			Help:    "Time from acceptance to delivery, by the node on which the message lay.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200},
		}, []string{"pool", "queue", "destination", "node"}),
		descMessages:  desc("messages", "Messages there are, by node and state.", "node", "partition", "state"),
		descOldest:    desc("oldest_seconds", "Age of the oldest message that is ready.", "node", "partition"),
		descAbandoned: desc("abandoned", "Messages for deliver blocks that are not in the configuration.", "node", "partition", "destination"),
		descPaused:    desc("paused", "Whether the queue is paused."),
		descAsked:     desc("in_flight_here", "Deliveries under way in this process.", "destination"),
	}
}

func (m *queueMetricSet) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.accepted, m.refused, m.failedOver, m.delivered, m.retried, m.dead, m.released, m.duplicates, m.seconds, depthCollector{},
	}
}

// queueCounts count what happens to the messages of one queue.
type queueCounts struct{ pool, queue string }

func (c *queueCounts) accepted(node string) {
	queueMetrics.accepted.WithLabelValues(c.pool, c.queue, node).Inc()
}

func (c *queueCounts) refused(reason string) {
	queueMetrics.refused.WithLabelValues(c.pool, c.queue, reason).Inc()
}

func (c *queueCounts) failedOver(node string) {
	queueMetrics.failedOver.WithLabelValues(c.pool, c.queue, node).Inc()
}

// of counts one in v for the delivery.
func (c *queueCounts) of(v *prometheus.CounterVec, d *queue.Delivery) {
	v.WithLabelValues(c.pool, c.queue, d.Destination, d.Node).Inc()
}

func (c *queueCounts) took(d *queue.Delivery) {
	queueMetrics.seconds.WithLabelValues(c.pool, c.queue, d.Destination, d.Node).Observe(max(time.Since(d.AcceptedAt), 0).Seconds())
}

// depthFor is how long what the nodes have told of a queue's depth is used. A
// scraper that asks often costs Redis no more than that.
const depthFor = 5 * time.Second

// askFor is how long the nodes have to tell of a queue.
const askFor = time.Second

// depth is what the nodes have told of a queue.
type depth struct {
	counts []queue.Count
	paused bool
}

// depthCache keeps a depth for a while.
type depthCache struct {
	mu   sync.Mutex // guards all below, also while the nodes are asked
	at   time.Time
	last depth
}

// get returns what ask says, or what it has said within depthFor.
func (c *depthCache) get(ask func() depth) depth {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) > depthFor {
		c.last, c.at = ask(), time.Now()
	}
	return c.last
}

// depthCollector tells how many messages there are in the queues of the
// configuration that is in force.
type depthCollector struct{}

// Describe sends the descriptions of all metrics.
func (depthCollector) Describe(out chan<- *prometheus.Desc) {
	m := queueMetrics
	for _, d := range []*prometheus.Desc{m.descMessages, m.descOldest, m.descPaused, m.descAsked, m.descAbandoned} {
		out <- d
	}
}

// Collect asks the nodes, all queues at the same time.
func (depthCollector) Collect(out chan<- prometheus.Metric) {
	app := appInForce()
	if app == nil {
		return
	}
	var wg sync.WaitGroup
	for _, q := range app.liveQueues() {
		wg.Go(func() { q.collect(out) })
	}
	wg.Wait()
}

func (q *liveQueue) collect(out chan<- prometheus.Metric) {
	d := q.depths.get(func() depth { return q.ask(context.Background()) })
	m := queueMetrics
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, append([]string{q.count.pool, q.count.queue}, labels...)...)
	}
	for _, c := range d.counts {
		if c.Err != nil {
			continue // a gap tells more than a wrong number
		}
		part := strconv.Itoa(c.Partition)
		for state, n := range map[string]int64{"ready": c.Ready, "in_flight": c.InFlight, "delayed": c.Delayed, "dead": c.Dead} {
			gauge(m.descMessages, float64(n), c.Node, part, state)
		}
		for destination, n := range c.Abandoned {
			gauge(m.descAbandoned, float64(n), c.Node, part, destination)
		}
		gauge(m.descOldest, c.Oldest.Seconds(), c.Node, part)
	}
	paused := 0.0
	if d.paused {
		paused = 1
	}
	gauge(m.descPaused, paused)
	for _, w := range q.workers() {
		gauge(m.descAsked, float64(w.InFlight()), w.destination)
	}
}
