package commands

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"ledgerline/domain"
)

// IssueToken makes a token of automatic provisioning for a category.
type IssueToken struct {
	CategoryID domain.CategoryID `json:"category_id" validate:"required,id"`
	Name       string            `json:"name" validate:"max=200,text"`
	// Token is one that phones already have; empty draws a new one.
	Token       string    `json:"existing_token" validate:"omitempty,min=8,max=128,text"`
	ExpiresAt   time.Time `json:"expires_at"` // zero: TokenTTL from now
	MACPrefixes []string  `json:"mac_prefixes" validate:"max=100,unique"`
	Networks    []string  `json:"networks" validate:"max=100,unique"`
	MaxUses     int       `json:"max_uses" validate:"gte=0,lte=100000"`
}

// TokenTTL is how long a token lives unless somebody says otherwise, MaxTokenTTL how long at most.
const (
	TokenTTL    = 90 * 24 * time.Hour
	MaxTokenTTL = 366 * 24 * time.Hour
)

// IssuedToken is what the issuer is told, once.
type IssuedToken struct {
	ID        domain.TokenID
	Token     string
	ExpiresAt time.Time
	// DevicesURL is the tenant's address of Devices, empty when there is none, and Domain and Category what goes into
	// its query beside the token.
	DevicesURL string
	Domain     string
	Category   string
}

// IssueToken errors: ErrInvalid, domain.ErrCategoryUnknown, domain.ErrCategoryRetired, domain.ErrNotProvisioning,
// domain.ErrTokenExists.
func (s *Service) IssueToken(ctx context.Context, in IssueToken) (IssuedToken, Outcome, error) {
	if err := check(in); err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	category, _, err := load[domain.Category](ctx, s.Log, in.CategoryID.Stream())
	if err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	if err := category.Takes(category.TenantID, "", ""); err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	if category.Kind != domain.Provisioning {
		return IssuedToken{}, Outcome{}, domain.ErrNotProvisioning
	}
	spec, err := domain.TokenSpec{Name: in.Name, ExpiresAt: in.ExpiresAt, MACPrefixes: in.MACPrefixes, Networks: in.Networks, MaxUses: in.MaxUses}.Clean()
	switch {
	case errors.Is(err, domain.ErrMACPrefix):
		return IssuedToken{}, Outcome{}, &InvalidError{"mac_prefixes", err.Error()}
	case err != nil:
		return IssuedToken{}, Outcome{}, &InvalidError{"networks", err.Error()}
	}
	return s.issueToken(ctx, category, in.Token, spec, "")
}

// issueToken records a token of a category; an empty one is drawn.
func (s *Service) issueToken(ctx context.Context, category domain.Category, token string, spec domain.TokenSpec, replaces domain.TokenID) (IssuedToken, Outcome, error) {
	now := s.now()
	if spec.ExpiresAt.IsZero() {
		spec.ExpiresAt = now.Add(TokenTTL)
	}
	spec.ExpiresAt = spec.ExpiresAt.UTC()
	if !spec.ExpiresAt.After(now) || spec.ExpiresAt.After(now.Add(MaxTokenTTL)) {
		return IssuedToken{}, Outcome{}, &InvalidError{"expires_at", "must be in the future, and within a year"}
	}
	if token == "" {
		var raw [24]byte
		if _, err := io.ReadFull(s.random(), raw[:]); err != nil {
			return IssuedToken{}, Outcome{}, fmt.Errorf("draw a token: %w", err)
		}
		token = base64.RawURLEncoding.EncodeToString(raw[:])
	}
	id, err := s.tokenID(ctx, token)
	if err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	out, err := decide(ctx, s, id.Stream(), func(t domain.Token) ([]domain.Event, error) {
		return t.Issue(domain.TokenIssued{TokenID: id, TenantID: category.TenantID, CategoryID: category.ID, TokenSpec: spec, IssuedAt: now, Replaces: replaces})
	})
	if err != nil {
		return IssuedToken{}, out, err
	}
	tenant, _, err := load[domain.Tenant](ctx, s.Log, category.TenantID.Stream())
	if err != nil {
		return IssuedToken{}, out, err
	}
	url, err := s.TenantDevicesURL(ctx, category.TenantID)
	if errors.Is(err, ErrNoDevicesURL) {
		err = nil
	}
	return IssuedToken{ID: id, Token: token, ExpiresAt: spec.ExpiresAt, DevicesURL: url, Domain: tenant.Domain, Category: category.Name}, out, err
}

// tokenID is the id under which a token's stream stands: its keyed hash.
func (s *Service) tokenID(ctx context.Context, token string) (domain.TokenID, error) {
	hash, err := s.lookup(ctx, "token", token)
	if err != nil {
		return "", err
	}
	return domain.TokenID(hash[:32]), nil
}

// RotateToken has a new token follow one; for a while both are good.
type RotateToken struct {
	ID domain.TokenID `json:"id" validate:"required,id"`
	// Overlap is how long the old one is good beside the new one, up to 90 days; zero ends it at once.
	Overlap time.Duration `json:"overlap"`
	// ExpiresAt is the end of the new one; zero gives it as long a life as the old one had.
	ExpiresAt time.Time `json:"expires_at"`
}

// RotateToken errors: ErrInvalid, domain.ErrTokenUnknown, domain.ErrTokenDead, domain.ErrTokenRotated, and those of
// IssueToken. The new token is recorded before the old one's end: a failure in between leaves two good tokens.
func (s *Service) RotateToken(ctx context.Context, in RotateToken) (IssuedToken, Outcome, error) {
	if err := check(in); err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	if in.Overlap < 0 || in.Overlap > TokenTTL {
		return IssuedToken{}, Outcome{}, &InvalidError{"overlap", "must be 0 to 90 days"}
	}
	old, _, err := load[domain.Token](ctx, s.Log, in.ID.Stream())
	if err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	if _, err := old.Rotate("", in.Overlap, s.now()); err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	category, _, err := load[domain.Category](ctx, s.Log, old.CategoryID.Stream())
	if err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	if err := category.Takes(old.TenantID, "", ""); err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	spec := old.TokenSpec
	spec.ExpiresAt = in.ExpiresAt
	if spec.ExpiresAt.IsZero() {
		spec.ExpiresAt = s.now().Add(old.ExpiresAt.Sub(old.IssuedAt))
	}
	issued, _, err := s.issueToken(ctx, category, "", spec, in.ID)
	if err != nil {
		return IssuedToken{}, Outcome{}, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(t domain.Token) ([]domain.Event, error) { return t.Rotate(issued.ID, in.Overlap, s.now()) })
	return issued, out, err
}

// RevokeToken ends a token.
type RevokeToken struct {
	ID domain.TokenID `json:"id" validate:"required,id"`
}

// RevokeToken errors: ErrInvalid, domain.ErrTokenUnknown.
func (s *Service) RevokeToken(ctx context.Context, in RevokeToken) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, in.ID.Stream(), func(t domain.Token) ([]domain.Event, error) { return t.Revoke() })
}

// AdmitByToken puts a device into a category by a token (automatic provisioning).
type AdmitByToken struct {
	Domain   string     `json:"domain" validate:"required,max=253"`
	Token    string     `json:"-" validate:"required,max=128"`
	Category string     `json:"category" validate:"required,max=200"` // name or id
	MAC      domain.MAC `json:"mac" validate:"required"`
	// Facts the device showed; they make it known if it is not yet.
	Vendor   string `json:"vendor" validate:"max=64,text"`
	Model    string `json:"model" validate:"max=64,text"`
	Firmware string `json:"firmware" validate:"max=64,text"`
	Plugin   string `json:"plugin" validate:"omitempty,id"`
}

// Admitted is where a device was put.
type Admitted struct {
	DeviceID   domain.DeviceID
	TenantID   domain.TenantID
	CategoryID domain.CategoryID
}

// AdmitByToken answers domain.ErrTokenRefused alike for a wrong domain, token or category, a dead token, and one that is
// not for this device or place; ErrGuesses when the source must wait; and what AssignDevice would refuse. A device that
// is in that category already stays there, and draws on no use of the token. Errors: ErrInvalid.
func (s *Service) AdmitByToken(ctx context.Context, in AdmitByToken) (Admitted, Outcome, error) {
	if err := check(in); err != nil {
		return Admitted{}, Outcome{}, err
	}
	mac, err := domain.ParseMAC(string(in.MAC))
	if err != nil {
		return Admitted{}, Outcome{}, &InvalidError{"mac", domain.ErrBadMAC.Error()}
	}
	caller := CallerFrom(ctx)
	if err := s.Guard().Allow(caller.IP, mac, s.now()); err != nil {
		return Admitted{}, Outcome{}, err
	}
	id, err := s.tokenID(ctx, in.Token)
	if err != nil {
		return Admitted{}, Outcome{}, err
	}
	token, category, err := s.tokenOf(ctx, id, in)
	if err != nil && !refusedToken(err) {
		return Admitted{}, Outcome{}, err
	}
	ip, _ := netip.ParseAddr(caller.IP)
	if err == nil {
		_, err = token.Use(mac, "", ip, s.now())
	}
	if err != nil {
		return Admitted{}, Outcome{}, s.wrongToken(caller, mac, id, token.Exists)
	}
	d, err := s.redeemer(ctx, mac, RedeemCode{Vendor: in.Vendor, Model: in.Model, Firmware: in.Firmware, Plugin: in.Plugin})
	if err != nil {
		return Admitted{}, Outcome{}, err
	}
	admitted := Admitted{d.ID, token.TenantID, category.ID}
	if d.Assigned() && d.TenantID == token.TenantID && d.CategoryID == category.ID {
		return admitted, Outcome{Stream: d.ID.Stream()}, nil
	}
	to := AssignDevice{ID: d.ID, TenantID: token.TenantID, CategoryID: category.ID, UserID: d.UserID, TokenID: id}
	if err := s.assignable(ctx, d, to); err != nil {
		return Admitted{}, Outcome{}, err
	}
	// All phones of a site may come at once, and each use is an event of the one token: they take turns.
	s.tokenUse.Lock()
	_, err = decideBy(ctx, s, id.Stream(), s.tokens.load, func(t domain.Token) ([]domain.Event, error) { return t.Use(mac, d.ID, ip, s.now()) })
	s.tokenUse.Unlock()
	if refusedToken(err) {
		return Admitted{}, Outcome{}, s.wrongToken(caller, mac, id, true)
	}
	if err != nil {
		return Admitted{}, Outcome{}, err
	}
	// A failure between the two costs a use; the device connects again.
	out, err := s.AssignDevice(ctx, to)
	return admitted, out, err
}

// tokenOf is the token and its category, when the domain and the category named are theirs.
func (s *Service) tokenOf(ctx context.Context, id domain.TokenID, in AdmitByToken) (domain.Token, domain.Category, error) {
	token, _, err := s.tokens.load(ctx, s.Log, id.Stream())
	if err != nil {
		return token, domain.Category{}, err
	}
	tenant, err := s.TenantByDomain(ctx, in.Domain)
	if err != nil && !errors.Is(err, domain.ErrTenantUnknown) {
		return token, domain.Category{}, err
	}
	category, _, err := load[domain.Category](ctx, s.Log, token.CategoryID.Stream())
	switch {
	case err != nil:
		return token, category, err
	case !token.Exists:
		return token, category, domain.ErrTokenUnknown
	case tenant.ID != token.TenantID, category.Name != in.Category && string(category.ID) != in.Category, category.Retired, category.Kind != domain.Provisioning:
		return token, category, domain.ErrTokenForeign
	}
	return token, category, nil
}

func refusedToken(err error) bool {
	return errors.Is(err, domain.ErrTokenUnknown) || errors.Is(err, domain.ErrTokenDead) || errors.Is(err, domain.ErrTokenForeign)
}

// wrongToken counts a refused token against its source; a known one is a denial on its own stream (D27).
func (s *Service) wrongToken(caller Caller, mac domain.MAC, id domain.TokenID, known bool) error {
	if known {
		s.budgets().denials.add(id.Stream(), s.now())
	}
	s.Guard().Wrong(caller.IP, mac, s.now())
	return domain.ErrTokenRefused
}
