package fluster

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/caddyserver/caddy/v2"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secretNow = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretOld = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// TestSignExample: the example that the specification's libraries are tested with.
func TestSignExample(t *testing.T) {
	secrets, err := parseSecrets([]string{secretNow}, caddy.NewReplacer())
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if err := sign(h, secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), strings.NewReader(`{"test": 2432232314}`)); err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := h.Get("Webhook-Signature"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSignatureVerifies: the specification's own library takes what is signed, by
// each secret alone, also a body that comes in pieces; and no other.
func TestSignatureVerifies(t *testing.T) {
	t.Setenv("FLUSTER_TEST_SECRET", secretOld)
	secrets, err := parseSecrets([]string{secretNow, "{env.FLUSTER_TEST_SECRET}"}, caddy.NewReplacer())
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"empty": {}, "bytes": []byte("a\x00b\xff"), "long": bytes.Repeat([]byte("0123456789"), 100_000)} {
		h := http.Header{}
		if err := sign(h, secrets, "m.1%", time.Now(), iotest.HalfReader(bytes.NewReader(body))); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(h.Get("Webhook-Id"), ".") {
			t.Errorf("the id %s has a dot", h.Get("Webhook-Id"))
		}
		for _, word := range []string{secretNow, secretOld} {
			wh, err := standardwebhooks.NewWebhook(word)
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify(body, h); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if wh.Verify(append(body, '.'), h) == nil {
				t.Errorf("%s: another body is taken", name)
			}
		}
	}
	if err := sign(http.Header{}, secrets, "id", time.Now(), iotest.ErrReader(errors.New("gone"))); err == nil {
		t.Error("a body that cannot be read is signed")
	}
}

// TestSecretsAreChecked: what is no secret is an error that does not quote it.
func TestSecretsAreChecked(t *testing.T) {
	for name, word := range map[string]string{
		"empty": "", "no prefix": secretNow[6:], "no base64": "whsec_hunter2!hunter2!hunter2!", "short": "whsec_aHVudGVyMg==",
		"no such variable": "{env.FLUSTER_TEST_NOTHING}",
	} {
		_, err := parseSecrets([]string{secretOld, word}, caddy.NewReplacer())
		if err == nil || !strings.Contains(err.Error(), "secret 2") || word != "" && strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: got %v, want an error about secret 2 that does not tell it", name, err)
		}
	}
}
