package commands

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"ledgerline/domain"
)

// DialCode is somebody dialling a provisioning extension, or the word for reset, on a phone.
type DialCode struct {
	// TenantID is whose switch asks.
	TenantID domain.TenantID `json:"tenant_id" validate:"required,id"`
	Code     string          `json:"code" validate:"required,max=32,text"`
	// Account is the SIP user the phone called with, Address where the call came from; one of them is needed.
	Account string `json:"account" validate:"required_without=Address,max=128,text"`
	Address string `json:"address" validate:"omitempty,ip"`
}

// Results of a dialled code, for a dial plan to branch on.
const (
	DialDone    = "ok"             // the phone has the line, and was told to fetch its files
	DialReset   = "reset"          // the phone is as new, and was told to fetch
	DialWrong   = "wrong_code"     // no line of the tenant has that number
	DialBlocked = "blocked"        // too many wrong ones, try later
	DialUnknown = "unknown_phone"  // which phone that is cannot be told
	DialCrowded = "several_phones" // more than one phone could be meant
	DialTaken   = "not_new"        // the phone has other lines: it must be reset first
)

// Dialled is what came of it.
type Dialled struct {
	Result   string          `json:"result"`
	DeviceID domain.DeviceID `json:"device_id,omitempty"`
	LineID   domain.LineID   `json:"line_id,omitempty"`
	SyncID   string          `json:"sync_id,omitempty"`
	// Number is the line's directory number, or its SIP user. Say is the result as a sentence.
	Number string `json:"number,omitempty"`
	Say    string `json:"say"`
}

var sayings = map[string]string{
	DialDone:    "This phone is now number %s.",
	DialReset:   "This phone was reset.",
	DialWrong:   "This code is not known.",
	DialBlocked: "Too many wrong codes. Please try again later.",
	DialUnknown: "This phone could not be identified.",
	DialCrowded: "More than one phone could be meant.",
	DialTaken:   "This phone has a number already. Please reset it first.",
}

// resetWords bring the phone back to the unconfigured state; the first is wazo's.
var resetWords = []string{"autoprov", "reset"}

// DialCode finds the phone by the SIP account it is registered with, and by its address only where it is the only
// phone there and the account belongs to nobody. What the caller may be told is a result, not an error. Wrong codes
// draw on a budget of the account, of the address and of the tenant. Errors: ErrInvalid, domain.ErrTenantUnknown,
// domain.ErrTenantDeleted, and those of the ports.
func (s *Service) DialCode(ctx context.Context, in DialCode) (Dialled, Outcome, error) {
	if err := check(in); err != nil {
		return Dialled{}, Outcome{}, err
	}
	if err := s.liveTenant(ctx, in.TenantID); err != nil {
		return Dialled{}, Outcome{}, err
	}
	now := s.now()
	who := domain.MAC(string(in.TenantID) + "/" + in.Account) // stands for the phone: nothing but the account tells who it is
	if s.budgets().dialling.blocked(in, who, now) {
		return said(Dialled{Result: DialBlocked}), Outcome{}, nil
	}
	code := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(in.Code))
	var l domain.Line
	reset := slices.Contains(resetWords, code)
	if !reset {
		var err error
		if l, err = s.lineOfExtension(ctx, in.TenantID, code); err != nil {
			return Dialled{}, Outcome{}, err
		}
		if l.Live() != nil {
			s.budgets().dialling.wrong(in, who, now)
			return said(Dialled{Result: DialWrong}), Outcome{}, nil
		}
	}
	d, why, err := s.dialler(ctx, in)
	if err != nil || why != "" {
		return said(Dialled{Result: why}), Outcome{}, err
	}
	if reset {
		return s.dialReset(ctx, in, d)
	}
	return s.dialLine(ctx, d, l)
}

func said(d Dialled) Dialled {
	d.Say = strings.Replace(sayings[d.Result], "%s", d.Number, 1)
	return d
}

// lineOfExtension is the tenant's line with that number; the zero Line when there is none.
func (s *Service) lineOfExtension(ctx context.Context, tenant domain.TenantID, digits string) (domain.Line, error) {
	hash, err := s.lookup(ctx, claimExtension, extensionValue(tenant, digits))
	if err != nil {
		return domain.Line{}, err
	}
	claim, _, err := load[domain.Claim](ctx, s.Log, domain.ClaimStream(claimExtension, hash))
	if err != nil {
		return domain.Line{}, err
	}
	for _, holder := range claim.Holders {
		l, _, err := load[domain.Line](ctx, s.Log, holder.Holder)
		if err != nil || l.Live() == nil && l.TenantID == tenant && l.ExtensionHash == hash {
			return l, err
		}
	}
	return domain.Line{}, nil
}

// dialler is the phone the code was dialled on; why is the result when that cannot be told.
func (s *Service) dialler(ctx context.Context, in DialCode) (d domain.Device, why string, err error) {
	var found []domain.DeviceID
	known := false
	if in.Account != "" {
		if found, known, err = s.phoneOfAccount(ctx, in.TenantID, in.Account, in.Address); err != nil {
			return d, "", err
		}
	}
	if !known {
		there, err := s.phonesAt(ctx, in.Address)
		if err != nil {
			return d, "", err
		}
		for id := range there {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 0:
		return d, DialUnknown, nil
	case len(found) > 1:
		return d, DialCrowded, nil
	case found[0] == "":
		return d, DialUnknown, nil
	}
	d, _, err = load[domain.Device](ctx, s.Log, found[0].Stream())
	if err == nil && (d.Live() != nil || d.TenantID != domain.Master && d.TenantID != in.TenantID) {
		return d, DialUnknown, nil // nor is it said that it is another tenant's
	}
	return d, "", err
}

func (s *Service) dialLine(ctx context.Context, d domain.Device, l domain.Line) (Dialled, Outcome, error) {
	out := Dialled{Result: DialTaken, DeviceID: d.ID, LineID: l.ID}
	if len(d.Lines) > 0 && d.PositionOf(l.ID) == 0 {
		return said(Dialled{Result: DialTaken, DeviceID: d.ID}), Outcome{}, nil
	}
	done, err := s.AssociateLine(ctx, AssociateLine{DeviceID: d.ID, LineID: l.ID})
	switch {
	case errors.Is(err, domain.ErrLineOfOtherTenant), errors.Is(err, domain.ErrDeviceDeleted), errors.Is(err, domain.ErrLineRemoved):
		return said(Dialled{Result: DialUnknown}), done, nil // lost a race
	case err != nil:
		return out, done, err
	}
	if out.Number, err = s.Open(ctx, l.Number.Sealed); err != nil {
		return out, done, err
	}
	if out.Number == "" {
		out.Number = l.Username
	}
	out.Result = DialDone
	return s.dialSync(ctx, d, out, done)
}

func (s *Service) dialReset(ctx context.Context, in DialCode, d domain.Device) (Dialled, Outcome, error) {
	if d.TenantID != in.TenantID {
		return said(Dialled{Result: DialUnknown}), Outcome{}, nil // a phone of nobody's is as new as it can be
	}
	done, err := s.ResetDevice(ctx, ResetDevice{ID: d.ID})
	if err != nil {
		return Dialled{}, done, err
	}
	return s.dialSync(ctx, d, Dialled{Result: DialReset, DeviceID: d.ID}, done)
}

// dialSync tells the phone to fetch what it now should have. A phone no plugin serves has nothing to fetch.
func (s *Service) dialSync(ctx context.Context, d domain.Device, out Dialled, done Outcome) (Dialled, Outcome, error) {
	id, synced, err := s.SynchronizeDevice(ctx, SynchronizeDevice{ID: d.ID, Trigger: domain.SyncDialled})
	switch {
	case errors.Is(err, ErrInvalid):
		return said(out), done, nil
	case err != nil:
		return out, done, err
	}
	out.SyncID = id
	return said(out), synced, nil
}

// dialling is the budget on wrong dialled codes: that of Guard per account and address, and per tenant a number an
// hour, for every number a tenant has makes a lucky guess likelier. Volatile, as Guard.
type dialling struct {
	guard Guard

	mu      sync.Mutex
	tenants map[domain.TenantID]*hourly
}

type hourly struct {
	hour  time.Time
	wrong int
}

// wrongPerTenant is how many wrong codes an hour a tenant bears. With 1,000 numbers of six digits a guesser who uses
// them all up hits one in about two days; with eight digits, in half a year.
const wrongPerTenant = 20

func (g *dialling) blocked(in DialCode, who domain.MAC, now time.Time) bool {
	if g.guard.Allow(in.Address, who, now) != nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tenants[in.TenantID]
	return t != nil && t.hour.Equal(now.Truncate(time.Hour)) && t.wrong >= wrongPerTenant
}

func (g *dialling) wrong(in DialCode, who domain.MAC, now time.Time) {
	g.guard.Wrong(in.Address, who, now)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tenants == nil {
		g.tenants = make(map[domain.TenantID]*hourly)
	}
	t := g.tenants[in.TenantID]
	if h := now.Truncate(time.Hour); t == nil || !t.hour.Equal(h) {
		t = &hourly{hour: h}
		g.tenants[in.TenantID] = t
	}
	t.wrong++
}
