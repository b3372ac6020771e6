package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
)

// drawRequest asks for digits that lead to DevicesURL for TTL seconds.
type drawRequest struct {
	DevicesURL string `json:"devices_url"`
	TTL        int    `json:"ttl"`
}

type drawAnswer struct {
	Code       string    `json:"code"`
	ValidUntil time.Time `json:"valid_until"`
}

// resolveRequest asks where a code leads, for a phone; what else is known of the phone is not wanted here.
type resolveRequest struct {
	Code string     `json:"code"`
	MAC  domain.MAC `json:"mac"`
}

type resolveAnswer struct {
	DevicesURL string    `json:"devices_url"`
	BoundAt    time.Time `json:"bound_at"`
	ValidUntil time.Time `json:"valid_until"`
}

// refusal is the answer to what is not done.
type refusal struct {
	Status int    `json:"-"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (r *refusal) Error() string { return r.Detail }

const (
	maxBody = 16 << 10
	maxKey  = 255
)

func (h *handler) routes() {
	h.mux.HandleFunc("POST /"+REST+"/codes", h.signed(h.draw))
	h.mux.HandleFunc("DELETE /"+REST+"/codes/{code}", h.signed(h.release))
	h.mux.HandleFunc("POST /"+REST+"/resolve", h.signed(h.resolve))
}

// signed lets a Devices server through whose request is signed, and answers what do returns: JSON, or nothing for nil.
func (h *handler) signed(do func(ctx context.Context, server domain.ServerID, r *http.Request, body []byte) (status int, answer any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer := h.Peer(r.Context())
		if !peer.Private {
			refuse(w, &refusal{http.StatusForbidden, "not-private", "this has to be called over https"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			refuse(w, &refusal{http.StatusRequestEntityTooLarge, "too-big", "the body is larger than 16 KiB, or broke off"})
			return
		}
		server, err := h.verify(r, body)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		// A server that has proved itself draws on no budget of its address: only on that of the phone it asks for.
		ctx := commands.WithCaller(r.Context(), commands.Caller{Actor: "registry:" + string(server), Listener: "registry"})
		status, answer, err := do(ctx, server, r, body)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		write(w, status, answer)
	}
}

var errUnderWay = &refusal{http.StatusConflict, "request-under-way", "a request with this Idempotency-Key is still under way"}

var errTooManyCodes = &refusal{http.StatusConflict, "too-many-codes", "as many live codes are drawn for this Devices server as it may have: revoke some, or wait until they are used or expire"}

// draw registers a code, once per Idempotency-Key.
func (h *handler) draw(ctx context.Context, server domain.ServerID, r *http.Request, body []byte) (int, any, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" || len(key) > maxKey {
		return 0, nil, &refusal{http.StatusBadRequest, "invalid", "Idempotency-Key must have 1 to 255 characters"}
	}
	credential := "registry:" + string(server)
	if !h.nonces.begin(credential + "\x00" + key) {
		return 0, nil, errUnderWay
	}
	defer h.nonces.end(credential + "\x00" + key)
	kept, same, known, err := h.Service.Recall(ctx, credential, key, body)
	switch {
	case err != nil:
		return 0, nil, err
	case known && !same:
		return 0, nil, &refusal{http.StatusUnprocessableEntity, "idempotency-key-reused", "this Idempotency-Key was used for another request"}
	case known:
		return kept.Status, json.RawMessage(kept.Body), nil
	}
	var in drawRequest
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	code, _, err := h.Service.RegisterCode(ctx, commands.RegisterCode{ServerID: server, DevicesURL: in.DevicesURL, TTL: time.Duration(in.TTL) * time.Second})
	if err != nil {
		return 0, nil, err
	}
	answer, err := json.Marshal(drawAnswer{code.Code, code.ValidUntil})
	if err != nil {
		return 0, nil, err
	}
	err = h.Service.Remember(ctx, credential, key, body, commands.Answer{Status: http.StatusCreated, Body: string(answer)})
	return http.StatusCreated, json.RawMessage(answer), err
}

func (h *handler) release(ctx context.Context, server domain.ServerID, r *http.Request, _ []byte) (int, any, error) {
	_, err := h.Service.ReleaseCode(ctx, commands.ReleaseCode{ServerID: server, Code: r.PathValue("code")})
	return http.StatusNoContent, nil, err
}

func (h *handler) resolve(ctx context.Context, server domain.ServerID, _ *http.Request, body []byte) (int, any, error) {
	var in resolveRequest
	if err := decode(body, &in); err != nil {
		return 0, nil, err
	}
	lead, _, err := h.Service.ResolveCode(ctx, commands.ResolveCode{Code: in.Code, MAC: in.MAC, ServerID: server})
	return http.StatusOK, resolveAnswer(lead), err
}

func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return &refusal{http.StatusBadRequest, "invalid", "the body must be a JSON object with the members this takes"}
	}
	return nil
}

// fail turns errors into answers. It is the one place that does.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var told *refusal
	switch {
	case errors.As(err, &told):
		refuse(w, told)
	case errors.Is(err, commands.ErrGuesses):
		w.Header().Set("Retry-After", "900")
		refuse(w, &refusal{http.StatusTooManyRequests, "too-many-guesses", "too many wrong codes: try again later"})
	case errors.Is(err, domain.ErrCodeRefused):
		refuse(w, &refusal{http.StatusNotFound, "not-found", "unknown or expired"})
	case errors.Is(err, commands.ErrInvalid):
		refuse(w, &refusal{http.StatusBadRequest, "invalid", err.Error()})
	case errors.Is(err, domain.ErrTooManyCodes):
		refuse(w, errTooManyCodes)
	case errors.Is(err, domain.ErrServerUnknown):
		refuse(w, errUnauthorized)
	default:
		zerolog.Ctx(r.Context()).Error().Err(err).Str("route", r.Pattern).Msg("answer a Devices server")
		w.Header().Set("Retry-After", "5")
		refuse(w, &refusal{http.StatusServiceUnavailable, "unavailable", "try again later"})
	}
}

func refuse(w http.ResponseWriter, r *refusal) { write(w, r.Status, r) }

func write(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone, if this fails
}

// nonces are the requests seen within the window, so that none is taken twice at once, and the keys of those under way.
type nonces struct {
	mu      sync.Mutex
	seen    map[string]time.Time
	pending map[string]bool
}

// maxNonces bounds the table: beyond it requests are refused until some are old.
const maxNonces = 200_000

// take is false for a nonce that was taken within the window, or when there is no place.
func (n *nonces) take(nonce string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen == nil {
		n.seen = map[string]time.Time{}
	}
	if at, ok := n.seen[nonce]; ok && now.Sub(at) <= 2*window {
		return false
	}
	if len(n.seen) >= maxNonces {
		for old, at := range n.seen {
			if now.Sub(at) > 2*window {
				delete(n.seen, old)
			}
		}
		if len(n.seen) >= maxNonces {
			return false
		}
	}
	n.seen[nonce] = now
	return true
}

func (n *nonces) begin(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending[key] {
		return false
	}
	if n.pending == nil {
		n.pending = map[string]bool{}
	}
	n.pending[key] = true
	return true
}

func (n *nonces) end(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pending, key)
}
