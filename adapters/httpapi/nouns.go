package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

type ByID struct {
	ID string `path:"id" maxLength:"128"`
}

type TextFilter struct {
	Tenant domain.TenantID `query:"tenant" doc:"only of this tenant"`
	Text   string          `query:"text" maxLength:"200"`
}

func (a *api) tenants() {
	lists(a, op{"GET", "/tenants", "list-tenants", "List tenants", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Text    string `query:"text" maxLength:"200"`
		Deleted bool   `query:"deleted" doc:"deleted ones too"`
	}) (projections.Listed[projections.Tenant], error) {
		return projections.ListTenants(ctx, l.views, projections.TenantFilter{Tenants: l.tenants, Text: in.Text, Deleted: in.Deleted}, l.page)
	}, plain[projections.Tenant])
	shows(a, op{"GET", "/tenants/{id}", "get-tenant", "Show a tenant", readers, 0}, domain.TenantID.Stream, projections.TenantByID, projections.TenantAt,
		func(row projections.Tenant) (domain.TenantID, projections.Head) { return row.ID, row.Head }, plain[projections.Tenant])
	change(a, op{"POST", "/tenants", "create-tenant", "Create a tenant", admins, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID     domain.TenantID `json:"id,omitempty" doc:"to use instead of a new one"`
			Name   string          `json:"name"`
			Domain string          `json:"domain,omitempty"`
		}
	}) (commands.Outcome, string, made, error) {
		if bound(ctx) {
			return commands.Outcome{}, "", made{}, errForbidden
		}
		id, out, err := s.CreateTenant(ctx, commands.CreateTenant{ID: in.Body.ID, Name: in.Body.Name, Domain: in.Body.Domain})
		return out, "/api/v1/tenants/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/tenants/{id}", "rename-tenant", "Rename a tenant", admins, 0}, func(ctx context.Context, s *commands.Service, id domain.TenantID, b struct {
		Name string `json:"name"`
	}) (commands.Outcome, error) {
		return s.RenameTenant(ctx, commands.RenameTenant{ID: id, Name: b.Name})
	})
	amends(a, op{"POST", "/tenants/{id}/resume-resyncs", "resume-resyncs", "Tell phones of changes again, after too many failures stopped it", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.TenantID, _ nothing) (commands.Outcome, error) {
		return s.ResumeResyncs(ctx, commands.ResumeResyncs{ID: id})
	})
	amends(a, op{"PUT", "/tenants/{id}/provisioning-key", "set-provisioning-key", "Set or, with an empty key, take away the key of /t/<key>/", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.TenantID, b struct {
		Key string `json:"key,omitempty"`
	}) (commands.Outcome, error) {
		return s.SetProvisioningKey(ctx, commands.SetProvisioningKey{ID: id, Key: b.Key})
	})
	type provisioningKey struct {
		Key string `json:"key"`
	}
	amends(a, op{"PUT", "/tenants/{id}/users-key", "set-users-key", "Set or, with an empty key, take away the password innovaphone Users of the tenant's domain logs in with; the master tenant's lets Users in for all domains", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.TenantID, b struct {
		Key    string `json:"key,omitempty"`
		Domain string `json:"domain,omitempty" doc:"the instance's domain name, needed for the master tenant"`
	}) (commands.Outcome, error) {
		if id == domain.Master && !slices.Contains(admins, requestOf(ctx).key.Role) {
			return commands.Outcome{}, errForbidden
		}
		return s.SetUsersKey(ctx, commands.SetUsersKey{ID: id, Key: b.Key, Domain: b.Domain})
	})
	read(a, op{"GET", "/tenants/{id}/provisioning-key", "get-provisioning-key", "Show the key of /t/<key>/ again, to print it", operators, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*one[provisioningKey], error) {
		row, ok, err := projections.TenantByID(ctx, a.Views, domain.TenantID(in.ID))
		if err != nil || !ok || row.State != projections.StateLive || !row.HasProvisioningKey {
			return nil, orNotFound(err)
		}
		if err := sees(ctx, row.ID); err != nil {
			return nil, err
		}
		key, err := a.Service.Vault.Open(ctx, row.Key.Sealed)
		if err == nil {
			zerolog.Ctx(ctx).Info().Str("tenant_id", string(row.ID)).Str("actor", a.caller(ctx).Actor).Msg("provisioning key shown")
		}
		return &one[provisioningKey]{etag(row.Revision), provisioningKey{key}}, err
	})
	removes(a, op{"DELETE", "/tenants/{id}", "delete-tenant", "Delete a tenant that is empty", admins, 0}, func(ctx context.Context, s *commands.Service, id domain.TenantID) (commands.Outcome, error) {
		return s.DeleteTenant(ctx, commands.DeleteTenant{ID: id})
	})
}

// changing is what every change of one thing checks first: that the caller reaches it, and its If-Match.
func (a *api) changing(ctx context.Context, s *commands.Service, match string, stream domain.StreamID) (context.Context, error) {
	if domain.CheckID(stream.ID()) != nil {
		return ctx, errNotFound
	}
	if err := a.reaches(ctx, s, stream); err != nil {
		return ctx, err
	}
	return guarded(ctx, match, stream)
}

type CategoryBody struct {
	Name     string         `json:"name"`
	Kind     string         `json:"kind" doc:"provisioning (codes may lead here) or plain"`
	Plugin   string         `json:"plugin,omitempty" doc:"the only plugin whose devices may enter"`
	Models   []string       `json:"models,omitempty" doc:"the only models that may enter"`
	LayerID  domain.LayerID `json:"layer_id,omitempty" doc:"layer with the settings of its devices"`
	PhoneApp string         `json:"phone_app,omitempty"`
}

func (b CategoryBody) command(id domain.CategoryID, tenant domain.TenantID) commands.DefineCategory {
	return commands.DefineCategory{ID: id, TenantID: tenant, Name: b.Name, Kind: b.Kind, Plugin: b.Plugin, Models: b.Models, LayerID: b.LayerID, PhoneApp: b.PhoneApp}
}

func (a *api) categories() {
	lists(a, op{"GET", "/categories", "list-categories", "List categories", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Retired bool `query:"retired" doc:"retired ones too"`
	}) (projections.Listed[projections.Category], error) {
		return projections.ListCategories(ctx, l.views, projections.CategoryFilter{Tenants: l.tenants, Text: in.Text, Retired: in.Retired}, l.page)
	}, plain[projections.Category])
	shows(a, op{"GET", "/categories/{id}", "get-category", "Show a category", readers, 0}, domain.CategoryID.Stream, projections.CategoryByID, projections.CategoryAt,
		func(row projections.Category) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, plain[projections.Category])
	change(a, op{"POST", "/categories", "define-category", "Define a category", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.CategoryID `json:"id,omitempty" doc:"to use instead of a new one"`
			TenantID domain.TenantID   `json:"tenant_id"`
			CategoryBody
		}
	}) (commands.Outcome, string, made, error) {
		if err := sees(ctx, in.Body.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		if owner, err := s.Owner(ctx, in.Body.ID.Stream()); err != nil {
			return commands.Outcome{}, "", made{}, err
		} else if owner != "" && sees(ctx, owner) != nil {
			return commands.Outcome{}, "", made{}, errTaken // a category's definition may name one that is
		}
		id, out, err := s.DefineCategory(ctx, in.Body.command(in.Body.ID, in.Body.TenantID))
		return out, "/api/v1/categories/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/categories/{id}", "amend-category", "Describe a category anew, whole", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.CategoryID, b CategoryBody) (commands.Outcome, error) {
		tenant, err := s.Owner(ctx, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		_, out, err := s.DefineCategory(ctx, b.command(id, tenant))
		return out, err
	})
	removes(a, op{"DELETE", "/categories/{id}", "retire-category", "Close a category for new devices", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.CategoryID) (commands.Outcome, error) {
		return s.RetireCategory(ctx, commands.RetireCategory{ID: id})
	})
}

// redeemed is the answer to a redemption.
type redeemed struct {
	DeviceID domain.DeviceID `json:"device_id"`
	TenantID domain.TenantID `json:"tenant_id"`
}

func (a *api) codes() {
	show := func(ctx context.Context, c projections.Code) (projections.Code, error) {
		c.State = c.StateAt(a.when(ctx))
		return c, nil
	}
	lists(a, op{"GET", "/codes", "list-codes", "List codes; their digits are shown to the issuer only, once", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Tenant   domain.TenantID   `query:"tenant"`
		Category domain.CategoryID `query:"category"`
		User     domain.UserID     `query:"user"`
		State    string            `query:"state" enum:"live,redeemed,revoked,expired,failed"`
		Purpose  string            `query:"purpose"`
	}) (projections.Listed[projections.Code], error) {
		return projections.ListCodes(ctx, l.views, projections.CodeFilter{Tenants: l.tenants, Category: in.Category, User: in.User, State: in.State, Purpose: in.Purpose}, l.page)
	}, show)
	read(a, op{"GET", "/codes/{id}", "get-code", "Show a code's state", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[projections.Code], error) {
		row, ok, err := projections.CodeByID(ctx, a.Views, domain.CodeID(in.ID))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errNotFound
		}
		if at, now, err := a.position(ctx, in.AsOf); err != nil {
			return nil, err
		} else if !now {
			if row, ok, err = projections.CodeAt(a.Log.Read(ctx, row.Stream, 0), at); err != nil || !ok {
				return nil, orNotFound(err)
			}
		} else if row, err = show(ctx, row); err != nil {
			return nil, err
		}
		return &one[projections.Code]{etag(row.Revision), row}, sees(ctx, row.TenantID)
	})
	change(a, op{"POST", "/codes", "issue-code", "Issue a provisioning code", codeIssuers, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			TenantID   domain.TenantID   `json:"tenant_id"`
			CategoryID domain.CategoryID `json:"category_id"`
			UserID     domain.UserID     `json:"user_id,omitempty" doc:"whose lines the phone gets"`
			Purpose    string            `json:"purpose" doc:"self_service (10 minutes), administrative (a day) or rollout (7 days)"`
			MAC        domain.MAC        `json:"mac,omitempty" doc:"the only phone that may redeem it"`
		}
	}) (commands.Outcome, string, commands.IssuedCode, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", commands.IssuedCode{}, err
		}
		if err := mine(ctx, b.UserID); err != nil {
			return commands.Outcome{}, "", commands.IssuedCode{}, err
		}
		if requestOf(ctx).key.Role == domain.OwnUser && b.Purpose != "self_service" {
			return commands.Outcome{}, "", commands.IssuedCode{}, errForbidden
		}
		issued, out, err := s.IssueCode(ctx, commands.IssueCode{TenantID: b.TenantID, CategoryID: b.CategoryID, UserID: b.UserID, Purpose: b.Purpose, MAC: b.MAC})
		return out, "/api/v1/codes/" + string(issued.ID), issued, err
	})
	change(a, op{"POST", "/codes/redeem", "redeem-code", "Redeem a code for a phone; the same answer for unknown, expired and used", supporters, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			Code     string     `json:"code" maxLength:"64"`
			MAC      domain.MAC `json:"mac"`
			Vendor   string     `json:"vendor,omitempty"`
			Model    string     `json:"model,omitempty"`
			Firmware string     `json:"firmware,omitempty"`
			Confirm  bool       `json:"confirm,omitempty" doc:"vouch for it: no budget of wrong codes applies. For administrators and operators"`
		}
	}) (commands.Outcome, string, redeemed, error) {
		b := in.Body
		if b.Confirm && !slices.Contains(operators, requestOf(ctx).key.Role) {
			return commands.Outcome{}, "", redeemed{}, errForbidden
		}
		c := commands.CallerFrom(ctx)
		c.Confirmed = b.Confirm
		ctx = commands.WithCaller(ctx, c)
		r, out, err := s.RedeemCode(ctx, commands.RedeemCode{Code: b.Code, MAC: b.MAC, Vendor: b.Vendor, Model: b.Model, Firmware: b.Firmware})
		return out, "", redeemed{r.DeviceID, r.TenantID}, err
	})
	act(a, op{"DELETE", "/codes/{id}", "revoke-code", "Take an unused code back", supporters, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
	}) (commands.Outcome, error) {
		row, err := a.ownCode(ctx, domain.CodeID(in.ID))
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.RevokeCode(ctx, commands.RevokeCode{ID: row.ID})
	})
}

// ownCode is a code within the caller's reach.
func (a *api) ownCode(ctx context.Context, id domain.CodeID) (projections.Code, error) {
	row, ok, err := projections.CodeByID(ctx, a.Views, id)
	if err != nil || !ok {
		return row, orNotFound(err)
	}
	return row, sees(ctx, row.TenantID)
}

func orNotFound(err error) error {
	if err != nil {
		return err
	}
	return errNotFound
}

// LayerBody is what can be changed of a layer.
type LayerBody struct {
	Name     string           `json:"name,omitempty"`
	Parents  []domain.LayerID `json:"parents,omitempty" doc:"merged first, a later one over an earlier one"`
	Settings domain.Settings  `json:"settings" doc:"vendor-neutral settings; a secret sent as [redacted] keeps its value"`
}

// layer is a layer in the API's words.
type layer struct {
	ID       domain.LayerID   `json:"id"`
	TenantID domain.TenantID  `json:"tenant_id"`
	Name     string           `json:"name,omitempty"`
	Parents  []domain.LayerID `json:"parents"`
	Settings domain.Settings  `json:"settings"`
	State    string           `json:"state"`
	projections.Head
}

func (a *api) layer(ctx context.Context, row projections.Layer) (layer, error) {
	settings, err := shown(ctx, a, row.Settings)
	if settings == nil {
		settings = domain.Settings{}
	}
	return layer{row.ID, row.TenantID, row.Name, append([]domain.LayerID{}, row.Parents...), settings, row.State, row.Head}, err
}

func (a *api) layers() {
	lists(a, op{"GET", "/layers", "list-layers", "List layers", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Removed bool `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.Layer], error) {
		return projections.ListLayers(ctx, l.views, projections.LayerFilter{Tenants: l.tenants, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.layer)
	shows(a, op{"GET", "/layers/{id}", "get-layer", "Show a layer, secrets redacted", readers, 0}, domain.LayerID.Stream, projections.LayerByID, projections.LayerAt,
		func(row projections.Layer) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.layer)
	change(a, op{"POST", "/layers", "define-layer", "Define a layer", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.LayerID  `json:"id,omitempty" doc:"to use instead of a new one"`
			TenantID domain.TenantID `json:"tenant_id"`
			LayerBody
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.DefineLayer(ctx, commands.DefineLayer{ID: b.ID, TenantID: b.TenantID, Name: b.Name, Parents: b.Parents, Settings: b.Settings})
		return out, "/api/v1/layers/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/layers/{id}", "amend-layer", "Describe a layer anew, whole; the devices below follow", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LayerID, b LayerBody) (commands.Outcome, error) {
		return s.AmendLayer(ctx, commands.AmendLayer{ID: id, Name: b.Name, Parents: b.Parents, Settings: b.Settings})
	})
	removes(a, op{"DELETE", "/layers/{id}", "remove-layer", "Remove a layer", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LayerID) (commands.Outcome, error) {
		return s.RemoveLayer(ctx, commands.RemoveLayer{ID: id})
	})
}

// issuedKey is an API key, shown once.
type issuedKey struct {
	ID  domain.APIKeyID `json:"id"`
	Key string          `json:"key" doc:"shown this once"`
}

func (a *api) keys() {
	lists(a, op{"GET", "/apikeys", "list-api-keys", "List API keys", admins, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Text    string `query:"text" maxLength:"200"`
		Revoked bool   `query:"revoked" doc:"revoked ones too"`
	}) (projections.Listed[projections.APIKey], error) {
		return projections.ListAPIKeys(ctx, l.views, projections.APIKeyFilter{Tenants: l.tenants, Text: in.Text, Revoked: in.Revoked}, l.page)
	}, plain[projections.APIKey])
	read(a, op{"GET", "/apikeys/{id}", "get-api-key", "Show an API key", admins, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[projections.APIKey], error) {
		id := domain.APIKeyID(in.ID)
		_, row, err := find(ctx, a, in.AsOf, id.Stream(),
			func(ctx context.Context, q projections.Querier) (projections.APIKey, bool, error) {
				return projections.APIKeyByID(ctx, q, id)
			},
			func(at domain.Position) (projections.APIKey, bool, error) {
				return projections.APIKeyAt(a.Log.Read(ctx, id.Stream(), 0), at)
			})
		if err == nil {
			err = within(ctx, row.Tenants)
		}
		return &one[projections.APIKey]{etag(row.Revision), row}, err
	})
	change(a, op{"POST", "/apikeys", "issue-api-key", "Issue an API key", admins, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			Name      string            `json:"name"`
			Role      domain.Role       `json:"role" doc:"admin, operator, auditor, helpdesk or user"`
			Tenants   []domain.TenantID `json:"tenants,omitempty" doc:"none means all of the instance"`
			UserID    domain.UserID     `json:"user_id,omitempty" doc:"whose phones a key of role user sees"`
			ExpiresAt *time.Time        `json:"expires_at,omitempty"`
		}
	}) (commands.Outcome, string, issuedKey, error) {
		b := in.Body
		if err := within(ctx, b.Tenants); err != nil {
			return commands.Outcome{}, "", issuedKey{}, err
		}
		id, key, out, err := s.IssueAPIKey(ctx, commands.IssueAPIKey{Name: b.Name, Role: b.Role, Tenants: b.Tenants, UserID: b.UserID, ExpiresAt: b.ExpiresAt})
		return out, "/api/v1/apikeys/" + string(id), issuedKey{id, key}, err
	})
	act(a, op{"DELETE", "/apikeys/{id}", "revoke-api-key", "Revoke an API key", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
	}) (commands.Outcome, error) {
		id := domain.APIKeyID(in.ID)
		row, ok, err := projections.APIKeyByID(ctx, a.Views, id)
		if err != nil || !ok {
			return commands.Outcome{}, orNotFound(err)
		}
		if err := within(ctx, row.Tenants); err != nil {
			return commands.Outcome{}, err
		}
		return s.RevokeAPIKey(ctx, commands.RevokeAPIKey{ID: id})
	})
}

// within is nil when the caller reaches every one of these tenants; none means all of the instance, which
// only a key without tenants of its own reaches.
func within(ctx context.Context, of []domain.TenantID) error {
	key := requestOf(ctx).key
	if len(of) == 0 && len(key.Tenants) > 0 {
		return errNotFound
	}
	for _, t := range of {
		if !key.Sees(t) {
			return errNotFound
		}
	}
	return nil
}
