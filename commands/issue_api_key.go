package commands

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"ledgerline/domain"
)

// IssueAPIKey makes a key for a program or a person.
type IssueAPIKey struct {
	// ID is empty for a new one; the bootstrap key has a fixed id, so that it is made once (D10).
	ID        domain.APIKeyID   `json:"-" validate:"omitempty,id"`
	Name      string            `json:"name" validate:"required,max=200,text"`
	Role      domain.Role       `json:"role" validate:"required,oneof=admin operator auditor helpdesk user"`
	Tenants   []domain.TenantID `json:"tenants" validate:"max=1000,unique,dive,id"`
	UserID    domain.UserID     `json:"user_id" validate:"required_if=Role user,omitempty,id"`
	ExpiresAt *time.Time        `json:"expires_at"`
}

// BootstrapKey is the id of the administrator's key made on the first start.
const BootstrapKey domain.APIKeyID = "bootstrap"

// IssueAPIKey answers the key in clear, once: "ll_<id>_<secret>". Errors: ErrInvalid, domain.ErrAPIKeyExists.
func (s *Service) IssueAPIKey(ctx context.Context, in IssueAPIKey) (id domain.APIKeyID, token string, out Outcome, err error) {
	if err := check(in); err != nil {
		return "", "", out, err
	}
	if in.ExpiresAt != nil && !in.ExpiresAt.After(s.now()) {
		return "", "", out, &InvalidError{"expires_at", "must be in the future"}
	}
	var raw [32]byte
	if _, err := io.ReadFull(s.random(), raw[:]); err != nil {
		return "", "", out, fmt.Errorf("draw an API key: %w", err)
	}
	if in.ID == "" {
		in.ID = domain.APIKeyID(newID())
	}
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	hash, err := s.lookup(ctx, "apikey", secret)
	if err != nil {
		return "", "", out, err
	}
	out, err = decide(ctx, s, in.ID.Stream(), func(k domain.APIKey) ([]domain.Event, error) {
		return k.Issue(domain.APIKeyIssued{APIKeyID: in.ID, Name: in.Name, Role: in.Role, Tenants: in.Tenants, UserID: in.UserID, Hash: hash, ExpiresAt: in.ExpiresAt})
	})
	return in.ID, "ll_" + string(in.ID) + "_" + secret, out, err
}
