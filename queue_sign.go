package fluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Deliveries are signed as Standard Webhooks has it
// (https://www.standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`. Its
// own library wants the body in memory, three times over; a body in chunks is
// read past the sum here, and a second time when it is sent.

// A secret is the key of a signature.
type secret []byte

// parseSecrets reads secrets as users write them. Its errors do not quote them.
func parseSecrets(words []string, repl *caddy.Replacer) (secrets []secret, err error) {
	for i, w := range words {
		s, err := parseSecret(repl.ReplaceAll(w, ""))
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		secrets = append(secrets, s)
	}
	return secrets, nil
}

// parseSecret reads `whsec_` and the base64 of 24 to 64 bytes.
func parseSecret(word string) (secret, error) {
	if word == "" {
		return nil, errors.New("it is empty")
	}
	text, ok := strings.CutPrefix(word, "whsec_")
	if !ok {
		return nil, errors.New("it does not begin with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("it is not base64 behind whsec_")
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("it must be 24 to 64 bytes long, not %d", len(key))
	}
	return key, nil
}

// webhookID is the id under which a message is signed: a dot would make the
// signed text ambiguous.
var webhookID = strings.NewReplacer("%", "%25", ".", "%2E")

// sign sets the fields Webhook-Id, Webhook-Timestamp and Webhook-Signature, the
// last one with a signature by each secret. It reads body to its end.
func sign(h http.Header, secrets []secret, id string, at time.Time, body io.Reader) error {
	id = webhookID.Replace(id)
	stamp := strconv.FormatInt(at.Unix(), 10)
	var sums []hash.Hash
	var all []io.Writer
	for _, s := range secrets {
		sum := hmac.New(sha256.New, s)
		sums, all = append(sums, sum), append(all, sum)
	}
	w := io.MultiWriter(all...)
	io.WriteString(w, id+"."+stamp+".") //nolint:errcheck // a hash never fails
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("reading the body to sign it: %w", err)
	}
	var signatures []string
	for _, sum := range sums {
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
	return nil
}
