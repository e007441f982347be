package httpcache

import "testing"

// draft-ietf-httpbis-no-vary-search, Sections 5 and 6.
func TestNoVarySearch(t *testing.T) {
	for _, row := range []struct {
		name, field string
		a, b        string
		match       bool
	}{
		{"none", "", "a=1", "a=1", true},
		{"none, byte by byte", "", "a=1", "a=%31", false},
		{"unknown member", "foo", "a=1&b=2", "b=2&a=1", false},
		{"key-order", "key-order", "a=1&b=2", "b=2&a=1", true},
		{"key-order, values", "key-order", "a=1&b=2", "a=2&b=1", false},
		{"key-order, values of one key", "key-order", "a=1&a=2", "a=2&a=1", false},
		{"key-order, among others", "key-order", "a=1&b=0&a=2", "b=0&a=1&a=2", true},
		{"key-order false", "key-order=?0", "a=1&b=2", "b=2&a=1", false},
		{"key-order, one less", "key-order", "a=1&b=2", "a=1", false},
		{"params", "params", "a=1&b=2", "", true},
		{"params false", "params=?0", "a=1", "a=2", false},
		{"params of a list", `params=("a" "b")`, "a=1&c=3&b=2", "c=3", true},
		{"params of a list, order", `params=("a")`, "b=1&a=1&c=2", "c=2&b=1", false},
		{"params of a list, another", `params=("a")`, "a=1&c=3", "a=1&c=4", false},
		{"params of an empty list", "params=()", "a=1", "a=%31", false},
		{"params and key-order", `params=("a"), key-order`, "b=1&a=1&c=2", "c=2&b=1", true},
		{"except", `params, except=("id")`, "id=1&a=1", "b=2&id=1", true},
		{"except, another", `params, except=("id")`, "id=1", "id=2", false},
		{"except, order", `params, except=("a" "b")`, "a=1&b=2", "b=2&a=1", false},
		{"except of an empty list", "params, except=()", "a=1", "b=2", true},
		{"unknown beside", `params=("a"), foo=1`, "a=1", "a=2", true},
		{"encoded key", `params=("%C3%A9+%E6%B0%97")`, "é 気=1", "%C3%A9%20気=3", true},
		{"plus in a key", `params=("a+b")`, "a+b=1", "a%20b=2", true},
		{"percent-decoding", "key-order", "a=x", "%61=%78", true},
		{"plus", "key-order", "a=+", "a=%20", true},
		{"encoded plus", "key-order", "a=+", "a=%2B", false},
		{"not UTF-8", "key-order", "a=%f6", "a=%ef%bf%bd", true},
		{"no escape", "key-order", "a=%zz", "a=%25zz", true},
		{"empty pairs", "key-order", "a=x&&&&", "a=x", true},
		{"empty value", "key-order", "a=", "a", true},
		{"another separator inside", "key-order", "a=1%26b=2", "a=1&b=2", false},
		{"another equals inside", "key-order", "a%3Db=c", "a=b%3Dc", false},

		{"invalid: key-order", `key-order="x"`, "a=1&b=2", "b=2&a=1", false},
		{"invalid: params", `key-order, params="x"`, "a=1&b=2", "b=2&a=1", false},
		{"invalid: token in params", `params=(a)`, "a=1", "a=2", false},
		{"invalid: except of a list", `params=("a"), except=("x")`, "a=1", "a=2", false},
		{"invalid: except alone", `except=("x")`, "a=1", "a=2", false},
		{"invalid: except of false", `params=?0, except=("x")`, "a=1", "a=2", false},
		{"invalid: token in except", `params, except=(x)`, "a=1", "a=2", false},
		{"invalid: except of no list", `params, except="x"`, "a=1", "a=2", false},
		{"invalid: no dictionary", `params=("a"`, "a=1", "a=2", false},
	} {
		v := ParseNoVarySearch(header("No-Vary-Search: " + row.field))
		if got := v.Match(row.a, row.b); got != row.match {
			t.Errorf("%s: %q and %q: got %t, want %t (%q, %q)", row.name, row.a, row.b, got, row.match, v.Canonical(row.a), v.Canonical(row.b))
		}
	}
}

func TestNoVarySearchDefault(t *testing.T) {
	for _, field := range []string{"", "params=?0", "params=()", "key-order=?0", "foo", "params=?0, key-order=?0"} {
		equal(t, field, ParseNoVarySearch(header("No-Vary-Search: "+field)).IsDefault(), true)
	}
	for _, field := range []string{"params", "key-order", `params=("a")`, "params, except=()"} {
		equal(t, field, ParseNoVarySearch(header("No-Vary-Search: "+field)).IsDefault(), false)
	}
}
