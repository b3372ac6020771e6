package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"ledgerline/domain"
)

// SetLineRemote puts a line behind a border gateway: its phones register there with credentials of their own, which
// are made at random, or kept, unless Renew asks for new ones.
type SetLineRemote struct {
	ID           domain.LineID    `json:"id" validate:"required,id"`
	GatewayID    domain.GatewayID `json:"gateway_id" validate:"required,id"`
	NodeID       string           `json:"node_id" validate:"omitempty,id"`
	Availability string           `json:"availability" validate:"omitempty,oneof=sip everywhere webrtc"`
	Renew        bool             `json:"renew"`
}

// SetLineRemote errors: ErrInvalid, domain.ErrLineUnknown, domain.ErrLineRemoved, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved,
// domain.ErrGatewayOfOtherTenant, domain.ErrNodeUnknown, domain.ErrErased.
func (s *Service) SetLineRemote(ctx context.Context, in SetLineRemote) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) {
		if err := l.Live(); err != nil {
			return nil, err
		}
		g, _, err := load[domain.Gateway](ctx, s.Log, in.GatewayID.Stream())
		if err != nil {
			return nil, err
		}
		if err := g.Serves(l.TenantID); err != nil {
			return nil, err
		}
		if _, ok := g.Node(in.NodeID); !ok && in.NodeID != "" {
			return nil, domain.ErrNodeUnknown
		}
		r := domain.LineRemote{GatewayID: in.GatewayID, NodeID: in.NodeID, Availability: in.Availability, Username: l.Remote.Username, Password: l.Remote.Password}
		if r.Username == "" || in.Renew {
			if r.Username, err = domain.NewSetUsername(s.pick); err != nil {
				return nil, fmt.Errorf("make a set-side name: %w", err)
			}
			clear, err := domain.NewSetPassword(s.pick)
			if err != nil {
				return nil, fmt.Errorf("make a set-side password: %w", err)
			}
			if r.Password, err = s.secret(ctx, in.ID.Subject(), clear); err != nil {
				return nil, err
			}
		}
		return l.SetRemote(r)
	})
}

// pick is a uniformly random number below n.
func (s *Service) pick(n int) (int, error) {
	i, err := rand.Int(s.random(), big.NewInt(int64(n)))
	if err != nil {
		return 0, fmt.Errorf("draw a random number: %w", err)
	}
	return int(i.Int64()), nil
}

// ClearLineRemote takes a line from its border gateway.
type ClearLineRemote struct {
	ID domain.LineID `json:"id" validate:"required,id"`
}

// ClearLineRemote errors: ErrInvalid, domain.ErrLineUnknown, domain.ErrLineRemoved.
func (s *Service) ClearLineRemote(ctx context.Context, in ClearLineRemote) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(l domain.Line) ([]domain.Event, error) { return l.ClearRemote() })
}

// strengthen gives a line a new set-side password, for the gateway finds the present one weak: the phone gets the same.
func (s *Service) strengthen(ctx context.Context, id domain.LineID) error {
	_, err := decide(ctx, s, id.Stream(), func(l domain.Line) ([]domain.Event, error) {
		if l.Remote.GatewayID == "" {
			return nil, nil
		}
		clear, err := domain.NewSetPassword(s.pick)
		if err != nil {
			return nil, err
		}
		r := l.Remote
		if r.Password, err = s.secret(ctx, id.Subject(), clear); err != nil {
			return nil, err
		}
		return l.SetRemote(r)
	})
	return err
}

// planLine brings what is wanted on every gateway the line has been on up to what the line is now.
func (s *Service) planLine(ctx context.Context, id domain.LineID, why string) error {
	l, _, err := load[domain.Line](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range l.Gateways {
		errs = append(errs, s.planOne(ctx, l, g, why, false))
	}
	return errors.Join(errs...)
}

// planOne decides what is wanted of a line on one gateway. While the push there is off nothing new is wanted: switching
// it on sweeps all lines. A line that was erased has no secrets to push any more.
func (s *Service) planOne(ctx context.Context, l domain.Line, id domain.GatewayID, why string, force bool) error {
	g, _, err := load[domain.Gateway](ctx, s.Log, id.Stream())
	if err != nil {
		return err
	}
	if g.Live() != nil {
		return nil
	}
	wanted := l.Live() == nil && l.Remote.GatewayID == id && g.Serves(l.TenantID) == nil
	if wanted && !g.Enabled {
		return nil
	}
	var e domain.SIPUserPushIntended
	if wanted {
		if e.SIPUserSpec, err = s.sipUserSpec(ctx, l); err != nil {
			return err
		}
		e.SIPUserID, e.TenantID, e.GatewayID, e.LineID, e.Why, e.Force = domain.SIPUserOf(id, l.ID), l.TenantID, id, l.ID, why, force
	}
	_, err = decide(ctx, s, domain.SIPUserOf(id, l.ID).Stream(), func(u domain.SIPUser) ([]domain.Event, error) {
		switch {
		case wanted:
			return u.Intend(e), nil
		case u.Wanted && l.Live() == nil && l.Remote.GatewayID == "" && g.Off == "disable":
			off := domain.SIPUserPushIntended{SIPUserID: u.ID, TenantID: u.TenantID, GatewayID: id, LineID: l.ID, Why: why, SIPUserSpec: u.Spec}
			off.Enabled = false
			return u.Intend(off), nil
		}
		return u.Withdraw(why), nil
	})
	return err
}

// sipUserSpec is what a line's SIP user is to be. Sealed values are carried over as they stand.
func (s *Service) sipUserSpec(ctx context.Context, l domain.Line) (spec domain.SIPUserSpec, err error) {
	spec = domain.SIPUserSpec{NodeID: l.Remote.NodeID, Enabled: true, Availability: l.Remote.Availability, SetUsername: l.Remote.Username,
		SetPassword: l.Remote.Password, Extension: l.Number, DisplayName: l.DisplayName, ICPPassword: l.Password}
	if spec.Extension.IsZero() {
		if spec.Extension, err = s.personal(ctx, l.ID.Subject(), l.Username); err != nil {
			return spec, err
		}
	}
	if spec.DisplayName.IsZero() && l.UserID != "" {
		u, _, err := load[domain.User](ctx, s.Log, l.UserID.Stream())
		if err != nil {
			return spec, err
		}
		spec.DisplayName = u.DisplayName
	}
	return spec, nil
}

// planUser plans the lines of a user whose name may have changed.
func (s *Service) planUser(ctx context.Context, r domain.Recorded) error {
	lines, err := s.Candidates.LinesOfUser(ctx, r.Position, domain.UserID(r.Stream.ID()))
	var errs []error
	for _, l := range lines {
		errs = append(errs, s.planLine(ctx, l.Line, "user"))
	}
	return errors.Join(append(errs, err)...)
}

// sweepGateway plans every line on a gateway anew. Forced, everything is written again; of a node that found its ICP,
// what was refused for want of it is tried again, and what points to another ICP is pointed anew.
func (s *Service) sweepGateway(ctx context.Context, r domain.Recorded, e domain.Event) error {
	id := domain.GatewayID(r.Stream.ID())
	g, _, err := load[domain.Gateway](ctx, s.Log, r.Stream)
	if err != nil || g.Live() != nil || !g.Enabled {
		return err
	}
	var errs []error
	const batch = 500
	for after := domain.LineID(""); ; {
		lines, err := s.Candidates.RemoteLines(ctx, r.Position, id, after, batch)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := s.sweepLine(ctx, g, line, e); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				errs = append(errs, err)
			}
			after = line
		}
		if len(lines) < batch {
			return errors.Join(errs...)
		}
	}
}

func (s *Service) sweepLine(ctx context.Context, g domain.Gateway, line domain.LineID, e domain.Event) error {
	l, _, err := load[domain.Line](ctx, s.Log, line.Stream())
	if err != nil {
		return err
	}
	switch e := e.(type) {
	case domain.GatewayICPMatched:
		_, err := decide(ctx, s, domain.SIPUserOf(g.ID, line).Stream(), func(u domain.SIPUser) ([]domain.Event, error) {
			n, _ := g.Node(u.Spec.NodeID)
			refused := u.Status() == domain.SIPUserParked && (u.Failed.Class == ClassICPMissing || u.Failed.Class == ClassICPUnclear || u.Failed.Class == ClassNode)
			if !u.Wanted || n.NodeID != e.NodeID || !refused && (!u.On || u.ICPID == e.ICPID) {
				return nil, nil
			}
			return u.Retry("icp")
		})
		return err
	case domain.GatewayMappingSelected:
		return s.planOne(ctx, l, g.ID, "mapping", true)
	case domain.GatewayTokenGranted:
		return s.planOne(ctx, l, g.ID, "token", e.Replaces != "")
	}
	return s.planOne(ctx, l, g.ID, "sweep", false)
}

// RetrySIPUser asks for one more try, everything written. Adopt also allows a record somebody made by hand to be
// taken over.
type RetrySIPUser struct {
	ID    domain.SIPUserID `json:"id" validate:"required"`
	Adopt bool             `json:"adopt"`
}

// RetrySIPUser errors: domain.ErrSIPUserUnknown, domain.ErrSIPUserSettled.
func (s *Service) RetrySIPUser(ctx context.Context, in RetrySIPUser) (Outcome, error) {
	why := "retry"
	if in.Adopt {
		why = "adopt"
	}
	return decide(ctx, s, in.ID.Stream(), func(u domain.SIPUser) ([]domain.Event, error) { return u.Retry(why) })
}

// PlaceDevice says which gateway a phone stands behind, whatever address its requests come from; By "" gives that back to them.
type PlaceDevice struct {
	ID        domain.DeviceID  `json:"id" validate:"required,id"` // one life
	GatewayID domain.GatewayID `json:"gateway_id" validate:"omitempty,id"`
	Auto      bool             `json:"auto"`
}

// PlaceDevice errors: ErrInvalid, domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrGatewayUnknown, domain.ErrGatewayRemoved,
// domain.ErrGatewayOfOtherTenant.
func (s *Service) PlaceDevice(ctx context.Context, in PlaceDevice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if in.GatewayID != "" {
			g, _, err := load[domain.Gateway](ctx, s.Log, in.GatewayID.Stream())
			if err != nil {
				return nil, err
			}
			if err := g.Serves(d.TenantID); err != nil {
				return nil, err
			}
		}
		if in.Auto {
			return d.PlaceBehind(in.GatewayID, "")
		}
		return d.PlaceBehind(in.GatewayID, "operator")
	})
}
