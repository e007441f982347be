package shard

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// An Address is where a node is, and what else its URL says of it. Its zero
// fields mean their defaults.
type Address struct {
	// Network is tcp (the default) or unix.
	Network string
	// Endpoint is host:port (an IPv6 host in brackets), or the path of a socket.
	Endpoint string
	// TLS says that the URL asked for TLS (rediss://).
	TLS bool
	// DB is the number of the database.
	DB int
	// Name is by what keys find the node, and by what logs and metrics call it.
	// Empty: the Endpoint.
	Name string
	// Weight is the node's share of the keys, relative to the others'. 0 means 1.
	Weight float64

	username, password string // only from URLs; never printed
}

// ParseAddress understands
//
//	redis://[user:password@]host[:port][/db][?name=…][&weight=…][&db=…]
//	rediss://…                                      the same by TLS
//	unix://[user:password@]/path/to.sock[?name=…][&weight=…][&db=…]
//
// The port is 6379 unless given; IPv6 hosts are in brackets. What is reserved in
// URLs (@ / ? # % :) must be percent-encoded in a password. An error never
// quotes what it is about: with a character forgotten, anything may be part of a
// password.
func ParseAddress(s string) (Address, error) {
	if strings.HasSuffix(s, ",") || strings.Contains(s, ",redis://") || strings.Contains(s, ",rediss://") {
		return Address{}, errCommas
	}
	u, err := url.Parse(s)
	if err != nil {
		return Address{}, errors.New("a node's address must be a URL like redis://host:6379 " +
			"(reserved characters in a password are percent-encoded)")
	}
	if strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@") || u.Fragment != "" {
		return Address{}, errors.New("a node's address must have nothing like @ or # behind its host: " +
			"in a password they are percent-encoded")
	}
	if strings.Contains(u.Host, ",") {
		return Address{}, errCommas
	}
	a := Address{Weight: 1, username: u.User.Username()}
	a.password, _ = u.User.Password()
	switch u.Scheme {
	case "redis", "rediss":
		a.TLS = u.Scheme == "rediss"
		err = a.parseHost(u)
	case "unix":
		err = a.parseSocket(u)
	default:
		err = errors.New("a node's address must start with redis://, rediss:// or unix://")
	}
	if err == nil {
		err = a.parseQuery(u.RawQuery)
	}
	if err != nil {
		return Address{}, err
	}
	if a.Name == "" {
		a.Name = a.Endpoint
	}
	return a, nil
}

// errCommas is of a list that is written in one word, or as another language has it.
var errCommas = errors.New("nodes' addresses are separated by spaces, not by commas")

func (a *Address) parseHost(u *url.URL) error {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if host == "" || u.Opaque != "" {
		return errors.New("a node's address must have a host, as in redis://host:6379")
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(u.Host, "[") {
		return errors.New("an IPv6 host in a node's address must be in brackets, as in redis://[::1]:6379")
	}
	if port == "" {
		port = "6379"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return errors.New("the port of a node's address must be a number from 1 to 65535")
	}
	a.Network = "tcp"
	a.Endpoint = net.JoinHostPort(host, strconv.FormatUint(number, 10))
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		return a.parseDB(db)
	}
	return nil
}

func (a *Address) parseSocket(u *url.URL) error {
	if u.Host != "" || u.Path == "" || u.Path == "/" {
		return errors.New("a node at a Unix socket has an absolute path and no host: unix:///path/to.sock")
	}
	a.Network, a.Endpoint = "unix", u.Path
	return nil
}

func (a *Address) parseQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("the query of a node's address must be like ?name=a&weight=2")
	}
	for parameter, values := range query {
		if len(values) > 1 {
			return errors.New("a parameter of a node's address must be given only once")
		}
		switch parameter {
		case "name":
			err = a.parseName(values[0])
		case "weight":
			err = a.parseWeight(values[0])
		case "db":
			if a.DB != 0 {
				return errors.New("the database of a node's address must be in its path or in ?db=, not in both")
			}
			err = a.parseDB(values[0])
		default:
			err = errors.New("the parameters of a node's address are name, weight and db, and no others")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Address) parseName(s string) error {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, odd) {
		return errors.New("the name of a node must have 1 to 255 bytes, without spaces and control characters")
	}
	a.Name = s
	return nil
}

func (a *Address) parseWeight(s string) error {
	weight, err := strconv.ParseFloat(s, 64)
	if err != nil || !(weight > 0) || math.IsInf(weight, 0) {
		return errors.New("the weight of a node must be a number above 0")
	}
	a.Weight = weight
	return nil
}

func (a *Address) parseDB(s string) error {
	db, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return errors.New("the database of a node's address must be a number from 0")
	}
	a.DB = int(db)
	return nil
}

// String returns the address as a URL, without credentials, name and weight.
func (a Address) String() string {
	if a.network() == "unix" {
		return fmt.Sprintf("unix://%s%s", a.Endpoint, suffix("?db=", a.DB))
	}
	scheme := "redis"
	if a.TLS {
		scheme = "rediss"
	}
	return fmt.Sprintf("%s://%s%s", scheme, a.Endpoint, suffix("/", a.DB))
}

// GoString is String, so that %#v shows no password either.
func (a Address) GoString() string { return a.String() }

func suffix(prefix string, db int) string {
	if db == 0 {
		return ""
	}
	return prefix + strconv.Itoa(db)
}

func (a Address) network() string {
	if a.Network == "" {
		return "tcp"
	}
	return a.Network
}

func (a Address) name() string { return a.nameOr(a.Endpoint) }

// Disagrees returns what an address says of itself and does otherwise than the first
// of a Redis Cluster, or of sentinels: name, weight, credentials or database, which
// are those of the first; "" if nothing.
func (a Address) Disagrees(first Address) string {
	switch {
	case a.nameOr("") != "" && a.nameOr("") != first.nameOr(""):
		return "name"
	case a.Weight != 0 && a.Weight != 1 && a.Weight != first.Weight:
		return "weight"
	case a.username+a.password != "" && (a.username != first.username || a.password != first.password):
		return "credentials"
	case a.DB != 0 && a.DB != first.DB:
		return "database"
	}
	return ""
}

// nameOr returns the name that the address was given, or the other one.
func (a Address) nameOr(other string) string {
	if a.Name == "" || a.Name == a.Endpoint {
		return other
	}
	return a.Name
}
