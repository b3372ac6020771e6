package registry

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
)

// A request of a Devices server is signed with its Ed25519 key over these lines: a name for the scheme, method, path as
// sent, Idempotency-Key, SHA-256 of the body in hex, the time, and a nonce. The time may be window away from ours, and a
// nonce is taken once.
const (
	scheme       = "ledgerline-registry-v1"
	headerServer = "Ledgerline-Server"
	headerDate   = "Ledgerline-Date"
	headerNonce  = "Ledgerline-Nonce"
	headerSigned = "Ledgerline-Signature"
	window       = 5 * time.Minute
)

func signedText(r *http.Request, body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte(strings.Join([]string{scheme, r.Method, r.URL.EscapedPath(), r.Header.Get("Idempotency-Key"), hex.EncodeToString(sum[:]),
		r.Header.Get(headerDate), r.Header.Get(headerNonce)}, "\n"))
}

// sign adds the headers.
func sign(r *http.Request, body []byte, server domain.ServerID, key ed25519.PrivateKey, now time.Time) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	r.Header.Set(headerServer, string(server))
	r.Header.Set(headerDate, now.UTC().Format(time.RFC3339))
	r.Header.Set(headerNonce, hex.EncodeToString(nonce[:]))
	r.Header.Set(headerSigned, base64.StdEncoding.EncodeToString(ed25519.Sign(key, signedText(r, body))))
}

// errUnauthorized is one answer to an unknown server, a wrong signature, a wrong time and a nonce seen before.
var errUnauthorized = &refusal{http.StatusUnauthorized, "unauthorized", "the request is not signed by a registered Devices server, or its time is wrong by more than five minutes"}

// verify is the server that signed the request; errUnauthorized when there is none.
func (h *handler) verify(r *http.Request, body []byte) (domain.ServerID, error) {
	id, nonce := domain.ServerID(r.Header.Get(headerServer)), r.Header.Get(headerNonce)
	at, err := time.Parse(time.RFC3339, r.Header.Get(headerDate))
	signature, bad := base64.StdEncoding.DecodeString(r.Header.Get(headerSigned))
	if err != nil || bad != nil || domain.CheckID(string(id)) != nil || len(nonce) != 32 || h.Now().Sub(at).Abs() > window {
		return "", errUnauthorized
	}
	server, err := h.Service.RegistryServer(r.Context(), id)
	if err != nil {
		return "", err
	}
	key, err := domain.ParsePublicKey(server.PublicKey)
	if server.Live() != nil || err != nil || !ed25519.Verify(key, signedText(r, body), signature) {
		return "", errUnauthorized
	}
	if !h.nonces.take(string(id)+" "+nonce, h.Now()) {
		return "", errUnauthorized
	}
	// What a restart forgets, and another replica never knew, is kept where the answers to requests are.
	credential := "registry-nonce:" + string(id)
	_, _, known, err := h.Service.Recall(r.Context(), credential, nonce, nil)
	if err == nil && known {
		return "", errUnauthorized
	}
	if err == nil {
		err = h.Service.Remember(r.Context(), credential, nonce, nil, commands.Answer{})
	}
	return id, err
}
