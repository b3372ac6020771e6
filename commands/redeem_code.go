package commands

import (
	"context"

	"ledgerline/domain"
)

// RedeemCode uses a code up for a phone. Code is what a human typed, or a program sent.
type RedeemCode struct {
	Code string     `json:"code" validate:"required"`
	MAC  domain.MAC `json:"mac" validate:"required"`
	// Facts the phone showed along the way; they make it known if it is not yet.
	Vendor   string `json:"vendor" validate:"max=64,text"`
	Model    string `json:"model" validate:"max=64,text"`
	Firmware string `json:"firmware" validate:"max=64,text"`
	Plugin   string `json:"plugin" validate:"omitempty,id"`
	// Port, when set, is the analog port ("TEL1") of the phone that the code is for.
	Port string `json:"-"`
}

// Redeemed is what came of a redemption.
type Redeemed struct {
	DeviceID domain.DeviceID
	TenantID domain.TenantID
	Purpose  string // of the code
	// Position is where the phone's files must have caught up to.
	Position domain.Position
}

// RedeemCode answers domain.ErrCodeRefused alike for unknown, expired, used, revoked and foreign-bound codes,
// ErrGuesses when the source must wait, and what AssignDevice would refuse before the code is used up. The
// device is assigned by the reaction assign-redeemed-device.
func (s *Service) RedeemCode(ctx context.Context, in RedeemCode) (Redeemed, Outcome, error) {
	if err := check(in); err != nil {
		return Redeemed{}, Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return Redeemed{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	caller := CallerFrom(ctx)
	if !caller.Confirmed {
		if err := s.Guard().Allow(caller.IP, mac, s.now()); err != nil {
			return Redeemed{}, Outcome{}, err
		}
	}
	digits, err := domain.NormalizeCode(in.Code, s.codeLength())
	if err != nil {
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, "")
	}
	stream, found, err := s.findCode(ctx, digits)
	if err != nil {
		return Redeemed{}, Outcome{}, err
	}
	if !found {
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, "")
	}
	var device domain.DeviceID
	var code domain.Code
	out, err := decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) {
		code = c
		if !caller.redeems(c.TenantID) {
			return nil, domain.ErrCodeUnknown
		}
		bound, err := s.boundElsewhere(ctx, c, digits, mac)
		if err != nil {
			return nil, err
		}
		for _, e := range bound {
			c = c.Apply(e)
		}
		if c.RedeemedBy == mac {
			device = c.DeviceID
			d, _, err := load[domain.Device](ctx, s.Log, device.Stream())
			if err != nil {
				return nil, err
			}
			if d.Sysclient.Port.Port != in.Port {
				return nil, domain.ErrCodeRedeemed // a phone is not its own port
			}
			return c.Redeem(mac, device, s.now())
		}
		if _, err := c.Redeem(mac, "", s.now()); err != nil {
			return nil, err // before the phone is made known: a refusal leaves no trace of it
		}
		if !caller.Confirmed && c.Purpose == "rollout" && !c.Quarantine && s.Guard().Exhausted(s.now()) {
			return nil, &GuessError{exhaustedRetry}
		}
		d, err := s.redeemer(ctx, mac, in)
		if err != nil {
			return nil, err
		}
		if err := s.assignable(ctx, d, AssignDevice{TenantID: c.TenantID, CategoryID: c.CategoryID, UserID: c.UserID}); err != nil {
			return nil, err
		}
		device = d.ID
		events, err := c.Redeem(mac, device, s.now())
		return append(bound, events...), err
	})
	switch {
	case deadCode(err):
		return Redeemed{}, Outcome{}, s.wrongCode(caller, mac, stream)
	case err != nil:
		return Redeemed{}, Outcome{}, err
	}
	return Redeemed{DeviceID: device, TenantID: code.TenantID, Purpose: code.Purpose, Position: out.Position}, out, nil
}

// settleRedemption follows the story of what RedeemCode answered out to its end: also that of a redemption of a moment ago,
// by the phone's request before this one, which may still be under way.
func (s *Service) settleRedemption(ctx context.Context, out Outcome) error {
	story := out.Events
	if len(story) == 0 {
		var err error
		if story, err = s.redeemedJustNow(ctx, out.Stream); err != nil {
			return err
		}
	}
	return s.Settle(ctx, story)
}

// redeemedJustNow is the redemption of a code that the phone's request before this one redeemed, whose story may still be
// under way; none when it was longer ago than any phone waits.
func (s *Service) redeemedJustNow(ctx context.Context, code domain.StreamID) (story []domain.Recorded, err error) {
	for r, err := range s.Log.Read(ctx, code, 0) {
		if err != nil {
			return nil, err
		}
		if r.Type == (domain.CodeRedeemed{}).EventType() {
			story = []domain.Recorded{r}
		}
	}
	if len(story) == 0 {
		return nil, nil
	}
	m, err := story[0].Meta()
	if s.now().Sub(m.RecordedAt) > redemptionWait {
		story = nil
	}
	return story, err
}
