package commands

import (
	"context"

	"ledgerline/domain"
)

// SetParameter gives a parameter of the instance a value; empty clears it.
type SetParameter struct {
	Name  string
	Value string
}

// SetParameter errors: domain.ErrParameterUnknown, domain.ErrParameterValue.
func (s *Service) SetParameter(ctx context.Context, in SetParameter) (Outcome, error) {
	if err := domain.CheckParameter(in.Name, in.Value); err != nil {
		return Outcome{}, err
	}
	set := domain.ParameterSet{Name: in.Name}
	if in.Value != "" && domain.SecretParameter(in.Name) {
		var err error
		if set.Secret, err = s.secret(ctx, lookups, in.Value); err != nil {
			return Outcome{}, err
		}
	} else {
		set.Value = in.Value
	}
	return decide(ctx, s, domain.ParametersStream, func(p domain.Parameters) ([]domain.Event, error) { return p.Set(set), nil })
}

// Parameter is the value of a parameter in clear text, empty when it is not set. Errors: domain.ErrParameterUnknown.
func (s *Service) Parameter(ctx context.Context, name string) (string, error) {
	if err := domain.CheckParameter(name, ""); err != nil {
		return "", err
	}
	p, _, err := load[domain.Parameters](ctx, s.Log, domain.ParametersStream)
	if err != nil {
		return "", err
	}
	set := p.ByName[name]
	if set.Secret.IsZero() {
		return set.Value, nil
	}
	return s.Open(ctx, set.Secret.Sealed)
}

// ProvisioningKey is a tenant's key in clear text, empty when it has none.
func (s *Service) ProvisioningKey(ctx context.Context, id domain.TenantID) (string, error) {
	t, _, err := load[domain.Tenant](ctx, s.Log, id.Stream())
	if err != nil {
		return "", err
	}
	return s.Open(ctx, t.Key.Sealed)
}
