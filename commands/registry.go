package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ledgerline/domain"
)

// Registry is a registry elsewhere, which draws the digits of our codes and leads phones that show them here:
// adapters/registry. Without one the digits are drawn here, and our own registry leads the phones. Safe for concurrent use.
type Registry interface {
	// URL names it, in events.
	URL() string
	// Draw has digits drawn that lead to url for ttl. The same key again, within a day, gives the same digits: after a
	// failure it may be repeated. until is when they die there. Errors: domain.ErrTooManyCodes when as many of ours live
	// there as may; of this, and of Release and Bound, ErrAway while it cannot be reached.
	Draw(ctx context.Context, key, url string, ttl time.Duration) (digits string, until time.Time, err error)
	// Release takes digits back. Digits that are dead or unknown there are no error.
	Release(ctx context.Context, digits string) error
	// Bound tells when the digits were bound to the phone; domain.ErrCodeRefused when they are not.
	Bound(ctx context.Context, digits string, mac domain.MAC) (at time.Time, err error)
}

// ErrRegistry: the registry elsewhere could not be asked; nothing has changed here.
var ErrRegistry = errors.New("the registry cannot be asked")

// RegisterServer makes a Devices server known to our registry, or describes it anew, whole. An empty ID makes a new one.
type RegisterServer struct {
	ID        domain.ServerID `json:"id" validate:"omitempty,id"`
	Name      string          `json:"name" validate:"required,max=200,text"`
	PublicKey string          `json:"public_key" validate:"required,max=100"`
}

// RegisterServer errors: ErrInvalid.
func (s *Service) RegisterServer(ctx context.Context, in RegisterServer) (domain.ServerID, Outcome, error) {
	if err := check(in); err != nil {
		return "", Outcome{}, err
	}
	if in.ID == "" {
		in.ID = domain.ServerID(newID())
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(r domain.RegistryServer) ([]domain.Event, error) {
		return r.Register(domain.RegistryServerRegistered{ServerID: in.ID, Name: in.Name, PublicKey: in.PublicKey})
	})
	if errors.Is(err, domain.ErrBadPublicKey) {
		err = &InvalidError{"public_key", err.Error()}
	}
	return in.ID, out, err
}

// RemoveServer ends what RegisterServer began.
type RemoveServer struct {
	ID domain.ServerID `json:"id" validate:"required,id"`
}

// RemoveServer errors: ErrInvalid, domain.ErrServerUnknown.
func (s *Service) RemoveServer(ctx context.Context, in RemoveServer) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(r domain.RegistryServer) ([]domain.Event, error) { return r.Remove() })
}

// RegistryServer is the Devices server of that id, from its stream: a removed one too, the zero value for none.
func (s *Service) RegistryServer(ctx context.Context, id domain.ServerID) (domain.RegistryServer, error) {
	r, _, err := load[domain.RegistryServer](ctx, s.Log, id.Stream())
	return r, err
}

// RegisterCode draws digits for a Devices server elsewhere.
type RegisterCode struct {
	ServerID   domain.ServerID `json:"server_id" validate:"required,id"`
	DevicesURL string          `json:"devices_url" validate:"required"`
	TTL        time.Duration   `json:"ttl"`
}

// RegisterCode errors: ErrInvalid, domain.ErrServerUnknown, domain.ErrTooManyCodes.
func (s *Service) RegisterCode(ctx context.Context, in RegisterCode) (IssuedCode, Outcome, error) {
	if err := check(in); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if err := domain.CheckDevicesURL(in.DevicesURL); err != nil {
		return IssuedCode{}, Outcome{}, &InvalidError{"devices_url", err.Error()}
	}
	if in.TTL < time.Second || in.TTL > domain.MaxCodeTTL {
		return IssuedCode{}, Outcome{}, &InvalidError{"ttl", fmt.Sprintf("must be 1 to %d seconds", int(domain.MaxCodeTTL.Seconds()))}
	}
	server, err := s.RegistryServer(ctx, in.ServerID)
	if err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if err := server.Live(); err != nil {
		return IssuedCode{}, Outcome{}, err
	}
	if s.CodesPerServer > 0 { // as the views have it: of codes drawn side by side, some too many may pass
		n, err := s.Candidates.CodesDrawn(ctx, domain.Position{}, in.ServerID)
		if err != nil {
			return IssuedCode{}, Outcome{}, err
		}
		if n >= s.CodesPerServer {
			return IssuedCode{}, Outcome{}, domain.ErrTooManyCodes
		}
	}
	now := s.now()
	r := domain.CodeRegistered{CodeID: domain.CodeID(newID()), ServerID: in.ServerID, DevicesURL: in.DevicesURL, Epoch: domain.Epoch(now), IssuedAt: now, ValidUntil: now.Add(in.TTL)}
	draw := func(int) (string, error) { return drawDigits(s.random(), s.codeLength()) }
	digits, out, err := s.placeCode(ctx, r.Epoch, draw, func(c domain.Code, _ string) ([]domain.Event, error) { return c.Register(r) })
	return IssuedCode{r.CodeID, digits, r.ValidUntil}, out, err
}

// placeCode draws digits until they are of no other live code, and decides at their stream.
func (s *Service) placeCode(ctx context.Context, epoch domain.Subject, draw func(try int) (string, error), ask func(c domain.Code, digits string) ([]domain.Event, error)) (string, Outcome, error) {
	for try := range attempts {
		digits, err := draw(try)
		if err != nil {
			return "", Outcome{}, err
		}
		if _, found, err := s.findCode(ctx, digits); err != nil || found {
			if err != nil {
				return "", Outcome{}, err
			}
			continue // alive in an older epoch: draw again
		}
		stream, err := s.codeStream(ctx, epoch, digits)
		if err != nil {
			return "", Outcome{}, err
		}
		out, err := decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) { return ask(c, digits) })
		if errors.Is(err, domain.ErrCodeExists) {
			continue
		}
		return digits, out, err
	}
	return "", Outcome{}, fmt.Errorf("draw a code: %w", ErrBusy)
}

// ReleaseCode takes a code back that was registered for a Devices server.
type ReleaseCode struct {
	ServerID domain.ServerID `json:"server_id" validate:"required,id"`
	Code     string          `json:"code" validate:"required"`
}

// ReleaseCode answers domain.ErrCodeRefused for what is no live code of that server. Errors: ErrInvalid.
func (s *Service) ReleaseCode(ctx context.Context, in ReleaseCode) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	stream, err := s.shownCode(ctx, in.Code)
	if err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) {
		if c.Server != in.ServerID || !c.Revoked && c.Dead(s.now()) != nil {
			return nil, domain.ErrCodeRefused
		}
		return c.Revoke(s.now())
	})
}

// shownCode is the stream of what was typed or sent as a code; domain.ErrCodeRefused when there is none.
func (s *Service) shownCode(ctx context.Context, typed string) (domain.StreamID, error) {
	digits, err := domain.NormalizeCode(typed, s.codeLength())
	if err != nil {
		return "", err
	}
	stream, found, err := s.findCode(ctx, digits)
	if err == nil && !found {
		err = domain.ErrCodeRefused
	}
	return stream, err
}

// ResolveCode asks where a code leads, for the phone MAC, and binds it to that phone.
type ResolveCode struct {
	Code string     `json:"code" validate:"required"`
	MAC  domain.MAC `json:"mac" validate:"required"`
	// ServerID, when set, asks for the server, which is told of its own codes only.
	ServerID domain.ServerID `json:"server_id" validate:"omitempty,id"`
}

// Lead is where a code leads.
type Lead struct {
	DevicesURL string
	BoundAt    time.Time
	ValidUntil time.Time
}

// ErrNoDevicesURL: the code is good, but its tenant has no domain name, or the server no URL for Devices.
var ErrNoDevicesURL = errors.New("there is no Devices URL to lead phones of this tenant to")

// ResolveCode answers domain.ErrCodeRefused alike for unknown, expired, used, revoked and foreign-bound codes, and
// ErrGuesses when the source must wait. Errors: ErrInvalid, ErrNoDevicesURL.
func (s *Service) ResolveCode(ctx context.Context, in ResolveCode) (Lead, Outcome, error) {
	if err := check(in); err != nil {
		return Lead{}, Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return Lead{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	caller := CallerFrom(ctx)
	if err := s.Guard().Allow(caller.IP, mac, s.now()); err != nil {
		return Lead{}, Outcome{}, err
	}
	stream, err := s.shownCode(ctx, in.Code)
	if errors.Is(err, domain.ErrCodeRefused) {
		return Lead{}, Outcome{}, s.wrongCode(caller, mac, "")
	}
	if err != nil {
		return Lead{}, Outcome{}, err
	}
	var lead Lead
	out, err := decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) {
		now := s.now()
		if in.ServerID != "" && c.Server != in.ServerID {
			return nil, domain.ErrCodeUnknown
		}
		events, err := c.Bind(mac, now)
		if err != nil {
			return nil, err
		}
		if long := c.ValidUntil.Sub(c.IssuedAt) > time.Hour; long && s.Guard().Exhausted(now) {
			return nil, &GuessError{exhaustedRetry}
		}
		for _, e := range events {
			c = c.Apply(e)
		}
		lead = Lead{DevicesURL: c.DevicesURL, BoundAt: c.BoundAt, ValidUntil: c.ValidUntil}
		if c.Server == "" {
			lead.DevicesURL, err = s.TenantDevicesURL(ctx, c.TenantID)
		}
		return events, err
	})
	if deadCode(err) {
		return Lead{}, Outcome{}, s.wrongCode(caller, mac, stream)
	}
	if err != nil {
		return Lead{}, Outcome{}, err
	}
	return lead, out, nil
}

// deadCode tells whether err is why a known code is not accepted.
func deadCode(err error) bool {
	return slices.ContainsFunc([]error{domain.ErrCodeExpired, domain.ErrCodeRedeemed, domain.ErrCodeRevoked, domain.ErrCodeBound, domain.ErrCodeUnknown},
		func(target error) bool { return errors.Is(err, target) })
}

// TenantDevicesURL is where phones of a tenant connect to Devices: DevicesURL with its domain name. ErrNoDevicesURL.
func (s *Service) TenantDevicesURL(ctx context.Context, tenant domain.TenantID) (string, error) {
	t, _, err := load[domain.Tenant](ctx, s.Log, tenant.Stream())
	if err != nil {
		return "", err
	}
	if s.DevicesURL == "" || t.Domain == "" && strings.Contains(s.DevicesURL, "{domain}") {
		return "", ErrNoDevicesURL
	}
	return strings.ReplaceAll(s.DevicesURL, "{domain}", t.Domain), nil
}

// TenantByDomain is the live tenant with that domain name; domain.ErrTenantUnknown when there is none.
func (s *Service) TenantByDomain(ctx context.Context, name string) (domain.Tenant, error) {
	hash, err := s.lookup(ctx, claimDomain, strings.ToLower(name))
	if err != nil {
		return domain.Tenant{}, err
	}
	claim, _, err := load[domain.Claim](ctx, s.Log, domain.ClaimStream(claimDomain, hash))
	if err != nil {
		return domain.Tenant{}, err
	}
	for _, h := range claim.Holders {
		t, _, err := load[domain.Tenant](ctx, s.Log, h.Holder)
		if err != nil {
			return t, err
		}
		if t.Live() == nil && t.Domain == strings.ToLower(name) {
			return t, nil
		}
	}
	return domain.Tenant{}, domain.ErrTenantUnknown
}

// drawCode draws the digits of a code of our own: here, or at the registry elsewhere, which may shorten its life.
func (s *Service) drawCode(ctx context.Context, issued *domain.CodeIssued, try int) (string, error) {
	if s.Registry == nil {
		return drawDigits(s.random(), s.codeLength())
	}
	url, err := s.TenantDevicesURL(ctx, issued.TenantID)
	if err != nil {
		return "", err
	}
	digits, until, err := s.Registry.Draw(ctx, fmt.Sprintf("%s.%d", issued.CodeID, try), url, issued.ValidUntil.Sub(issued.IssuedAt))
	if errors.Is(err, domain.ErrTooManyCodes) {
		return "", err // it was asked, and said no
	}
	if err != nil {
		return "", fmt.Errorf("draw a code: %w: %w", ErrRegistry, err)
	}
	if _, err := domain.NormalizeCode(digits, s.codeLength()); err != nil {
		return "", fmt.Errorf("the registry draws codes that do not have %d digits: set code-length", s.codeLength())
	}
	if until.Before(issued.ValidUntil) {
		issued.ValidUntil = until.UTC()
	}
	return digits, nil
}

// boundElsewhere is the fact that the registry elsewhere bound an expired code to the phone in time; none when the code
// is not such a one.
func (s *Service) boundElsewhere(ctx context.Context, c domain.Code, digits string, mac domain.MAC) ([]domain.Event, error) {
	now := s.now()
	if s.Registry == nil || c.Registry == "" || c.Bound != "" || !errors.Is(c.Dead(now), domain.ErrCodeExpired) || c.Expired || !now.Before(c.Deadline()) {
		return nil, nil
	}
	at, err := s.Registry.Bound(ctx, digits, mac)
	switch {
	case errors.Is(err, domain.ErrCodeRefused):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("whether a code was bound: %w: %w", ErrRegistry, err)
	case !at.Before(c.ValidUntil):
		return nil, nil
	}
	return []domain.Event{domain.CodeBound{CodeID: c.CodeID, MAC: mac, BoundAt: at.UTC()}}, nil
}

// ReleaseAtRegistry takes the digits of a code that was revoked here back at the registry elsewhere.
func (s *Service) ReleaseAtRegistry(ctx context.Context, stream domain.StreamID) error {
	c, _, err := load[domain.Code](ctx, s.Log, stream)
	if err != nil || c.Registry == "" || c.Released || s.Registry == nil || !s.now().Before(c.Deadline()) {
		return err
	}
	digits, err := s.Open(ctx, c.Digits.Sealed)
	if err != nil || digits == "" {
		return err // erased: dead there as well
	}
	if err := s.Registry.Release(ctx, digits); err != nil {
		return fmt.Errorf("release a code: %w: %w", ErrRegistry, err)
	}
	_, err = decide(ctx, s, stream, func(c domain.Code) ([]domain.Event, error) {
		if c.Released {
			return nil, nil
		}
		return []domain.Event{domain.CodeReleased{CodeID: c.CodeID}}, nil
	})
	return err
}

// plannedRegistry draws for a dry run, without asking anybody.
type plannedRegistry struct {
	Registry
	over *Service
}

func (p plannedRegistry) Draw(_ context.Context, _, _ string, ttl time.Duration) (string, time.Time, error) {
	digits, err := drawDigits(p.over.random(), p.over.codeLength())
	return digits, p.over.now().Add(ttl), err
}

func (plannedRegistry) Release(context.Context, string) error { return nil }
