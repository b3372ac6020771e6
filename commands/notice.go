package commands

import (
	"context"
	"errors"
	"strings"

	"ledgerline/domain"
)

// SetUsersKey sets the password with which innovaphone Users of a tenant's domain logs in; empty takes it away. That of the
// master tenant is the instance's: with it and Domain, Users is an administrator of all domains.
type SetUsersKey struct {
	ID  domain.TenantID `json:"id" validate:"required,id"`
	Key string          `json:"key" validate:"max=128,text"`
	// Domain is for the master tenant only, and needed there with a key.
	Domain string `json:"domain" validate:"omitempty,max=253,fqdn"`
}

// SetUsersKey errors: ErrInvalid, domain.ErrTenantUnknown, domain.ErrTenantDeleted.
func (s *Service) SetUsersKey(ctx context.Context, in SetUsersKey) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	if in.Key != "" && len(in.Key) < 12 {
		return Outcome{}, &InvalidError{"key", "must be at least 12 characters"}
	}
	if (in.Domain != "") != (in.ID == domain.Master && in.Key != "") {
		return Outcome{}, &InvalidError{"domain", "is the instance's domain name: needed with a key of the master tenant, and only there"}
	}
	if err := s.liveTenant(ctx, in.ID); err != nil {
		return Outcome{}, err
	}
	var key domain.Secret
	if in.Key != "" {
		var err error
		if key, err = s.secret(ctx, domain.Subject(in.ID.Stream()), in.Key); err != nil {
			return Outcome{}, err
		}
	}
	return decide(ctx, s, in.ID.Stream(), func(t domain.Tenant) ([]domain.Event, error) {
		return t.SetUsersKey(key, strings.ToLower(in.Domain))
	})
}

// UsersKey is a password of Users, and whose it is; the master tenant's is the instance's.
type UsersKey struct {
	TenantID domain.TenantID
	Key      string
}

// UsersKeys are the passwords Users of a domain name may log in with: that of the live tenant of that name, and the
// instance's when the name is the instance's. None when nobody can log in.
func (s *Service) UsersKeys(ctx context.Context, domainName string) (keys []UsersKey, err error) {
	var of []domain.Tenant
	switch t, err := s.TenantByDomain(ctx, domainName); {
	case err == nil:
		of = append(of, t)
	case !errors.Is(err, domain.ErrTenantUnknown):
		return nil, err
	}
	master, _, err := load[domain.Tenant](ctx, s.Log, domain.Master.Stream())
	if err != nil {
		return nil, err
	}
	if master.UsersDomain != "" && master.UsersDomain == strings.ToLower(domainName) {
		of = append(of, master)
	}
	for _, t := range of {
		key, err := s.Open(ctx, t.UsersKey.Sealed)
		if err != nil {
			return nil, err
		}
		if key != "" {
			keys = append(keys, UsersKey{t.ID, key})
		}
	}
	return keys, nil
}

// UsersKeyOf is the password of Users of a tenant, of the master tenant the instance's; empty when it has none, or has ended.
func (s *Service) UsersKeyOf(ctx context.Context, tenant domain.TenantID) (string, error) {
	t, _, err := load[domain.Tenant](ctx, s.Log, tenant.Stream())
	if err != nil || t.Live() != nil {
		return "", err
	}
	return s.Open(ctx, t.UsersKey.Sealed)
}

// usersListen tells whether some Users could log in and hear of the tenant's phones: its own, or the instance's.
func (s *Service) usersListen(ctx context.Context, id domain.TenantID) (bool, error) {
	for _, id := range []domain.TenantID{id, domain.Master} {
		t, _, err := load[domain.Tenant](ctx, s.Log, id.Stream())
		if err != nil || !t.UsersKey.IsZero() {
			return err == nil, err
		}
	}
	return false, nil
}

// DeploysAdminPassword tells whether the tenant's settings say that devices are given their administrator's password.
func (s *Service) DeploysAdminPassword(ctx context.Context, tenant domain.TenantID) (bool, error) {
	stack, err := s.Settings(ctx, domain.Device{TenantID: tenant})
	if err != nil {
		return false, err
	}
	deploy, _ := stack.Merged().Get(settingDeployAdmin).(bool)
	return deploy, nil
}

// DenyUsers counts a wrong password for Users of a tenant whose password is set: one event per hour (D27).
func (s *Service) DenyUsers(tenant domain.TenantID) {
	s.budgets().denials.add(tenant.Stream(), s.now())
}

// StoreNotice keeps, after a phone came to its tenant by a code, what Users of the tenant's domain is to be told; nothing
// where no Users can log in, and nothing while the phone waits in quarantine. r is device.assigned.
func (s *Service) StoreNotice(ctx context.Context, r domain.Recorded, e domain.DeviceAssigned) error {
	code, ok, err := s.codeOf(ctx, r, e)
	if err != nil || !ok || code.Quarantine && e.CategoryID == code.CategoryID {
		return err
	}
	err = s.keepNotice(ctx, code, domain.DeviceID(r.Stream.ID()), e.TenantID)
	if errors.Is(err, domain.ErrErased) {
		return errors.Join(err, ErrPermanent)
	}
	return err
}

// keepNotice keeps the notice that the device came to the tenant by the code; nothing where no Users can log in.
func (s *Service) keepNotice(ctx context.Context, code domain.Code, device domain.DeviceID, to domain.TenantID) error {
	if listen, err := s.usersListen(ctx, to); err != nil || !listen {
		return err
	}
	d, _, err := load[domain.Device](ctx, s.Log, device.Stream())
	if err != nil || d.Live() != nil {
		return err
	}
	digits, err := s.Vault.Open(ctx, code.Digits.Sealed)
	if err != nil {
		return err
	}
	now := s.now()
	epoch := domain.NoticeEpoch(now)
	stored := domain.NoticeStored{TenantID: to, CodeID: code.CodeID, Epoch: epoch, Digits: domain.NewSecret(epoch, digits, ""), DeviceID: device, MAC: d.MAC, StoredAt: now}
	_, err = decide(ctx, s, domain.NoticeStream(code.CodeID), func(n domain.Notice) ([]domain.Event, error) { return n.Store(stored), nil })
	return err
}

// NoticeOf is the notice about a code of the tenant's, the master tenant standing for all, as typed; ok is false when there
// is none, and once the key of the code's day is destroyed.
func (s *Service) NoticeOf(ctx context.Context, tenant domain.TenantID, typed string) (n domain.Notice, ok bool, err error) {
	digits, err := domain.NormalizeCode(typed, s.codeLength())
	if err != nil {
		return n, false, err
	}
	stream, found, err := s.findCode(ctx, digits)
	if err != nil || !found {
		return n, false, err
	}
	c, _, err := load[domain.Code](ctx, s.Log, stream)
	if err != nil || c.TenantID != tenant && tenant != domain.Master {
		return n, false, err
	}
	n, _, err = load[domain.Notice](ctx, s.Log, domain.NoticeStream(c.CodeID))
	return n, err == nil && n.State != "", err
}

// DeliverNotice notes that the notice about a code was written to a Users app, or, acknowledged, that the app has it.
type DeliverNotice struct {
	Code         domain.CodeID `json:"code" validate:"required,id"`
	App          string        `json:"app" validate:"required,max=200,text"`
	Acknowledged bool          `json:"acknowledged"`
}

// DeliverNotice errors: ErrInvalid, domain.ErrNoticeUnknown.
func (s *Service) DeliverNotice(ctx context.Context, in DeliverNotice) (Outcome, error) {
	if err := check(in); err != nil {
		return Outcome{}, err
	}
	return decide(ctx, s, domain.NoticeStream(in.Code), func(n domain.Notice) ([]domain.Event, error) {
		if in.Acknowledged {
			return n.Acknowledge(in.App, s.now())
		}
		return n.Deliver(in.App, s.now())
	})
}

// DropNotices ends notices that nobody took for domain.NoticeKept. Run on a schedule.
func (s *Service) DropNotices(ctx context.Context) (dropped int, err error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	now := s.now()
	due, err := s.Candidates.DueNotices(ctx, head, now.Add(-domain.NoticeKept), 1000)
	for _, code := range due {
		out, err := decide(ctx, s, domain.NoticeStream(code), func(n domain.Notice) ([]domain.Event, error) { return n.Drop(now), nil })
		if err != nil {
			return dropped, err
		}
		dropped += len(out.Events)
	}
	return dropped, err
}
