package stored_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/caddy-fluster/caddy-fluster/stored"
	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	t.Logf("seed %d (run again with -seed)", *seed)
	g := generator{rand.New(rand.NewPCG(*seed, 0))}
	for range 2000 {
		var want any = g.response()
		if g.IntN(4) == 0 {
			want = g.variants()
		}
		got, err := decode(t, encode(want))
		if err != nil {
			t.Fatalf("%#v: %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func TestSize(t *testing.T) {
	for _, r := range []*stored.Response{page(), chunked()} {
		again, _, err := stored.Decode(stored.AppendEncode(nil, r))
		if err != nil {
			t.Fatal(err)
		}
		encoded := len(stored.AppendEncode(nil, r))
		if got := again.Size(); got < encoded || got > encoded+600 {
			t.Errorf("%s: got size %d, want %d to %d", r.URL, got, encoded, encoded+600)
		}
		longer := *again
		longer.URL += strings.Repeat("x", 1000)
		longer.Tags = append([]string{strings.Repeat("x", 1000)}, longer.Tags...)
		longer.Header += stored.HeaderOf(stored.Field{Name: "Name", Value: strings.Repeat("x", 1000)})
		longer.Body = append(make([]byte, 0, len(r.Body)+1000), r.Body...) // held in memory though not in use
		got, least := longer.Size(), again.Size()+4000
		if got < least || got > least+100 {
			t.Errorf("%s with 4000 bytes more: got size %d, want %d to %d", r.URL, got, least, least+100)
		}
	}
}

func TestVariantsBeyondTheBoundAreLeftOut(t *testing.T) {
	v := &stored.Variants{Key: "key"}
	for i := range stored.MaxVariants + 1 {
		v.List = append(v.List, stored.Variant{Key: string(rune('a' + i)), Nominated: []stored.Field{{Name: "accept"}}})
	}
	_, got, err := stored.Decode(stored.AppendEncodeVariants(nil, v))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.List[:stored.MaxVariants], got.List); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
