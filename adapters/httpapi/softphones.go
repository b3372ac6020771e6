package httpapi

import (
	"context"
	"slices"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// cloud is a cloud ID of Cloud Softphone in the API's words; the secrets of its document are redacted.
type cloud struct {
	ID         domain.CloudID           `json:"id"`
	TenantID   domain.TenantID          `json:"tenant_id"`
	Spelling   string                   `json:"spelling" doc:"as the vendor's portal writes it"`
	Document   domain.SoftphoneDocument `json:"document"`
	FailClosed bool                     `json:"fail_closed"`
	Policy     domain.SoftphonePolicy   `json:"policy"`
	State      string                   `json:"state"`
	projections.Head
}

func (a *api) cloud(ctx context.Context, row projections.Cloud) (cloud, error) {
	d, err := a.Service.SoftphoneDocument(ctx, row.SoftphoneLayer)
	return cloud{row.ID, row.TenantID, row.Spelling, d, row.FailClosed, row.Policy, row.State, row.Head}, err
}

// softphone is a user's Cloud Softphone in the API's words.
type softphone struct {
	ID          domain.SoftphoneID       `json:"id"`
	TenantID    domain.TenantID          `json:"tenant_id"`
	CloudID     domain.CloudID           `json:"cloud_id"`
	UserID      domain.UserID            `json:"user_id"`
	LineID      domain.LineID            `json:"line_id"`
	CategoryID  domain.CategoryID        `json:"category_id,omitempty"`
	Username    string                   `json:"username"`
	Document    domain.SoftphoneDocument `json:"document"`
	HasPassword bool                     `json:"has_password"`
	CodeUntil   *time.Time               `json:"code_valid_until,omitempty" doc:"until when the code issued last can be used"`
	Apps        []softphoneApp           `json:"apps" doc:"signed in, in the order they came"`
	State       string                   `json:"state"`
	projections.Head
}

type softphoneApp struct {
	ID         string    `json:"id"`
	Via        string    `json:"via"`
	SignedInAt time.Time `json:"signed_in_at"`
	Out        string    `json:"out,omitempty" doc:"why it is signed out; absent while it is not"`
	// Of push tokens nobody is shown more than whether they are those of before.
	PushFingerprint string     `json:"push_fingerprint,omitempty" doc:"of the push tokens the app reported last; absent when it never did"`
	PushReportedAt  *time.Time `json:"push_reported_at,omitempty"`
}

func (a *api) softphone(ctx context.Context, row projections.Softphone) (softphone, error) {
	d, err := a.Service.SoftphoneDocument(ctx, row.SoftphoneLayer)
	if err != nil {
		return softphone{}, err
	}
	name, err := a.open(ctx, row.Username)
	p := softphone{ID: row.SoftphoneID, TenantID: row.TenantID, CloudID: row.CloudID, UserID: row.UserID, LineID: row.LineID, CategoryID: row.CategoryID, Username: name, Document: d,
		HasPassword: row.HasPassword, Apps: []softphoneApp{}, State: row.State, Head: row.Head}
	if row.CodeUntil.After(a.when(ctx)) {
		p.CodeUntil = &row.CodeUntil
	}
	for _, i := range row.Installs {
		app := softphoneApp{ID: i.InstallID, Via: i.Via, SignedInAt: i.At, Out: i.Out, PushFingerprint: i.Push.Tokens.Fingerprint}
		if app.PushFingerprint != "" {
			app.PushReportedAt = &i.Push.At
		}
		p.Apps = append(p.Apps, app)
	}
	return p, err
}

// softphoneCode is a code and its picture.
type softphoneCode struct {
	commands.SoftphoneCode
	QR string `json:"qr_svg,omitempty" doc:"qr_text as a picture"`
}

// checked is the answer to a change of a document: what is not forbidden and may still be a mistake.
type checked struct {
	ID       string                    `json:"id"`
	Warnings []domain.SoftphoneFinding `json:"warnings"`
}

func warnings(id string, found []domain.SoftphoneFinding) checked {
	return checked{id, slices.Clip(append([]domain.SoftphoneFinding{}, found...))}
}

type CloudBody struct {
	Document   domain.SoftphoneDocument `json:"document,omitempty" doc:"what all apps below the cloud ID are told"`
	FailClosed bool                     `json:"fail_closed,omitempty" doc:"a sign-in fails while quick dials cannot be told"`
	Policy     domain.SoftphonePolicy   `json:"policy,omitempty" doc:"what is checked of all documents below the cloud ID"`
}

type SoftphoneBody struct {
	LineID   domain.LineID            `json:"line_id"`
	Category domain.CategoryID        `json:"category_id,omitempty" doc:"category whose softphone document lies between the cloud ID's and this one"`
	Document domain.SoftphoneDocument `json:"document,omitempty" doc:"what this user's apps are told, over what the cloud ID says"`
}

// softphones registers cloud IDs, softphones and their levels.
func (a *api) softphones() {
	a.clouds()
	a.softphoneXMLs()
	a.portal()
	lists(a, op{"GET", "/softphones", "list-softphones", "List Cloud Softphones", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		User    domain.UserID  `query:"user"`
		Cloud   domain.CloudID `query:"cloud_id"`
		Removed bool           `query:"removed" doc:"removed ones too"`
	}) (projections.Listed[projections.Softphone], error) {
		return projections.ListSoftphones(ctx, l.views, projections.SoftphoneFilter{Tenants: l.tenants, User: in.User, Cloud: in.Cloud, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.softphone)
	shows(a, op{"GET", "/softphones/{id}", "get-softphone", "Show a Cloud Softphone", readers, 0}, domain.SoftphoneID.Stream, projections.SoftphoneByID, projections.SoftphoneAt,
		func(row projections.Softphone) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.softphone)
	change(a, op{"POST", "/softphones", "define-softphone", "Give a user a Cloud Softphone", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       domain.SoftphoneID `json:"id,omitempty" doc:"to use instead of a new one"`
			TenantID domain.TenantID    `json:"tenant_id"`
			CloudID  string             `json:"cloud_id"`
			UserID   domain.UserID      `json:"user_id,omitempty" doc:"the line's when absent"`
			Username string             `json:"username" doc:"typed into the app, unique below the cloud ID"`
			SoftphoneBody
		}
	}) (commands.Outcome, string, checked, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", checked{}, err
		}
		id, found, out, err := s.DefineSoftphone(ctx, commands.DefineSoftphone{ID: b.ID, TenantID: b.TenantID, CloudID: b.CloudID, UserID: b.UserID, LineID: b.LineID, Username: b.Username, Category: b.Category, Document: b.Document})
		return out, "/api/v1/softphones/" + string(id), warnings(string(id), found), err
	})
	alters(a, op{"PUT", "/softphones/{id}", "amend-softphone", "Describe a Cloud Softphone anew, whole", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.SoftphoneID, b SoftphoneBody) (commands.Outcome, checked, error) {
		found, out, err := s.AmendSoftphone(ctx, commands.AmendSoftphone{ID: id, LineID: b.LineID, Category: b.Category, Document: b.Document})
		return out, warnings(string(id), found), err
	})
	amends(a, op{"PUT", "/softphones/{id}/password", "set-softphone-password", "Set the password a user signs in with; apps that are signed in stay so", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.SoftphoneID, b struct {
		Password string `json:"password"`
	}) (commands.Outcome, error) {
		return s.SetSoftphonePassword(ctx, commands.SetSoftphonePassword{ID: id, Password: b.Password})
	})
	alters(a, op{"POST", "/softphones/{id}/code", "issue-softphone-code", "Issue a code that lets the user sign in once; shown this once", supporters, 201}, func(ctx context.Context, s *commands.Service, id domain.SoftphoneID, b struct {
		Editable bool `json:"editable,omitempty" doc:"the QR code asks for the editable version of the portal's configuration"`
		Picture  bool `json:"picture,omitempty" doc:"draw the QR code as well"`
		Link     bool `json:"link,omitempty" doc:"a link for retail apps is needed: refused, and no code issued, where those are not let in"`
	}) (commands.Outcome, softphoneCode, error) {
		code, out, err := s.IssueSoftphoneCode(ctx, commands.IssueSoftphoneCode{ID: id, Editable: b.Editable, Link: b.Link})
		if err != nil {
			return out, softphoneCode{}, err
		}
		answer := softphoneCode{SoftphoneCode: code}
		if b.Picture && a.QR != nil {
			answer.QR, err = a.QR(code.QRText)
		}
		return out, answer, err
	})
	amends(a, op{"POST", "/softphones/{id}/sign-out", "sign-out-softphone", "Sign one app of the user out, or all", supporters, 0}, func(ctx context.Context, s *commands.Service, id domain.SoftphoneID, b struct {
		App string `json:"app,omitempty" doc:"id of the app; all when absent"`
	}) (commands.Outcome, error) {
		return s.SignOutSoftphone(ctx, commands.SignOutSoftphone{ID: id, InstallID: b.App})
	})
	removes(a, op{"DELETE", "/softphones/{id}", "remove-softphone", "Remove a Cloud Softphone; its apps are signed out", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.SoftphoneID) (commands.Outcome, error) {
		return s.RemoveSoftphone(ctx, commands.RemoveSoftphone{ID: id})
	})
}

func (a *api) clouds() {
	lists(a, op{"GET", "/cloudids", "list-cloud-ids", "List cloud IDs of Cloud Softphone", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		TextFilter
		Removed bool `query:"removed" doc:"those given back too"`
	}) (projections.Listed[projections.Cloud], error) {
		return projections.ListClouds(ctx, l.views, projections.CloudFilter{Tenants: l.tenants, Text: in.Text, Removed: in.Removed}, l.page)
	}, a.cloud)
	shows(a, op{"GET", "/cloudids/{id}", "get-cloud-id", "Show a cloud ID", readers, 0}, domain.CloudID.Stream, projections.CloudByID, projections.CloudAt,
		func(row projections.Cloud) (domain.TenantID, projections.Head) { return row.TenantID, row.Head }, a.cloud)
	change(a, op{"POST", "/cloudids", "define-cloud-id", "Take a cloud ID of Cloud Softphone for a tenant", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			ID       string          `json:"id" doc:"as the vendor's portal shows it, without a star"`
			TenantID domain.TenantID `json:"tenant_id"`
			CloudBody
		}
	}) (commands.Outcome, string, checked, error) {
		b := in.Body
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, "", checked{}, err
		}
		id, found, out, err := s.DefineCloudID(ctx, commands.DefineCloudID{ID: b.ID, TenantID: b.TenantID, Document: b.Document, FailClosed: b.FailClosed, Policy: b.Policy})
		return out, "/api/v1/cloudids/" + string(id), warnings(string(id), found), err
	})
	alters(a, op{"PUT", "/cloudids/{id}", "amend-cloud-id", "Change what all apps of a cloud ID are told, whole", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.CloudID, b CloudBody) (commands.Outcome, checked, error) {
		found, out, err := s.AmendCloudID(ctx, commands.AmendCloudID{ID: id, Document: b.Document, FailClosed: b.FailClosed, Policy: b.Policy})
		return out, warnings(string(id), found), err
	})
	removes(a, op{"DELETE", "/cloudids/{id}", "remove-cloud-id", "Give a cloud ID back", operators, 0}, func(ctx context.Context, s *commands.Service, id domain.CloudID) (commands.Outcome, error) {
		return s.RemoveCloudID(ctx, commands.RemoveCloudID{ID: id})
	})
}
