package commands

import (
	"context"
	"encoding/json"
	"errors"

	"ledgerline/domain"
)

// BalanceNode is the node of a softphone document that is told as the balance: text, shown as it stands. It is laid over as
// any node, so that a cloud ID, a category or a user may have one.
const BalanceNode = "X-Balance"

// ErrNoBalance: nothing was said of a balance for the app.
var ErrNoBalance = errors.New("no balance")

// signedInSoftphone is the app of a call to a service that only an app that is signed in may ask. Anything but a token
// counts as a wrong one. Errors: as of ServeSoftphone.
func (s *Service) signedInSoftphone(ctx context.Context, in SoftphoneCall) (signIn, error) {
	cloud, _, err := s.cloudOf(ctx, in)
	if err != nil {
		return signIn{}, err
	}
	if !IsSoftphoneToken(in.Password) {
		return signIn{}, s.badToken(in)
	}
	entry, err := s.softphoneOfToken(ctx, in)
	if err == nil && (entry.softphone.CloudID != cloud.CloudID || entry.softphone.TenantID != cloud.TenantID) {
		err = domain.ErrSoftphoneRefused
	}
	return entry, err
}

// SoftphoneTenant is whose directory an app may read. Errors: as of ServeSoftphone.
func (s *Service) SoftphoneTenant(ctx context.Context, in SoftphoneCall) (domain.TenantID, error) {
	entry, err := s.signedInSoftphone(ctx, in)
	return entry.softphone.TenantID, err
}

// SoftphoneBalance is the text that stands for the user's balance: BalanceNode of what the app is told. Errors:
// ErrNoBalance, and as of ServeSoftphone.
func (s *Service) SoftphoneBalance(ctx context.Context, in SoftphoneCall) (string, error) {
	entry, err := s.signedInSoftphone(ctx, in)
	if err != nil {
		return "", err
	}
	p := entry.softphone
	b, err := s.belowSoftphone(ctx, p.CloudID, p.CategoryID)
	if err != nil {
		return "", err
	}
	own, err := s.softphoneDocument(ctx, p.SoftphoneLayer)
	if err != nil {
		return "", err
	}
	text := own.Over(b.document()).Nodes[BalanceNode]
	if text == "" {
		return "", ErrNoBalance
	}
	return text, nil
}

// ReportSoftphonePush records by what push tokens an app is woken, sealed under the user's key, unless they are those it
// reported last. Errors: as of ServeSoftphone.
func (s *Service) ReportSoftphonePush(ctx context.Context, in SoftphoneCall, push domain.SoftphonePush) error {
	entry, err := s.signedInSoftphone(ctx, in)
	if err != nil {
		return err
	}
	p := entry.softphone
	text, err := json.Marshal(push)
	if err != nil {
		return err
	}
	tokens, err := s.secret(ctx, p.UserID.Subject(), string(text))
	if err != nil {
		return err
	}
	_, err = decide(softphoneCaller(ctx, in), s, p.SoftphoneID.Stream(), func(now domain.Softphone) ([]domain.Event, error) {
		return now.ReportPush(domain.SoftphonePushTokenReported{InstallID: entry.installID, Tokens: tokens, At: s.now()})
	})
	return err
}
