package usersapp

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// maxForm bounds what is sent to a page, in bytes.
const maxForm = 1 << 20

// MatchPage tells whether a request is for a page of a device's own web server, by the key that GetUserInfo gave:
// /{domain}/{instance}/passthrough/{hwId}/{key}/{path}.
func MatchPage(r *http.Request) bool {
	_, _, _, ok := page(r)
	return ok
}

// page takes such a request apart; target is the device's path and query, as they were written.
func page(r *http.Request) (hwID, key, target string, ok bool) {
	parts := strings.SplitN(r.URL.EscapedPath(), "/", 7)
	if len(parts) != 7 || parts[3] != "passthrough" {
		return "", "", "", false
	}
	target = "/" + parts[6]
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	return parts[4], parts[5], target, true
}

// Page serves a page of a device, recorded as any other passthrough, to who has the key of a connection that is there.
func (s *Server) Page(w http.ResponseWriter, r *http.Request) {
	hwID, key, target, ok := page(r)
	s.mu.Lock()
	c := s.keys[sha256.Sum256([]byte(key))]
	s.mu.Unlock()
	if !ok || c == nil || !s.opt.Client(r.Context()).Private {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		return
	}
	id, err := c.device(r.Context(), hwID)
	if err != nil || id == "" {
		http.NotFound(w, r)
		return
	}
	p, _, err := s.opt.Service.OpenPage(c.caller(r.Context()), commands.OpenPage{ID: id, Method: r.Method, Path: target, Body: body})
	switch {
	case errors.Is(err, commands.ErrInvalid):
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
	case errors.Is(err, commands.ErrOffline), errors.Is(err, commands.ErrNoAnswer):
		http.Error(w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
	case err != nil:
		c.log.Error().Err(err).Str("device_id", string(id)).Msg("users: a page could not be fetched")
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
	default:
		h := w.Header()
		h.Set("Content-Type", p.ContentType(target))
		h.Set("Content-Security-Policy", commands.PagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(p.Status)
		_, _ = w.Write(p.Body) // who asked may have gone
	}
}

// device is the live device of that hardware id that is seen here; empty for none.
func (c *conn) device(ctx context.Context, hwID string) (domain.DeviceID, error) {
	mac, err := domain.ParseMAC(hwID)
	if err != nil {
		return "", nil
	}
	found, err := projections.DevicesByMAC(ctx, c.s.opt.Views, mac)
	for _, d := range found {
		if c.sees(d.TenantID) {
			return d.ID, err
		}
	}
	return "", err
}
