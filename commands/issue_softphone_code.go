package commands

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"ledgerline/domain"
)

// IssueSoftphoneCode makes a code that lets a user sign in once. One issued before is dead.
type IssueSoftphoneCode struct {
	ID domain.SoftphoneID `json:"id" validate:"required,id"`
	// Editable makes the QR code ask for the editable version of what the vendor's portal keeps.
	Editable bool `json:"editable"`
	// Link: a link for the vendor's retail apps is needed, which is refused, before there is a code, where those are not let in.
	Link bool `json:"link,omitempty"`
}

// SoftphoneCode is what the issuer is told, once.
type SoftphoneCode struct {
	CloudID    string    `json:"cloud_id"` // as the vendor's portal writes it
	Username   string    `json:"username"`
	Code       string    `json:"code"`
	ValidUntil time.Time `json:"valid_until"`
	// QRText is what a QR code has to say for the app to sign in; Link does the same for the vendor's retail apps, which are
	// opened by a link, and is empty where those are not let in (Service.SoftphoneLinks).
	QRText string `json:"qr_text"`
	Link   string `json:"link,omitempty"`
}

// IssueSoftphoneCode draws the digits. Errors: ErrInvalid, domain.ErrSoftphoneUnknown, domain.ErrSoftphoneRemoved.
func (s *Service) IssueSoftphoneCode(ctx context.Context, in IssueSoftphoneCode) (SoftphoneCode, Outcome, error) {
	if err := check(in); err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	if in.Link && !s.SoftphoneLinks {
		return SoftphoneCode{}, Outcome{}, &InvalidError{"link", "leads nowhere: the server lets no retail apps in (softphone-links)"}
	}
	digits, err := drawDigits(s.random(), s.codeLength())
	if err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	now := s.now()
	issued, epoch := SoftphoneCode{Code: digits, ValidUntil: now.Add(domain.SoftphoneCodeTTL)}, domain.Epoch(now)
	hash, err := s.softphoneCode(ctx, epoch, in.ID, digits)
	if err != nil {
		return SoftphoneCode{}, Outcome{}, err
	}
	var softphone domain.Softphone
	out, err := decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		softphone = p
		return p.IssueCode(domain.SoftphoneCodeIssued{CodeHash: hash, ValidUntil: issued.ValidUntil, Epoch: epoch})
	})
	if err != nil {
		return SoftphoneCode{}, out, err
	}
	if issued.Username, err = s.Open(ctx, softphone.Username.Sealed); err != nil {
		return SoftphoneCode{}, out, err
	}
	cloud, _, err := load[domain.Cloud](ctx, s.Log, softphone.CloudID.Stream())
	if err != nil {
		return SoftphoneCode{}, out, err
	}
	issued.CloudID = cloud.Spelled()
	typed := domain.SoftphoneSignIn{CloudID: issued.CloudID, Editable: in.Editable, Username: issued.Username, Password: digits}
	issued.QRText = typed.Text()
	if s.SoftphoneLinks {
		issued.Link = strings.TrimSuffix(s.PublicURL, "/") + SoftphoneLinkPath + "?" +
			url.Values{"cloud_id": {typed.CloudID}, "cloud_username": {typed.Username}, "cloud_password": {digits}}.Encode()
	}
	return issued, out, nil
}

// softphoneCode is what is kept of the digits of a softphone's code of an epoch; without one the lookup key stands in for
// it, as it did for codes of before and does where there is no code.
func (s *Service) softphoneCode(ctx context.Context, epoch domain.Subject, id domain.SoftphoneID, digits string) (string, error) {
	return s.hashed(ctx, cmp.Or(epoch, lookups), "softphone_code", string(id)+"/"+digits)
}

// SoftphoneLinkPath is where links for the vendor's retail apps lead.
const SoftphoneLinkPath = "/softphone/v1/link"
