package httpapi

import (
	"context"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// user is a user in the API's words: names in clear, "[erased]" once their key is gone.
type user struct {
	ID          domain.UserID   `json:"id"`
	TenantID    domain.TenantID `json:"tenant_id"`
	DisplayName string          `json:"display_name"`
	Email       string          `json:"email,omitempty"`
	State       string          `json:"state"`
	projections.Head
}

func (a *api) user(ctx context.Context, row projections.User) (user, error) {
	name, err := a.open(ctx, row.DisplayName)
	if err != nil {
		return user{}, err
	}
	email, err := a.open(ctx, row.Email)
	return user{row.ID, row.TenantID, name, email, row.State, row.Head}, err
}

// line is a SIP account in the API's words, without its password.
type line struct {
	ID           domain.LineID       `json:"id"`
	TenantID     domain.TenantID     `json:"tenant_id"`
	UserID       domain.UserID       `json:"user_id,omitempty"`
	Number       string              `json:"number,omitempty"`
	DisplayName  string              `json:"display_name,omitempty"`
	Username     string              `json:"username"`
	AuthUsername string              `json:"auth_username,omitempty"`
	Settings     domain.LineSettings `json:"settings,omitempty"`
	Remote       *lineRemote         `json:"remote,omitempty" doc:"its account on a border gateway"`
	State        string              `json:"state"`
	projections.Head
}

// lineRemote is a line's account on a border gateway, without its password.
type lineRemote struct {
	GatewayID    domain.GatewayID `json:"gateway_id"`
	NodeID       string           `json:"node_id,omitempty"`
	Username     string           `json:"username"`
	Availability string           `json:"availability,omitempty"`
}

func (a *api) line(ctx context.Context, row projections.Line) (line, error) {
	number, err := a.open(ctx, row.Number)
	if err != nil {
		return line{}, err
	}
	name, err := a.open(ctx, row.DisplayName)
	if err != nil {
		return line{}, err
	}
	settings, err := shown(ctx, a, row.Settings)
	out := line{row.ID, row.TenantID, row.UserID, number, name, row.Username, row.AuthUsername, settings, nil, row.State, row.Head}
	if r := row.Remote; r.GatewayID != "" {
		out.Remote = &lineRemote{r.GatewayID, r.NodeID, r.Username, r.Availability}
	}
	return out, err
}

type UserBody struct {
	DisplayName string `json:"display_name,omitempty"`
	Email       string `json:"email,omitempty"`
}

type LineBody struct {
	Number       string              `json:"number,omitempty" doc:"directory number"`
	DisplayName  string              `json:"display_name,omitempty" doc:"the user's when absent"`
	Username     string              `json:"username"`
	AuthUsername string              `json:"auth_username,omitempty" doc:"the user name when absent"`
	Settings     domain.LineSettings `json:"settings,omitempty" doc:"further keys of one sip_lines entry"`
}

// people registers users and their lines.
func (a *api) people() {
	a.users()
	a.lines()
	a.dialling()
}

func (a *api) users() {
	lists(a, op{"GET", "/users", "list-users", "List users", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Removed bool `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.User], error) {
		return projections.ListUsers(ctx, l.views, projections.UserFilter{Tenants: l.tenants, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.user)
	shows(a, op{"GET", "/users/{id}", "get-user", "Show a user", readers, 0}, domain.UserID.Stream, projections.UserByID, projections.UserAt,
		func(row projections.User) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.user)
	change(a, op{"POST", "/users", "define-user", "Define a user", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.UserID   `json:"id,omitempty" doc:"to use instead of a new one"`
			TenantID domain.TenantID `json:"tenant_id"`
			UserBody
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.DefineUser(ctx, commands.DefineUser{ID: b.ID, TenantID: b.TenantID, DisplayName: b.DisplayName, Email: b.Email})
		return out, "/api/v1/users/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/users/{id}", "amend-user", "Describe a user anew, whole", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.UserID, b UserBody) (commands.Outcome, error) {
		return s.AmendUser(ctx, commands.AmendUser{ID: id, DisplayName: b.DisplayName, Email: b.Email})
	})
	removes(a, op{"DELETE", "/users/{id}", "remove-user", "Remove a user", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.UserID) (commands.Outcome, error) {
		return s.RemoveUser(ctx, commands.RemoveUser{ID: id})
	})
}

func (a *api) lines() {
	lists(a, op{"GET", "/lines", "list-lines", "List SIP accounts", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		User    domain.UserID   `query:"user"`
		Device  domain.DeviceID `query:"device" doc:"carried by this device"`
		Removed bool            `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.Line], error) {
		return projections.ListLines(ctx, l.views, projections.LineFilter{Tenants: l.tenants, User: in.User, Device: in.Device, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.line)
	shows(a, op{"GET", "/lines/{id}", "get-line", "Show a SIP account, without its password", readers, 0}, domain.LineID.Stream, projections.LineByID, projections.LineAt,
		func(row projections.Line) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.line)
	change(a, op{"POST", "/lines", "define-line", "Define a SIP account", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.LineID   `json:"id,omitempty" doc:"to use instead of a new one"`
			TenantID domain.TenantID `json:"tenant_id"`
			UserID   domain.UserID   `json:"user_id,omitempty"`
			Password string          `json:"password"`
			LineBody
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.DefineLine(ctx, commands.DefineLine{ID: b.ID, TenantID: b.TenantID, UserID: b.UserID, Number: b.Number, DisplayName: b.DisplayName,
			Username: b.Username, AuthUsername: b.AuthUsername, Password: b.Password, Settings: b.Settings})
		return out, "/api/v1/lines/" + string(id), made{string(id)}, err
	})
	amends(a, op{"PUT", "/lines/{id}", "amend-line", "Describe a SIP account anew, whole, but for its password", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID, b LineBody) (commands.Outcome, error) {
		return s.AmendLine(ctx, commands.AmendLine{ID: id, Number: b.Number, DisplayName: b.DisplayName, Username: b.Username, AuthUsername: b.AuthUsername, Settings: b.Settings})
	})
	amends(a, op{"POST", "/lines/{id}/rotate", "rotate-line-secret", "Give it a new SIP password", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID, b struct {
		Password string `json:"password"`
	}) (commands.Outcome, error) {
		return s.RotateLineSecret(ctx, commands.RotateLineSecret{ID: id, Password: b.Password})
	})
	removes(a, op{"DELETE", "/lines/{id}", "remove-line", "Remove a SIP account", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.LineID) (commands.Outcome, error) {
		return s.RemoveLine(ctx, commands.RemoveLine{ID: id})
	})
}
