package fluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-fluster/caddy-fluster/shard"
)

// PoolConfig says which Redis servers a pool has and how they are used. One of
// `nodes`, `cluster` and `sentinel` may be given; with none of them the cache
// lives in the near cache of this process alone.
type PoolConfig struct {
	// Independent Redis servers: redis://host:port, rediss:// for TLS, or
	// unix:///path/to/socket, with ?name=, ?weight= and ?db= where wanted. The name
	// (default: host:port) decides which keys lie on the node, so keep it when a
	// server moves. Placeholders are replaced.
	Nodes []string `json:"nodes,omitempty"`

	// One or several servers of a Redis Cluster; the others are discovered.
	Cluster []string `json:"cluster,omitempty"`

	// A master that Redis Sentinel watches.
	Sentinel *Sentinel `json:"sentinel,omitempty"`

	// Credentials for nodes whose URL names none. Placeholders are replaced.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// How to speak TLS with the nodes. Nodes with a redis:// URL do so too when it is given.
	TLS *TLS `json:"tls,omitempty"`

	// Prefix of every Redis key. Default: fluster.
	Namespace string `json:"namespace,omitempty"`

	// The longest that one cache operation on one node may take, and so the most
	// that a node in trouble costs a request. Default: 100ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long a node that fails is left alone.
	Penalty *Penalty `json:"penalty,omitempty"`

	// Memory of the near cache, which answers the hottest responses from this
	// process: a size like 64MiB, or off. Default: 64MiB.
	Near Size `json:"near,omitzero"`

	// The channel on which invalidation messages are heard. Default: <namespace>:invalidate.
	Channel string `json:"channel,omitempty"`

	// On how many nodes an invalidation must lie before it is acknowledged:
	// available (every node in use, at least one) or strict (a majority of all
	// nodes). With strict nothing is served from the cache without asking the
	// origin while no majority of the nodes can be reached. Default: available.
	Quorum string `json:"quorum,omitempty"`

	// How long the near cache is believed while no node can be reached, or
	// forever. With quorum strict it never is. Default: 1m.
	MaxBlind *Blind `json:"max_blind,omitempty"`
}

// Sentinel names a master and the sentinels that know where it is.
type Sentinel struct {
	// The name under which the sentinels watch the master.
	Master string `json:"master"`
	// URLs of the sentinels.
	Addresses []string `json:"addresses"`
}

// TLS says how to speak TLS with the nodes. All paths may hold placeholders.
type TLS struct {
	// File of the CA certificates that the nodes are checked with. Default: the system's.
	CA string `json:"ca,omitempty"`
	// Files of the client certificate and its key.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// The name that the nodes' certificates must carry. Default: the host of the URL.
	ServerName string `json:"server_name,omitempty"`
}

// Defaults of PoolConfig.
const (
	defaultNamespace = "fluster"
	defaultTimeout   = 100 * time.Millisecond
	minTimeout       = time.Millisecond // in less no server answers, and each would be penalized
	defaultNear      = 64 << 20
	minNear          = 1 << 10 // less holds no response: the unit is missing
	defaultMaxBlind  = time.Minute
)

// resolve returns the configuration with placeholders replaced and defaults
// filled in, or what is wrong with it.
func (c PoolConfig) resolve(repl *caddy.Replacer) (PoolConfig, error) {
	var errs []error
	for option, s := range map[string]*string{"namespace": &c.Namespace, "channel": &c.Channel, "username": &c.Username, "password": &c.Password} {
		var err error
		*s, err = replace(repl, option, *s)
		errs = append(errs, err)
	}
	for option, urls := range map[string]*[]string{"nodes": &c.Nodes, "cluster": &c.Cluster} {
		var err error
		*urls, err = replaceEach(repl, option, *urls)
		errs = append(errs, err)
	}
	if c.Sentinel != nil {
		addresses, err := replaceEach(repl, "sentinel", c.Sentinel.Addresses)
		c.Sentinel = &Sentinel{Master: repl.ReplaceAll(c.Sentinel.Master, ""), Addresses: addresses}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	if c.Namespace == "" {
		c.Namespace = defaultNamespace
	}
	if c.Channel == "" {
		c.Channel = c.Namespace + ":invalidate"
	}
	if c.Timeout == 0 {
		c.Timeout = caddy.Duration(defaultTimeout)
	}
	if !c.Near.Set {
		c.Near = Size{Bytes: defaultNear, Set: true}
	}
	if c.MaxBlind == nil {
		c.MaxBlind = new(Blind(defaultMaxBlind))
	}
	p := c.Penalty.withDefaults()
	c.Penalty = &p
	return c, c.check()
}

func (c *PoolConfig) check() error {
	given := 0
	for _, is := range []bool{len(c.Nodes) > 0, len(c.Cluster) > 0, c.Sentinel != nil} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("only one of nodes, cluster and sentinel may be given")
	case c.Timeout != 0 && time.Duration(c.Timeout) < minTimeout:
		return fmt.Errorf("timeout must be at least %s, not %s", minTimeout, time.Duration(c.Timeout))
	case c.Near.isTooSmall():
		return errNear(c.Near)
	case c.Quorum != "" && c.Quorum != "available" && c.Quorum != "strict":
		return fmt.Errorf("quorum must be available or strict, not %q", c.Quorum)
	}
	if err := errors.Join(c.Sentinel.check(), c.Penalty.Validate()); err != nil {
		return err
	}
	if err := checkNamespace(c.Namespace); err != nil {
		return err
	}
	// What clients publish there would be taken for what Caddys tell each other.
	if c.Channel != "" && (c.Channel == journalChannel(c.Namespace) || c.Channel == forwardsChannel(c.Namespace)) {
		return fmt.Errorf("channel %s is that of Caddys among themselves; choose another", c.Channel)
	}
	_, err := c.addresses()
	return err
}

var errSentinel = errors.New("sentinel takes the name of a master and at least one address")

// check checks that the master was not forgotten: the first address would be its name.
func (s *Sentinel) check() error {
	if s != nil && (s.Master == "" || strings.Contains(s.Master, "://") || len(s.Addresses) == 0) {
		return errSentinel
	}
	return nil
}

// isTooSmall reports whether s is no memory for a near cache. None at all is one.
func (s Size) isTooSmall() bool { return s.Bytes > 0 && s.Bytes < minNear }

func errNear(s Size) error {
	return fmt.Errorf("near must be at least 1KiB, or off, not %d bytes: is the unit missing, as in %dMiB?", s.Bytes, s.Bytes)
}

// checkNamespace checks a namespace without placeholders.
func checkNamespace(s string) error {
	if strings.ContainsAny(s, "{} \t\r\n") {
		return fmt.Errorf("namespace %q must not contain braces or spaces", s)
	}
	return nil
}

// addresses reads the URLs of the nodes; the same node twice is an error.
func (c *PoolConfig) addresses() ([]shard.Address, error) {
	option, urls := "nodes", c.Nodes
	switch {
	case len(c.Cluster) > 0:
		option, urls = "cluster", c.Cluster
	case c.Sentinel != nil:
		option, urls = "sentinel", c.Sentinel.Addresses
	}
	out, err := parseAddresses(option, urls)
	if err != nil {
		return nil, err
	}
	return out, checkAgreement(option, out)
}

// checkAgreement checks that no server of a cluster, and no sentinel, says something
// of its own that would be left out without a word.
func checkAgreement(option string, addresses []shard.Address) error {
	if option == "nodes" {
		return nil
	}
	for _, a := range addresses {
		if what := a.Disagrees(addresses[0]); what != "" {
			return fmt.Errorf("%s: the %s that %s is given is not that of the first address, which counts", option, what, a.Endpoint)
		}
	}
	return nil
}

// parseAddresses reads the URLs that an option names; the same node twice, by
// name or by address, is an error.
func parseAddresses(option string, urls []string) (out []shard.Address, err error) {
	seen := map[string]bool{}
	for i, u := range urls {
		if u == "" {
			return nil, fmt.Errorf("%s: address %d is empty", option, i+1)
		}
		a, err := shard.ParseAddress(u)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		switch {
		case option != "nodes" && a.Network == "unix":
			return nil, fmt.Errorf("%s: members of a cluster and sentinels cannot be at Unix sockets", option)
		case option == "cluster" && a.DB != 0:
			return nil, errors.New("cluster: a Redis Cluster has no database but 0")
		}
		if seen[a.Name] || seen["at "+a.Endpoint+"/"+strconv.Itoa(a.DB)] {
			return nil, fmt.Errorf("%s: the same node twice: %s", option, a.Name)
		}
		seen[a.Name], seen["at "+a.Endpoint+"/"+strconv.Itoa(a.DB)] = true, true
		out = append(out, a)
	}
	return out, nil
}

// tlsConfig reads the files that c.TLS names; nil without it.
func (c *PoolConfig) tlsConfig(repl *caddy.Replacer) (*tls.Config, error) {
	if c.TLS == nil {
		return nil, nil
	}
	t := *c.TLS
	for option, s := range map[string]*string{"ca": &t.CA, "certificate": &t.Certificate, "key": &t.Key, "server_name": &t.ServerName} {
		var err error
		if *s, err = replace(repl, option, *s); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls: reading ca: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: ca %s holds no certificate", t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, errors.New("tls: certificate takes two files, the certificate and its key")
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: reading certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// replace replaces the placeholders in s. One that has no value is an error: the
// option would mean something else without a word. What is no placeholder stays,
// braces in a password too.
func replace(repl *caddy.Replacer, option, s string) (string, error) {
	out, err := repl.ReplaceOrErr(s, true, false)
	if err != nil {
		return "", fmt.Errorf("%s: a placeholder has no value", option)
	}
	return out, nil
}

// replaceEach replaces the placeholders in addresses. What has no value would be a node
// without a password, say, or at another port. No address holds braces of its own.
func replaceEach(repl *caddy.Replacer, option string, list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, s := range list {
		var err error
		if out[i], err = repl.ReplaceOrErr(s, true, true); err != nil {
			return out, fmt.Errorf("%s: a placeholder of address %d has no value", option, i+1)
		}
	}
	return out, nil
}
