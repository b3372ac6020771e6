package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ledgerline/domain"
)

// RenameTenant shows a tenant under another name.
type RenameTenant struct {
	ID   domain.TenantID `json:"id" validate:"required,id"`
	Name string          `json:"name" validate:"required,max=200,text"`
}

// RenameTenant errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) RenameTenant(ctx context.Context, in RenameTenant) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) { return t.Rename(in.Name) })
}

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

// DeleteTenant ends a tenant that nothing stands below any more.
type DeleteTenant struct {
	ID domain.TenantID `json:"id" validate:"required,id"`
}

// DeleteTenant errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrMasterTenant,
// domain.ErrTenantOccupied naming what is left.
func (s *Service) DeleteTenant(ctx context.Context, in DeleteTenant) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return Outcome{}, err
	}
	left, err := s.Candidates.ChildrenOf(ctx, head, in.ID)
	if err != nil {
		return Outcome{}, err
	}
	var tenant domain.Tenant
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		tenant = t
		events, err := t.Delete()
		if err != nil || len(left) == 0 {
			return events, err
		}
		parts := make([]string, 0, len(left))
		for _, kind := range slices.Sorted(maps.Keys(left)) {
			parts = append(parts, fmt.Sprintf("%d %s", left[kind], kind))
		}
		return nil, fmt.Errorf("%w: %s", domain.ErrTenantOccupied, strings.Join(parts, ", "))
	})
	if err != nil {
		return out, err
	}
	if tenant.KeyHash != "" {
		if err := s.release(ctx, claimKey, tenant.KeyHash, in.ID.Stream()); err != nil {
			return out, err
		}
	}
	return out, s.releaseValue(ctx, claimDomain, tenant.Domain, in.ID.Stream())
}

// liveTenant is nil when things can be made below the tenant.
func (s *Service) liveTenant(ctx context.Context, id domain.TenantID) error {
	t, _, err := load[domain.Tenant](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	return t.Live()
}
