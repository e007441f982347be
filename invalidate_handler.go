package fluster

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// Invalidate is a handler that lets clients of a public listener invalidate
// stored responses: POST with the JSON that the admin endpoint takes, and PURGE
// of a URL. It does not load without at least one of bearer, client_certificate
// and allow; a request must pass all that are configured. Each use is logged.
type Invalidate struct {
	// Tokens, of which a request must carry one: `Authorization: Bearer …`.
	// Placeholders are replaced.
	Bearer []string `json:"bearer,omitempty"`

	// Whether the client must have shown a certificate that the listener has
	// verified (see `client_auth` of the TLS connection policy).
	ClientCertificate bool `json:"client_certificate,omitempty"`

	// Addresses and CIDR ranges that clients may come from.
	Allow []string `json:"allow,omitempty"`

	// Requests a second that are served, of all clients together. Default: 100.
	Rate float64 `json:"rate,omitempty"`

	// The pool by its name. Default: the one without a name.
	Pool string `json:"pool,omitempty"`

	tokens  [][sha256.Size]byte
	allowed []netip.Prefix
	limiter *rate.Limiter
	pool    *pool
	logger  *zap.Logger
}

// CaddyModule returns the module's information.
func (Invalidate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.fluster_invalidate", New: func() caddy.Module { return new(Invalidate) }}
}

// Provision reads who may invalidate, and finds the pool.
func (h *Invalidate) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if len(h.Bearer) == 0 && len(h.Allow) == 0 && !h.ClientCertificate {
		return errors.New("fluster_invalidate needs at least one of bearer, client_certificate and allow: anybody could empty the cache")
	}
	repl := caddy.NewReplacer()
	if err := h.readTokens(repl); err != nil {
		return err
	}
	for _, a := range h.Allow {
		p, err := parsePrefix(repl.ReplaceAll(a, ""))
		if err != nil {
			return fmt.Errorf("allow: %w", err)
		}
		h.allowed = append(h.allowed, p)
	}
	if h.Rate == 0 {
		h.Rate = 100
	}
	if h.Rate < 0 {
		return fmt.Errorf("rate must be positive, not %v", h.Rate)
	}
	h.limiter = rate.NewLimiter(rate.Limit(h.Rate), max(1, int(h.Rate)))
	app, err := ctx.App("fluster")
	if err != nil {
		return err
	}
	h.pool, err = app.(*App).pool(h.Pool)
	return err
}

// readTokens replaces the placeholders in tokens. One that has no value is an error: it
// would leave a token that is easier to guess.
func (h *Invalidate) readTokens(repl *caddy.Replacer) error {
	for i, t := range h.Bearer {
		token, err := replace(repl, fmt.Sprintf("bearer: token %d", i+1), t)
		if err != nil {
			return err
		}
		if token == "" {
			return fmt.Errorf("bearer: token %d is empty", i+1)
		}
		h.tokens = append(h.tokens, sha256.Sum256([]byte(token)))
	}
	return nil
}

// parsePrefix reads an address or a CIDR range.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range like 10.0.0.0/8", s)
		}
		return a.Unmap().Prefix(a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a range like 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// ServeHTTP invalidates what an authorized request says.
func (h *Invalidate) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if status := h.refuses(r); status != 0 {
		h.logger.Warn("invalidation refused", zap.Int("status", status), zap.String("client", r.RemoteAddr), zap.String("method", r.Method))
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		return caddyhttp.Error(status, nil)
	}
	if r.Method != http.MethodPost && r.Method != "PURGE" {
		w.Header().Set("Allow", "POST, PURGE")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	if !h.limiter.Allow() {
		w.Header().Set("Retry-After", "1")
		return caddyhttp.Error(http.StatusTooManyRequests, nil)
	}
	req, targets, err := readInvalidation(r)
	if err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	ack, err := h.pool.invalidate(r.Context(), targets, req.Wait)
	h.logger.Info("invalidated", zap.String("client", r.RemoteAddr), zap.String("id", ack.ID), zap.Int("targets", len(targets)),
		zap.Stringer("first", targets[0]), zap.Strings("owed", ack.Owed))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	return json.NewEncoder(w).Encode(ack)
}

// refuses returns the status of a request that may not invalidate, or 0: 401
// where it lacks the token, 403 where it comes from the wrong client.
func (h *Invalidate) refuses(r *http.Request) int {
	if len(h.allowed) > 0 && !h.allows(r) {
		return http.StatusForbidden
	}
	if h.ClientCertificate && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return http.StatusForbidden
	}
	if len(h.tokens) > 0 && !h.knows(r.Header.Get("Authorization")) {
		return http.StatusUnauthorized
	}
	return 0
}

// allows reports whether the client's address is one of those allowed. Behind
// trusted proxies it is the one that they tell.
func (h *Invalidate) allows(r *http.Request) bool {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	for _, p := range h.allowed {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// knows reports whether the field carries one of the tokens. How long it takes
// says nothing about how much of a token was right.
func (h *Invalidate) knows(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	known := 0
	for _, t := range h.tokens {
		known |= subtle.ConstantTimeCompare(given[:], t[:])
	}
	return strings.EqualFold(scheme, "bearer") && known == 1
}

// readInvalidation reads what a request wants to invalidate: its own URL by
// PURGE, what its JSON says by POST.
func readInvalidation(r *http.Request) (req Invalidation, targets []journal.Target, err error) {
	if r.Method == "PURGE" {
		n, _ := (*Key)(nil).name(r)
		t, err := journal.NewTarget(journal.URL, n.asked, false)
		return req, []journal.Target{t}, err
	}
	if err := journal.DecodeStrict(r.Body, &req); err != nil {
		return req, nil, err
	}
	if req.Pool != "" {
		return req, nil, errors.New("the pool is chosen by the server's configuration")
	}
	targets, err = req.Targets()
	return req, targets, err
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Invalidate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Invalidate)(nil)
)
