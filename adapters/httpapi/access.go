package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ledgerline/commands"
	"ledgerline/domain"
)

// request is what is known of a request before its handler runs.
type request struct {
	id  string
	key domain.APIKey
	ip  string
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// Who may do what. A key also needs to reach the tenant of what it touches.
var (
	everybody   = []domain.Role{domain.Admin, domain.Operator, domain.Auditor, domain.Helpdesk, domain.OwnUser}
	readers     = []domain.Role{domain.Admin, domain.Operator, domain.Auditor, domain.Helpdesk}
	auditors    = []domain.Role{domain.Admin, domain.Operator, domain.Auditor}
	operators   = []domain.Role{domain.Admin, domain.Operator}
	supporters  = []domain.Role{domain.Admin, domain.Operator, domain.Helpdesk}
	codeIssuers = []domain.Role{domain.Admin, domain.Operator, domain.Helpdesk, domain.OwnUser}
	admins      = []domain.Role{domain.Admin}
)

var errForbidden = newProblem(http.StatusForbidden, "forbidden", "this key's role may not do that")

// authenticate finds the key a request shows.
func (a *api) authenticate(r *http.Request) (domain.APIKey, error) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return domain.APIKey{}, newProblem(http.StatusUnauthorized, "unauthorized", "show an API key: Authorization: Bearer ll_…")
	}
	key, err := a.Service.Authenticate(r.Context(), strings.TrimSpace(token))
	if errors.Is(err, domain.ErrAPIKeyUnknown) || errors.Is(err, domain.ErrAPIKeyDead) {
		return key, newProblem(http.StatusUnauthorized, "unauthorized", "this API key is not valid")
	}
	return key, err
}

// only lets the callers of these roles through, before anything of the request is looked at.
func (a *api) only(roles []domain.Role) func(huma.Context, func(huma.Context)) {
	return func(h huma.Context, next func(huma.Context)) {
		if !slices.Contains(roles, requestOf(h.Context()).key.Role) {
			r, w := humago.Unwrap(h)
			a.refuse(w, r, errForbidden)
			return
		}
		next(h)
	}
}

// bound tells whether the caller's key is for some tenants only.
func bound(ctx context.Context) bool { return len(requestOf(ctx).key.Tenants) > 0 }

// tenants are those a list may show; nil means all. asked narrows it to one, which must be among them.
func tenants(ctx context.Context, asked domain.TenantID) ([]domain.TenantID, error) {
	key := requestOf(ctx).key
	switch {
	case asked != "" && !key.Sees(asked):
		return nil, errNotFound
	case asked != "":
		return []domain.TenantID{asked}, nil
	case !bound(ctx):
		return nil, nil
	}
	return key.Tenants, nil
}

// sees is nil when the caller reaches tenant; else what is there is as unknown as what is not.
func sees(ctx context.Context, tenant domain.TenantID) error {
	if tenant == "" || !requestOf(ctx).key.Sees(tenant) {
		return errNotFound
	}
	return nil
}

// reaches is nil when the caller reaches the tenant a noun belongs to.
func (a *api) reaches(ctx context.Context, s *commands.Service, stream domain.StreamID) error {
	tenant, err := s.Owner(ctx, stream)
	if err != nil {
		return err
	}
	return sees(ctx, tenant)
}

// reach is nil when the caller may do what it asks with a device of a tenant: sees, or adopts.
type reach func(ctx context.Context, tenant domain.TenantID) error

// adopts is sees for the few things that bring a phone to a tenant: one that is still nobody's, in the master
// tenant, is within the reach of everybody who can name it exactly.
func adopts(ctx context.Context, tenant domain.TenantID) error {
	if tenant == domain.Master {
		return nil
	}
	return sees(ctx, tenant)
}

// reachesDevice is reaches for a device, by id or by a MAC in any spelling.
func (a *api) reachesDevice(ctx context.Context, s *commands.Service, named string, may reach) (domain.DeviceID, error) {
	id := domain.DeviceID(named)
	if mac, err := domain.ParseMAC(named); err == nil {
		if _, id, err = s.DeviceOfMAC(ctx, mac); err != nil {
			return "", err
		}
	}
	if domain.CheckID(string(id)) != nil {
		return "", errNotFound
	}
	tenant, err := s.Owner(ctx, id.Stream())
	if err != nil {
		return "", err
	}
	return id, may(ctx, tenant)
}

// mine is nil unless the caller is a user and this is not theirs.
func mine(ctx context.Context, user domain.UserID) error {
	key := requestOf(ctx).key
	if key.Role == domain.OwnUser && (user == "" || user != key.UserID) {
		return errNotFound
	}
	return nil
}
