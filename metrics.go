package fluster

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count over the life of the process. Each configuration registers
// them in its own registry, as Caddy wants it.
var metrics = newMetrics()

// metricSet is the metrics of the cache and of the nodes.
type metricSet struct {
	requests      *prometheus.CounterVec
	stores        *prometheus.CounterVec
	garbage       *prometheus.CounterVec
	messages      *prometheus.CounterVec
	invalidations prometheus.Counter
	nodeUp        *prometheus.GaugeVec
	penalties     *prometheus.CounterVec
	away          *prometheus.CounterVec
	forks         *prometheus.CounterVec
	continued     *prometheus.CounterVec

	// Of requests and stores, what is counted often.
	hitNear, hitNode, hitStale    prometheus.Counter
	missStored, missAlone, passed prometheus.Counter
	storesDone                    prometheus.Counter
}

func newMetrics() *metricSet {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "fluster", Name: name, Help: help}, labels)
	}
	m := &metricSet{
		requests: vec("requests_total", "Requests by what became of them: near, node or stale (hits), stored, miss, collapsed, validated, stale-if-error, pass.", "result"),
		stores:   vec("stores_total", "Values put on nodes: stored, failed, or dropped as the node was too slow or out of use.", "result"),
		garbage:  vec("garbage_total", "Values on nodes that could not be used: of another format, of another version, of another key, or a chunk that is missing or torn.", "reason"),
		messages: vec("messages_total", "Published invalidation messages: heard or refused.", "result"),
		invalidations: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "caddy", Subsystem: "fluster",
			Name: "invalidations_total", Help: "Invalidations made by this process, beside those heard."}),
		nodeUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "caddy", Subsystem: "fluster",
			Name: "node_up", Help: "Whether the node is in use."}, []string{"pool", "node"}),
		penalties: vec("penalties_total", "How often the node was taken out of use.", "pool", "node"),
		away:      vec("node_away_seconds_total", "For how long the node was out of use, counted when it is back.", "pool", "node"),
		continued: vec("continued_total", "Responses whose rest could not be had from where it was stored when the client had the beginning: fetched from the origin, or broken-off.", "result"),
		forks:     vec("journal_forks_total", "How often the journal of the node turned out not to be the one that was known.", "pool", "node"),
	}
	m.hitNear, m.hitNode, m.hitStale = m.requests.WithLabelValues("near"), m.requests.WithLabelValues("node"), m.requests.WithLabelValues("stale")
	m.missStored, m.missAlone, m.passed = m.requests.WithLabelValues("stored"), m.requests.WithLabelValues("miss"), m.requests.WithLabelValues("pass")
	m.storesDone = m.stores.WithLabelValues("stored")
	return m
}

// hit counts a request that was answered from what was stored.
func (m *metricSet) hit(where string, ttl time.Duration) {
	switch {
	case ttl <= 0:
		m.hitStale.Inc()
	case where == "near":
		m.hitNear.Inc()
	default:
		m.hitNode.Inc()
	}
}

// registerMetrics puts the metrics into a registry, once.
func registerMetrics(r *prometheus.Registry) {
	m := metrics
	all := []prometheus.Collector{m.requests, m.stores, m.garbage, m.messages, m.invalidations, m.nodeUp, m.penalties, m.away, m.forks, m.continued}
	for _, c := range append(all, queueMetrics.collectors()...) {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			panic(err) // a programmer's mistake: two metrics of one name
		}
	}
}
