package commands

import (
	"context"
	"time"

	"ledgerline/domain"
)

// IssueSoftphoneCode makes a code that lets a user sign in once. One issued before is dead.
type IssueSoftphoneCode struct {
	ID domain.SoftphoneID `json:"id" validate:"required,id"`
}

// SoftphoneCode is what the issuer is told, once.
type SoftphoneCode struct {
	CloudID    domain.CloudID `json:"cloud_id"`
	Username   string         `json:"username"`
	Code       string         `json:"code"`
	ValidUntil time.Time      `json:"valid_until"`
}

// IssueSoftphoneCode draws the digits. Errors: ErrInvalid, domain.ErrSoftphoneUnknown, domain.ErrSoftphoneRemoved.
func (s *Service) IssueSoftphoneCode(ctx context.Context, in IssueSoftphoneCode) (SoftphoneCode, Outcome, error) {
	if err := check(in); err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	digits, err := drawDigits(s.random(), s.codeLength())
	if err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	hash, err := s.lookup(ctx, softphoneCode, string(in.ID)+"/"+digits)
	if err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	issued := SoftphoneCode{Code: digits, ValidUntil: s.now().Add(domain.SoftphoneCodeTTL)}
	var name domain.Personal
	out, err := decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		name, issued.CloudID = p.Username, p.CloudID
		return p.IssueCode(hash, issued.ValidUntil)
	})
	if err != nil {
		return SoftphoneCode{}, out, err
	}
	issued.Username, err = s.Open(ctx, name.Sealed)
	return issued, out, err
}
