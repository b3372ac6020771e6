package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ledgerline/domain"
)

// ErrNoBorders: nothing can be asked of a gateway here; in particular not by a dry run.
var ErrNoBorders = errors.New("what asks a gateway cannot be planned, only done")

// ErrClockSkew: the gateway's clock and ours differ too much for signatures to be taken.
var ErrClockSkew = errors.New("clocks differ")

// dial makes a client of a gateway; withToken needs a token that was not refused.
func (s *Service) dial(ctx context.Context, g domain.Gateway, withToken bool, trace func(BorderExchange)) (Border, error) {
	if s.Borders == nil {
		return nil, ErrNoBorders
	}
	a := BorderAccess{Address: g.Address, Mapping: g.Mapping.Text, CA: g.CA, Pins: g.Pins, ConsumerID: g.ConsumerID, ResolveNames: g.ResolveNames,
		Now: s.now, TraceExchange: trace}
	var err error
	if a.Secret, err = s.Vault.Open(ctx, g.ConsumerSecret.Sealed); err != nil {
		return nil, fmt.Errorf("open the consumer's secret of %s: %w", g.ID, err)
	}
	if withToken {
		if a.Token, err = s.Vault.Open(ctx, g.Token.Token.Sealed); err == nil {
			a.TokenSecret, err = s.Vault.Open(ctx, g.Token.Secret.Sealed)
		}
		if err != nil {
			return nil, fmt.Errorf("open the token of %s: %w", g.ID, err)
		}
	}
	return s.Borders.Dial(a)
}

// RequestGatewayToken begins the exchange: the gateway gives a temporary token, and its administrator can read the
// verifier. A temporary token before is replaced.
type RequestGatewayToken struct {
	ID domain.GatewayID `json:"id" validate:"required,id"`
}

// RequestGatewayToken compares the clocks first. A refusal is on record. Errors: ErrInvalid, ErrNoBorders, ErrClockSkew, *BorderError,
// domain.ErrGatewayUnknown, domain.ErrGatewayRemoved, domain.ErrGatewayNoConsumer, domain.ErrGatewayNoMapping.
func (s *Service) RequestGatewayToken(ctx context.Context, in RequestGatewayToken) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	g, _, err := load[domain.Gateway](ctx, s.Log, in.ID.Stream())
	if err != nil {
		return Outcome{}, err
	}
	if err := g.CanRequest(); err != nil {
		return Outcome{}, err
	}
	client, err := s.dial(ctx, g, false, s.borders.pushOf(s, in.ID).trace)
	if errors.Is(err, ErrNoBorders) {
		return Outcome{}, err
	}
	var token, secret string
	var offset time.Duration
	if err == nil {
		token, secret, offset, err = s.askToken(ctx, client)
	}
	if err != nil {
		_, also := s.refuseToken(ctx, in.ID, "request", err)
		return Outcome{}, errors.Join(err, also)
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		if err := g.CanRequest(); err != nil {
			return nil, err
		}
		e := domain.GatewayTokenRequested{Fingerprint: shortPrint(token), RequestedAt: s.now(), ClockOffsetSeconds: int(offset.Round(time.Second) / time.Second)}
		if e.Token, err = s.secret(ctx, in.ID.Subject(), token); err != nil {
			return nil, err
		}
		e.Secret, err = s.secret(ctx, in.ID.Subject(), secret)
		return append(g.Free(), e), err
	})
}

func (s *Service) askToken(ctx context.Context, client Border) (token, secret string, offset time.Duration, err error) {
	asked := s.now()
	date, err := client.Clock(ctx)
	if err != nil {
		return "", "", 0, err
	}
	// Date has whole seconds: half of one is its mean error.
	offset = date.Add(time.Second / 2).Sub(asked.Add(s.now().Sub(asked) / 2))
	if offset.Abs() > client.Policy().ClockSkew {
		return "", "", offset, fmt.Errorf("%w: the gateway's clock shows %s, ours %s, %s apart; at most %s is allowed: set the clocks, best by NTP",
			ErrClockSkew, date.UTC().Format(time.DateTime), asked.UTC().Format(time.DateTime), offset.Abs().Round(time.Second), client.Policy().ClockSkew)
	}
	token, secret, err = client.RequestToken(ctx)
	return token, secret, offset, err
}

// refuseToken records a refusal of a step of the exchange.
func (s *Service) refuseToken(ctx context.Context, id domain.GatewayID, step string, cause error) (Outcome, error) {
	class := classOf(cause)
	switch {
	case errors.Is(cause, ErrClockSkew):
		class = ClassClock
	case class == "":
		return Outcome{}, nil // our own trouble is no refusal
	}
	return decide(ctx, s, id.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		if g.Live() != nil {
			return nil, nil
		}
		return []domain.Event{domain.GatewayTokenRefused{Step: step, Class: class, Text: Advice(class, cause), Tries: g.Tries}}, nil
	})
}

// Advice is what to do about a class of refusal, with what the gateway said.
func Advice(class string, cause error) string {
	said := cause.Error()
	switch class {
	case ClassServicesOff:
		return said + ": press Start on the gateway's page Administration, Web services"
	case ClassConsumer:
		return said + ": the consumer is not known there, not active, or has another secret"
	case ClassSignature:
		return said + ": consumer secret, signature method or sign_base_url of the mapping do not fit"
	case ClassPermission:
		return said + ": tick the consumer's permissions on the gateway"
	case ClassTLS:
		return said + ": give the gateway's CA or the pin of its key, after comparing fingerprints"
	case ClassTokenDead, ClassExpired:
		return said + ": the token is not taken; request a new one"
	case ClassVerifier:
		return said + ": the verifier is wrong, or the temporary token is not approved on the gateway yet"
	case ClassProtocol:
		return said + ": the mapping may not fit this gateway"
	}
	return said
}

// SubmitVerifier ends the exchange: with the verifier read on the gateway, the temporary token becomes the final one.
type SubmitVerifier struct {
	ID       domain.GatewayID `json:"id" validate:"required,id"`
	Verifier string           `json:"verifier" validate:"required,max=200,text"`
}

// SubmitVerifier counts wrong verifiers; the third gives the temporary token up. Errors: as RequestGatewayToken, and domain.ErrGatewayNoRequest.
func (s *Service) SubmitVerifier(ctx context.Context, in SubmitVerifier) (Outcome, error) {
	in.Verifier = strings.TrimSpace(in.Verifier)
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	g, _, err := load[domain.Gateway](ctx, s.Log, in.ID.Stream())
	if err != nil {
		return Outcome{}, err
	}
	if abandoned, err := g.CanVerify(s.now()); err != nil {
		if len(abandoned) > 0 {
			_, also := decide(ctx, s, in.ID.Stream(), func(now domain.Gateway) ([]domain.Event, error) {
				if now.Temporary.Fingerprint != g.Temporary.Fingerprint {
					return nil, nil
				}
				return abandoned, nil
			})
			err = errors.Join(fmt.Errorf("the temporary token is older than %s: %w", domain.TemporaryLife, err), also)
		}
		return Outcome{}, err
	}
	client, err := s.dial(ctx, g, false, s.borders.pushOf(s, in.ID).trace)
	if err != nil {
		return Outcome{}, err
	}
	temporary, err := s.Vault.Open(ctx, g.Temporary.Token.Sealed)
	if err != nil {
		return Outcome{}, err
	}
	temporarySecret, err := s.Vault.Open(ctx, g.Temporary.Secret.Sealed)
	if err != nil {
		return Outcome{}, err
	}
	token, secret, err := client.AccessToken(ctx, temporary, temporarySecret, in.Verifier)
	if class := classOf(err); class == ClassVerifier || class == ClassTokenDead || class == ClassExpired {
		_, also := decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
			return g.RefuseVerifier(class, Advice(class, err)), nil
		})
		return Outcome{}, errors.Join(err, also)
	} else if err != nil {
		_, also := s.refuseToken(ctx, in.ID, "verifier", err)
		return Outcome{}, errors.Join(err, also)
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) {
		now := s.now()
		e := domain.GatewayTokenGranted{Fingerprint: shortPrint(token), GrantedAt: now, Replaces: g.Token.Fingerprint}
		e.ExpiresAt, e.ActAt = domain.Lifetime(now, max(g.Mapping.LifetimeMonths, 1))
		if e.Token, err = s.secret(ctx, in.ID.Subject(), token); err != nil {
			return nil, err
		}
		e.Secret, err = s.secret(ctx, in.ID.Subject(), secret)
		return append([]domain.Event{e}, g.Free()...), err
	})
}

// ConfirmRenewal notes that Renew was pressed on the gateway at a day.
type ConfirmRenewal struct {
	ID domain.GatewayID `json:"id" validate:"required,id"`
	On time.Time        `json:"on" validate:"required"`
}

// ConfirmRenewal errors: ErrInvalid, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved, domain.ErrGatewayNoToken, domain.ErrRenewalDate.
func (s *Service) ConfirmRenewal(ctx context.Context, in ConfirmRenewal) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(g domain.Gateway) ([]domain.Event, error) { return g.Renew(in.On.UTC(), s.now()) })
}
