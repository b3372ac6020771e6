package provd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"ledgerline/commands"
	"ledgerline/domain"
)

// Keys is the Authority of an installation without a token service: Ledgerline's own API keys are the tokens, and its
// tenants the tenants, of which all stand below the master tenant and none below another.
type Keys struct {
	Service *commands.Service
}

// Authorize lets administrators and operators do everything, auditors and the helpdesk read (secrets redacted), the
// helpdesk also synchronize; keys of users open nothing here.
func (k Keys) Authorize(ctx context.Context, token, tenant, permission string) (Grant, error) {
	key, err := k.Service.Authenticate(ctx, token)
	if errors.Is(err, domain.ErrAPIKeyUnknown) || errors.Is(err, domain.ErrAPIKeyDead) {
		return Grant{}, ErrUnauthorized
	}
	if err != nil {
		return Grant{}, err
	}
	g := Grant{Actor: "apikey:" + string(key.APIKeyID), Tenant: domain.TenantID(tenant), Secrets: key.Role == domain.Admin || key.Role == domain.Operator}
	if g.Tenant == "" {
		g.Tenant = domain.Master
		if len(key.Tenants) > 0 {
			g.Tenant = key.Tenants[0]
		}
	}
	if domain.CheckID(string(g.Tenant)) != nil || !key.Sees(g.Tenant) || !mayDo(key.Role, permission) {
		return Grant{}, ErrUnauthorized
	}
	switch owner, err := k.Service.Owner(ctx, g.Tenant.Stream()); {
	case err != nil:
		return Grant{}, err
	case owner == "":
		return Grant{}, ErrUnauthorized
	}
	switch {
	case g.Tenant != domain.Master:
		g.Below = []domain.TenantID{g.Tenant}
	case len(key.Tenants) > 0:
		g.Below = slices.Clone(key.Tenants)
	}
	return g, nil
}

func mayDo(role domain.Role, permission string) bool {
	switch role {
	case domain.Admin, domain.Operator:
		return true
	case domain.Helpdesk:
		return strings.HasSuffix(permission, ".read") || permission == "provd.dev_mgr.synchronize.create"
	case domain.Auditor:
		return strings.HasSuffix(permission, ".read")
	}
	return false
}

// Outside is the id itself.
func (k Keys) Outside(t domain.TenantID) string { return string(t) }
