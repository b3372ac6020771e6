package commands

import (
	"context"
	"strings"

	"ledgerline/domain"
)

// DefineSoftphone gives a user a Cloud Softphone with a line. An empty ID makes a new one. UserID may be empty when the
// line has a user.
type DefineSoftphone struct {
	ID       domain.SoftphoneID       `json:"id" validate:"omitempty,id"`
	TenantID domain.TenantID          `json:"tenant_id" validate:"required,id"`
	CloudID  string                   `json:"cloud_id" validate:"required,max=65,text"`
	UserID   domain.UserID            `json:"user_id" validate:"omitempty,id"`
	LineID   domain.LineID            `json:"line_id" validate:"required,id"`
	Username string                   `json:"username" validate:"required,max=128,text"`
	Category domain.CategoryID        `json:"category_id" validate:"omitempty,id"`
	Document domain.SoftphoneDocument `json:"document" validate:"-"`
}

// DefineSoftphone answers the softphone's id, and warnings about its document. Errors: ErrInvalid, *DocumentError,
// domain.ErrTenantUnknown, domain.ErrTenantDeleted, domain.ErrCloudIDUnknown, domain.ErrCloudIDForeign, domain.ErrLineUnknown,
// domain.ErrLineRemoved, domain.ErrLineOfOtherTenant, those of domain.User.Live and domain.Category.Takes, domain.ErrSoftphoneNameTaken,
// domain.ErrSoftphoneExists.
func (s *Service) DefineSoftphone(ctx context.Context, in DefineSoftphone) (domain.SoftphoneID, []domain.SoftphoneFinding, Outcome, error) {
	if err := check(in); err != nil {
		return "", nil, Outcome{}, err
	}
	cloudID, _, ok := domain.ParseCloudID(in.CloudID)
	if !ok {
		return "", nil, Outcome{}, &InvalidError{"cloud_id", cloudIDRule}
	}
	name := strings.TrimSpace(in.Username)
	if name == "" || strings.Contains(name, "%") {
		return "", nil, Outcome{}, &InvalidError{"username", "must be text without %"}
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return "", nil, Outcome{}, err
	}
	below, err := s.belowSoftphone(ctx, cloudID, in.Category)
	if err != nil {
		return "", nil, Outcome{}, err
	}
	if err := below.cloud.Of(in.TenantID); err != nil {
		return "", nil, Outcome{}, err
	}
	if err := s.usableSoftphoneCategory(ctx, in.TenantID, in.Category); err != nil {
		return "", nil, Outcome{}, err
	}
	if in.UserID, err = s.userOfSoftphone(ctx, in.TenantID, in.LineID, in.UserID); err != nil {
		return "", nil, Outcome{}, err
	}
	subject := in.UserID.Subject()
	layer, found, err := s.softphoneLayer(ctx, subject, in.Document, domain.SoftphoneDocument{}, below.context())
	if err != nil {
		return "", found, Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.SoftphoneID(newID())
	}
	if p, _, err := load[domain.Softphone](ctx, s.Log, in.ID.Stream()); err != nil || p.Exists {
		if err == nil {
			err = domain.ErrSoftphoneExists
		}
		return "", found, Outcome{}, err
	}
	value := softphoneName(cloudID, name)
	if err := s.take(ctx, claimSoftphone, value, in.ID.Stream(), domain.ErrSoftphoneNameTaken); err != nil {
		return "", found, Outcome{}, err
	}
	hash, err := s.lookup(ctx, claimSoftphone, value)
	if err != nil {
		return "", found, Outcome{}, err
	}
	sealed, err := s.personal(ctx, subject, name)
	if err != nil {
		return "", found, Outcome{}, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		return p.Define(domain.SoftphoneDefined{SoftphoneID: in.ID, TenantID: in.TenantID, CloudID: cloudID, UserID: in.UserID, Username: sealed, UsernameHash: hash,
			SoftphoneSpec: domain.SoftphoneSpec{LineID: in.LineID, CategoryID: in.Category, SoftphoneLayer: layer}})
	})
	return in.ID, found, out, err
}
