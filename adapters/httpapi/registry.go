package httpapi

import (
	"context"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

type RegistryServerBody struct {
	Name      string `json:"name"`
	PublicKey string `json:"public_key" doc:"Ed25519, base64 of 32 bytes"`
}

// registry registers the Devices servers that have their codes drawn here. They belong to the instance, not to a tenant.
func (a *api) registry() {
	lists(a, op{"GET", "/registry-servers", "list-registry-servers", "List Devices servers whose codes are drawn here", admins, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Text    string `query:"text" maxLength:"200"`
		Removed bool   `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.RegistryServer], error) {
		if bound(ctx) {
			return projections.Listed[projections.RegistryServer]{}, errForbidden
		}
		return projections.ListRegistryServers(ctx, l.views, projections.RegistryServerFilter{Text: in.Text, Removed: in.Removed}, l.page)
	}, plain[projections.RegistryServer])
	shows(a, op{"GET", "/registry-servers/{id}", "get-registry-server", "Show a Devices server", admins, 0}, domain.ServerID.Stream, projections.RegistryServerByID, projections.RegistryServerAt,
		func(row projections.RegistryServer) (domain.TenantID, projections.Head) {
			return domain.Master, row.Head
		}, plain[projections.RegistryServer])
	change(a, op{"POST", "/registry-servers", "register-server", "Have codes drawn here for a Devices server", admins, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID domain.ServerID `json:"id,omitempty" doc:"to use instead of a new one"`
			RegistryServerBody
		}
	}) (commands.Outcome, string, made, error) {
		if bound(ctx) {
			return commands.Outcome{}, "", made{}, errForbidden
		}
		id, out, err := s.RegisterServer(ctx, commands.RegisterServer{ID: in.Body.ID, Name: in.Body.Name, PublicKey: in.Body.PublicKey})
		return out, "/api/v1/registry-servers/" + string(id), made{string(id)}, err
	})
	act(a, op{"PUT", "/registry-servers/{id}", "amend-registry-server", "Describe a Devices server anew, whole", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body RegistryServerBody
	}) (commands.Outcome, error) {
		id := domain.ServerID(in.ID)
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		_, out, err := s.RegisterServer(ctx, commands.RegisterServer{ID: id, Name: in.Body.Name, PublicKey: in.Body.PublicKey})
		return out, err
	})
	act(a, op{"DELETE", "/registry-servers/{id}", "remove-registry-server", "Draw no more codes for a Devices server", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
	}) (commands.Outcome, error) {
		id := domain.ServerID(in.ID)
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.RemoveServer(ctx, commands.RemoveServer{ID: id})
	})
}

// issuedToken is the answer to the issue of a token, with what a phone has to be told.
type issuedToken struct {
	ID        domain.TokenID `json:"id"`
	Token     string         `json:"token" doc:"shown this once"`
	ExpiresAt time.Time      `json:"expires_at"`
	URL       string         `json:"url,omitempty" doc:"the Devices URL with domain, token and category, as a phone shows it"`
	Line      string         `json:"line,omitempty" doc:"the finished line for an update script; it does not work in a browser's address bar"`
}

func (a *api) issuedToken(t commands.IssuedToken) issuedToken {
	out := issuedToken{ID: t.ID, Token: t.Token, ExpiresAt: t.ExpiresAt}
	if t.DevicesURL != "" && a.Sysadmin != nil {
		out.URL, out.Line = a.Sysadmin(t.DevicesURL, t.Domain, t.Token, t.Category)
	}
	return out
}

// tokens registers the tokens of automatic provisioning.
func (a *api) tokens() {
	show := func(ctx context.Context, t projections.Token) (projections.Token, error) {
		t.State = t.StateAt(a.when(ctx))
		return t, nil
	}
	lists(a, op{"GET", "/tokens", "list-tokens", "List tokens of automatic provisioning; each was shown once, when it was issued", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Tenant   domain.TenantID   `query:"tenant"`
		Category domain.CategoryID `query:"category"`
		Revoked  bool              `query:"revoked" doc:"revoked ones too"`
	}) (projections.Listed[projections.Token], error) {
		return projections.ListTokens(ctx, l.views, projections.TokenFilter{Tenants: l.tenants, Category: in.Category, Revoked: in.Revoked}, l.page)
	}, show)
	shows(a, op{"GET", "/tokens/{id}", "get-token", "Show a token's state", readers, 0}, domain.TokenID.Stream, projections.TokenByID, projections.TokenAt,
		func(row projections.Token) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, show)
	change(a, op{"POST", "/tokens", "issue-token", "Issue a token that puts phones into a category without a code", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			CategoryID  domain.CategoryID `json:"category_id"`
			Name        string            `json:"name,omitempty"`
			Existing    string            `json:"existing_token,omitempty" doc:"one that phones have already; without it, one is drawn"`
			ExpiresAt   time.Time         `json:"expires_at,omitzero" doc:"within a year; 90 days from now when absent"`
			MACPrefixes []string          `json:"mac_prefixes,omitempty" doc:"beginnings of the only MACs that may use it"`
			Networks    []string          `json:"networks,omitempty" doc:"the only networks it may be used from"`
			MaxUses     int               `json:"max_uses,omitempty" doc:"how many phones it admits; 0 for no bound"`
		}
	}) (commands.Outcome, string, issuedToken, error) {
		b := in.Body
		if err := a.reaches(ctx, s, b.CategoryID.Stream()); err != nil {
			return commands.Outcome{}, "", issuedToken{}, err
		}
		t, out, err := s.IssueToken(ctx, commands.IssueToken{CategoryID: b.CategoryID, Name: b.Name, Token: b.Existing, ExpiresAt: b.ExpiresAt, MACPrefixes: b.MACPrefixes, Networks: b.Networks, MaxUses: b.MaxUses})
		return out, "/api/v1/tokens/" + string(t.ID), a.issuedToken(t), err
	})
	change(a, op{"POST", "/tokens/{id}/rotate", "rotate-token", "Have a new token follow one; for a while both are good", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body struct {
			OverlapHours int       `json:"overlap_hours,omitempty" minimum:"0" maximum:"2160" doc:"how long the old one is still good"`
			ExpiresAt    time.Time `json:"expires_at,omitzero" doc:"end of the new one; when absent it lives as long as the old one was to"`
		}
	}) (commands.Outcome, string, issuedToken, error) {
		id := domain.TokenID(in.ID)
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, "", issuedToken{}, err
		}
		t, out, err := s.RotateToken(ctx, commands.RotateToken{ID: id, Overlap: time.Duration(in.Body.OverlapHours) * time.Hour, ExpiresAt: in.Body.ExpiresAt})
		return out, "/api/v1/tokens/" + string(t.ID), a.issuedToken(t), err
	})
	act(a, op{"DELETE", "/tokens/{id}", "revoke-token", "End a token; phones it admitted stay", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
	}) (commands.Outcome, error) {
		id := domain.TokenID(in.ID)
		ctx, err := a.changing(ctx, s, in.IfMatch, id.Stream())
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.RevokeToken(ctx, commands.RevokeToken{ID: id})
	})
}
