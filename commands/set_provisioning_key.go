package commands

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// SetProvisioningKey replaces the key under which a tenant's phones fetch (/t/<key>/…); empty takes it away.
type SetProvisioningKey struct {
	ID  domain.TenantID `json:"id" validate:"required,id"`
	Key string          `json:"key"`
}

// SetProvisioningKey errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrBadKey,
// domain.ErrKeyTaken.
func (s *Service) SetProvisioningKey(ctx context.Context, in SetProvisioningKey) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	var hash string
	var key domain.Secret
	if in.Key != "" {
		if err := domain.CheckProvisioningKey(in.Key); err != nil {
			return Outcome{}, &InvalidError{"key", strings.TrimPrefix(err.Error(), "provisioning key ")}
		}
		tenant, _, err := load[domain.Tenant](ctx, s.Log, in.ID.Stream())
		if err != nil {
			return Outcome{}, err
		}
		if err := tenant.Live(); err != nil {
			return Outcome{}, err
		}
		if hash, err = s.lookup(ctx, claimKey, in.Key); err != nil {
			return Outcome{}, err
		}
		if err := s.take(ctx, claimKey, in.Key, in.ID.Stream(), domain.ErrKeyTaken); err != nil {
			return Outcome{}, err
		}
		if key, err = s.secret(ctx, domain.Subject(in.ID.Stream()), in.Key); err != nil {
			return Outcome{}, err
		}
	}
	var before string
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		before = t.KeyHash
		return t.SetKey(key, hash)
	})
	if err == nil && before != "" && before != hash {
		err = s.release(ctx, claimKey, before, in.ID.Stream())
	}
	return out, err
}
