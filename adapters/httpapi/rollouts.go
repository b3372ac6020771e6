package httpapi

import (
	"context"
	"fmt"
	"slices"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// rollout is a rollout in the API's words.
type rollout struct {
	ID           domain.RolloutID  `json:"id"`
	TenantID     domain.TenantID   `json:"tenant_id"`
	Name         string            `json:"name,omitempty"`
	CategoryID   domain.CategoryID `json:"category_id"`
	QuarantineID domain.CategoryID `json:"quarantine_id,omitempty" doc:"where a phone waits whose MAC was not planned"`
	PhoneApp     string            `json:"phone_app,omitempty"`
	ValidForS    int               `json:"valid_for_s"`
	Exports      int               `json:"exports" doc:"how often codes were handed out"`
	rolloutProgress
	projections.Head
}

// rolloutProgress is how far a rollout has come.
type rolloutProgress struct {
	State  string         `json:"state" doc:"issuing (rows without a code yet), running (phones are awaited), cancelled or done"`
	Rows   int            `json:"rows"`
	Counts map[string]int `json:"counts" doc:"rows by state: pending, quarantined, registered, expired, cancelled, failed"`
}

// progressOf counts the rows of a rollout.
func progressOf(ctx context.Context, q projections.Querier, row projections.Rollout) (rolloutProgress, error) {
	counts, err := projections.CountRolloutRows(ctx, q, row.RolloutID)
	p := rolloutProgress{State: "done", Rows: row.Rows, Counts: counts}
	issued := 0
	for _, n := range counts {
		issued += n
	}
	switch {
	case issued < row.Rows:
		p.State = "issuing"
	case counts[domain.RowPending]+counts[domain.RowQuarantined] > 0:
		p.State = "running"
	case row.Cancelled:
		p.State = "cancelled"
	}
	return p, err
}

func rolloutOf(ctx context.Context, q projections.Querier, row projections.Rollout) (rollout, error) {
	p, err := progressOf(ctx, q, row)
	return rollout{row.RolloutID, row.TenantID, row.Name, row.CategoryID, row.QuarantineID, row.PhoneApp, row.ValidForS, row.Exports, p, row.Head}, err
}

// ownRollout is a rollout the caller reaches.
func ownRollout(ctx context.Context, q projections.Querier, id string) (projections.Rollout, error) {
	row, ok, err := projections.RolloutByID(ctx, q, domain.RolloutID(id))
	if err != nil || !ok {
		return row, orNotFound(err)
	}
	return row, sees(ctx, row.TenantID)
}

// rolloutRows names rows of a rollout in a request.
type rolloutRows struct {
	Rows []int `json:"rows,omitempty" maxItems:"20000" doc:"these rows; all when absent"`
}

// rollouts registers rollouts and their rows.
func (a *api) rollouts() {
	lists(a, op{"GET", "/rollouts", "list-rollouts", "List rollouts", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Category domain.CategoryID `query:"category"`
	}) (out projections.Listed[rollout], err error) {
		rows, err := projections.ListRollouts(ctx, l.views, projections.RolloutFilter{Tenants: l.tenants, Category: in.Category, Text: in.Text}, l.page)
		out.Next, out.Items = rows.Next, make([]rollout, len(rows.Items))
		for i, row := range rows.Items {
			if err == nil {
				out.Items[i], err = rolloutOf(ctx, l.views, row)
			}
		}
		return out, err
	}, plain)
	read(a, op{"GET", "/rollouts/{id}", "get-rollout", "Show a rollout, and how many of its rows are in which state", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[rollout], error) {
		ctx, views, release, err := a.views(ctx, in.AsOf)
		if err != nil {
			return nil, err
		}
		defer release()
		row, err := ownRollout(ctx, views, in.ID)
		if err != nil {
			return nil, err
		}
		body, err := rolloutOf(ctx, views, row)
		return &one[rollout]{etag(row.Revision), body}, err
	})
	lists(a, op{"GET", "/rollouts/{id}/rows", "list-rollout-rows", "List the rows of a rollout; their codes are in its export only", readers, 0}, func(ctx context.Context, l listed, in *struct {
		ByID
		Present
		State string        `query:"state" enum:"pending,quarantined,registered,expired,cancelled,failed"`
		User  domain.UserID `query:"user"`
	}) (projections.Listed[projections.RolloutRow], error) {
		row, err := ownRollout(ctx, l.views, in.ID)
		if err != nil {
			return projections.Listed[projections.RolloutRow]{}, err
		}
		return projections.ListRolloutRows(ctx, l.views, projections.RolloutRowFilter{Rollout: row.RolloutID, State: in.State, User: in.User}, l.page)
	}, func(ctx context.Context, r projections.RolloutRow) (projections.RolloutRow, error) {
		r.State = r.StateAt(a.when(ctx))
		return r, nil
	})
	a.rolloutChanges()
	a.rolloutExport()
	a.rolloutFeed()
}

func (a *api) rolloutChanges() {
	change(a, op{"POST", "/rollouts", "create-rollout", "Give many users a code each", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID           domain.RolloutID     `json:"id,omitempty" doc:"to use instead of a new one; without dots"`
			TenantID     domain.TenantID      `json:"tenant_id"`
			CategoryID   domain.CategoryID    `json:"category_id" doc:"where the codes lead: a provisioning category"`
			QuarantineID domain.CategoryID    `json:"quarantine_id,omitempty" doc:"where a phone waits to be confirmed whose MAC is not among users"`
			Name         string               `json:"name,omitempty"`
			PhoneApp     string               `json:"phone_app,omitempty" doc:"the category's when absent"`
			ValidForS    int                  `json:"valid_for_s,omitempty" doc:"life of each code in seconds, a week at most; the server's when absent"`
			Users        []domain.RolloutPlan `json:"users,omitempty" maxItems:"20000" doc:"who gets a code; mac, when known, is the only phone that may use it"`
			All          bool                 `json:"all,omitempty" doc:"every user of the tenant"`
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.CreateRollout(ctx, commands.CreateRollout{ID: b.ID, TenantID: b.TenantID, CategoryID: b.CategoryID, QuarantineID: b.QuarantineID, Name: b.Name,
			PhoneApp: b.PhoneApp, ValidForS: b.ValidForS, Users: b.Users, All: b.All})
		return out, "/api/v1/rollouts/" + string(id), made{string(id)}, err
	})
	for _, verb := range []struct {
		name, summary string
		do            func(*commands.Service, context.Context, commands.RolloutRows) (commands.Outcome, error)
	}{
		{"cancel", "Take back the codes of rows that wait", (*commands.Service).CancelRollout},
		{"extend", "Let rows that wait do so for the rollout's full time from now on; printed codes stay good", (*commands.Service).ExtendRollout},
		{"reissue", "Give rows without a phone new codes: those that expired, were cancelled or failed, or the rows named, also while they wait or have a phone in quarantine", (*commands.Service).ReissueRollout},
		{"resend", "Tell innovaphone Users again of the phones that came, by all rows or those named", (*commands.Service).ResendRollout},
	} {
		amends(a, op{"POST", "/rollouts/{id}/" + verb.name, verb.name + "-rollout", verb.summary, operators, 0}, func(ctx context.Context, s *commands.Service, id domain.RolloutID, b rolloutRows) (commands.Outcome, error) {
			return verb.do(s, ctx, commands.RolloutRows{ID: id, Rows: b.Rows})
		})
	}
	act(a, op{"POST", "/rollouts/{id}/rows/{row}/confirm", "confirm-rollout-row", "Vouch for the phone that waits on a row: it gets the rollout's category and the user's lines", codeIssuers, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Row int `path:"row" minimum:"1" maximum:"20000"`
	}) (commands.Outcome, error) {
		id := domain.RolloutID(in.ID)
		if err := a.reaches(ctx, s, id.Stream()); err != nil {
			return commands.Outcome{}, err
		}
		confirm := commands.ConfirmRolloutRow{ID: id, Row: in.Row}
		if key := requestOf(ctx).key; key.Role == domain.OwnUser {
			if confirm.UserID = key.UserID; confirm.UserID == "" {
				return commands.Outcome{}, errNotFound
			}
		}
		return s.ConfirmRolloutRow(ctx, confirm)
	})
}

// rolloutFile is codes in clear text.
type rolloutFile struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

// rolloutExport registers the one place where a rollout's codes can be read: for those who may issue rollouts, and on
// record before a single digit is shown.
func (a *api) rolloutExport() {
	read(a, op{"GET", "/rollouts/{id}/export", "export-rollout", "The codes of a rollout, as CSV or as a sheet to print; each export is on record", operators, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position" doc:"wait until this position can be seen, five seconds at most"`
		Format      string `query:"format" enum:"csv,sheet" default:"csv"`
		Rows        []int  `query:"rows" maxItems:"20000" doc:"these rows, joined by commas; all when absent"`
		Reason      string `header:"X-Reason" maxLength:"500" doc:"why, for the record"`
	}) (*rolloutFile, error) {
		row, err := ownRollout(ctx, a.Views, in.ID)
		if err != nil {
			return nil, err
		}
		draw := a.QR
		if in.Format != "sheet" {
			draw = nil
		}
		cards, codes, err := a.rolloutCards(ctx, row, in.Rows, draw)
		if err != nil {
			return nil, err
		}
		caller := a.caller(ctx)
		caller.Reason = in.Reason
		_, err = a.Service.ExportRollout(commands.WithCaller(ctx, caller), commands.ExportRollout{RolloutRows: commands.RolloutRows{ID: row.RolloutID, Rows: in.Rows}, Format: in.Format, Codes: codes})
		if err != nil {
			return nil, err
		}
		if in.Format == "sheet" {
			body, err := sheetOf(row, cards)
			return &rolloutFile{"text/html; charset=utf-8", "inline", body}, err
		}
		return &rolloutFile{"text/csv; charset=utf-8; header=present", `attachment; filename="rollout-` + string(row.RolloutID) + `.csv"`, csvOf(row, cards)}, nil
	})
}

// rolloutFeed registers the progress of a rollout, which ends when no phone is awaited any more.
func (a *api) rolloutFeed() {
	progress(a, op{"GET", "/rollouts/{id}/progress", "rollout-progress", "How far a rollout has come; with Accept: text/event-stream as a feed that ends when it is done", readers, 0},
		func(ctx context.Context, id string) (p rolloutProgress, done bool, err error) {
			row, err := ownRollout(ctx, a.Views, id)
			if err == nil {
				p, err = progressOf(ctx, a.Views, row)
			}
			return p, p.State == "done" || p.State == "cancelled", err
		})
}

// rowWanted tells whether a row is among those asked for; none asked for means all.
func rowWanted(rows []int, n int) bool { return len(rows) == 0 || slices.Contains(rows, n) }

// checkRows refuses rows the rollout does not have.
func checkRows(row projections.Rollout, rows []int) error {
	for i, n := range rows {
		if n < 1 || n > row.Rows {
			return &commands.InvalidError{Field: fmt.Sprintf("rows[%d]", i), Rule: fmt.Sprintf("must be 1 to %d", row.Rows)}
		}
	}
	return nil
}
