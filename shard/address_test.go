package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Address
		str  string // if it differs from in
	}{
		{in: "redis://10.0.0.1:6379", want: Address{Endpoint: "10.0.0.1:6379"}},
		{in: "redis://Redis1", want: Address{Endpoint: "redis1:6379"}, str: "redis://redis1:6379"},
		{in: "redis://h:1/", want: Address{Endpoint: "h:1"}, str: "redis://h:1"},
		{in: "redis://h:1/3", want: Address{Endpoint: "h:1", DB: 3}},
		{in: "redis://h:1?db=3", want: Address{Endpoint: "h:1", DB: 3}, str: "redis://h:1/3"},
		{in: "rediss://h:1", want: Address{Endpoint: "h:1", TLS: true}},
		{in: "redis://[::1]:7000", want: Address{Endpoint: "[::1]:7000"}},
		{in: "redis://[fe80::1]", want: Address{Endpoint: "[fe80::1]:6379"}, str: "redis://[fe80::1]:6379"},
		{in: "redis://h:1?name=c&weight=2.5", want: Address{Endpoint: "h:1", Name: "c", Weight: 2.5}, str: "redis://h:1"},
		{
			in: "redis://me:p%40ss@h:1", str: "redis://h:1",
			want: Address{Endpoint: "h:1", username: "me", password: "p@ss"},
		},
		{in: "redis://:secret@h:1", want: Address{Endpoint: "h:1", password: "secret"}, str: "redis://h:1"},
		{in: "redis://:a,redis@h:1", want: Address{Endpoint: "h:1", password: "a,redis"}, str: "redis://h:1"},
		{in: "unix:///run/redis.sock", want: Address{Network: "unix", Endpoint: "/run/redis.sock"}},
		{
			in: "unix://me:pw@/run/redis.sock?db=2", str: "unix:///run/redis.sock?db=2",
			want: Address{Network: "unix", Endpoint: "/run/redis.sock", DB: 2, username: "me", password: "pw"},
		},
	} {
		if tt.want.Network == "" {
			tt.want.Network = "tcp"
		}
		if tt.want.Name == "" {
			tt.want.Name = tt.want.Endpoint
		}
		if tt.want.Weight == 0 {
			tt.want.Weight = 1
		}
		got, err := ParseAddress(tt.in)
		if err != nil {
			t.Errorf("ParseAddress(%q): %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(Address{})); diff != "" {
			t.Errorf("ParseAddress(%q): -want +got\n%s", tt.in, diff)
		}
		if tt.str == "" {
			tt.str = tt.in
		}
		for _, format := range []string{"%s", "%v", "%+v", "%#v"} {
			if s := fmt.Sprintf(format, got); s != tt.str {
				t.Errorf("ParseAddress(%q) prints as %q by %s, want %q", tt.in, s, format, tt.str)
			}
		}
	}
}

func TestParseAddressErrors(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "must start with"},
		{"10.0.0.1:6379", "must be a URL"},
		{"http://s3cret@h", "must start with"},
		{"s3cret://h", "must start with"},
		{"redis://", "host"},
		{"redis:h:1", "host"},
		{"redis://:s3cret", "must be a URL"},
		{"redis://u:s3cret", "must be a URL"},
		{"redis://u:s3cret%zz@h", "must be a URL"},
		{"redis://u:s3cret/word@h", "must be a URL"},
		{"redis://u:12/s3cret@h", "@"},
		{"redis://u:12?s3cret@h", "@"},
		{"redis://u:12#s3cret", "#"},
		{"redis://u:s3cret@h,", "commas"},
		{"redis://u:s3cret@h:1,", "commas"},
		{"redis://u:s3cret@h?name=a,", "commas"},
		{"redis://u:s3cret@h,i:1", "commas"},
		{"redis://u:s3cret@h:1,redis://i", "commas"},
		{"redis://u:s3cret@h:0", "port"},
		{"redis://u:s3cret@h:65536", "port"},
		{"redis://u:s3cret@h/x", "database"},
		{"redis://u:s3cret@h/-1", "database"},
		{"redis://u:s3cret@h/1?db=2", "database"},
		{"redis://u:s3cret@h?weight=0", "weight"},
		{"redis://u:s3cret@h?weight=-1", "weight"},
		{"redis://u:s3cret@h?weight=NaN", "weight"},
		{"redis://u:s3cret@h?weight=Inf", "weight"},
		{"redis://u:s3cret@h?name=", "name"},
		{"redis://u:s3cret@h?name=a%0ab", "name"},
		{"redis://u:s3cret@h?name=a&name=b", "once"},
		{"redis://u:s3cret@h?password=s3cret", "no others"},
		{"redis://u:s3cret@h?a;b", "query"},
		{"unix://host/s3cret", "no host"},
		{"unix://", "path"},
	} {
		_, err := ParseAddress(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseAddress(%q): got error %v, want one with %q", tt.in, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("ParseAddress(%q): the error shows the password: %v", tt.in, err)
		}
	}
}

func TestAddressDisagrees(t *testing.T) {
	for _, c := range []struct{ name, first, other, want string }{
		{"nothing said", "redis://u:p@a:1/3?name=n&weight=2", "redis://b:1", ""},
		{"the same said", "redis://u:p@a:1/3?name=n&weight=2", "redis://u:p@b:1/3?name=n&weight=2", ""},
		{"its endpoint as name", "redis://a:1", "redis://b:1?name=b:1", ""},
		{"name", "redis://a:1?name=n", "redis://b:1?name=m", "name"},
		{"weight", "redis://a:1", "redis://b:1?weight=2", "weight"},
		{"user", "redis://u:p@a:1", "redis://v:p@b:1", "credentials"},
		{"password", "redis://:p@a:1", "redis://:q@b:1", "credentials"},
		{"database", "redis://a:1/3", "redis://b:1/4", "database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, err := ParseAddress(c.first)
			if err != nil {
				t.Fatal(err)
			}
			other, err := ParseAddress(c.other)
			if err != nil {
				t.Fatal(err)
			}
			if got := other.Disagrees(first); got != c.want {
				t.Errorf("%s after %s: got %q, want %q", c.other, c.first, got, c.want)
			}
		})
	}
}
