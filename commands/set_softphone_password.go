package commands

import (
	"context"
	"fmt"
	"io"
	"strings"

	"ledgerline/domain"
)

// SetSoftphonePassword replaces the password a user signs in with. Apps that are signed in stay so.
type SetSoftphonePassword struct {
	ID       domain.SoftphoneID `json:"id" validate:"required,id"`
	Password string             `json:"password" validate:"required,min=8,max=128,text"`
}

// SetSoftphonePassword keeps the argon2id hash only. Errors: ErrInvalid, ErrSignInBusy, domain.ErrSoftphoneUnknown,
// domain.ErrSoftphoneRemoved, domain.ErrErased.
func (s *Service) SetSoftphonePassword(ctx context.Context, in SetSoftphonePassword) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if IsSoftphoneToken(in.Password) || strings.Trim(in.Password, "*") == "" || strings.HasPrefix(in.Password, "%") && strings.HasSuffix(in.Password, "%") {
		return Outcome{}, &InvalidError{"password", "must not be asterisks only, stand between % signs or begin with " + tokenPrefix}
	}
	var salt [16]byte
	if _, err := io.ReadFull(s.random(), salt[:]); err != nil {
		return Outcome{}, fmt.Errorf("draw a salt: %w", err)
	}
	hash, err := s.signIns.hash(ctx, in.Password, salt[:])
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(p domain.Softphone) ([]domain.Event, error) {
		if err := p.Live(); err != nil {
			return nil, err
		}
		sealed, err := s.secret(ctx, p.UserID.Subject(), passwordText(salt[:], hash))
		if err != nil {
			return nil, err
		}
		return p.SetPassword(sealed)
	})
}
