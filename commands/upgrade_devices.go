package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ledgerline/domain"
)

// UpgradeDevices moves devices to another version of the plugin that serves them: in waves, at the rate and in the hours
// of their settings (resync_per_minute, resync_from, resync_until, resync_days), until too many have failed (D16).
type UpgradeDevices struct {
	Plugin  string `json:"plugin" validate:"required,id"`
	Version string `json:"version" validate:"omitempty,max=64,text"` // empty: the one new devices get
	// Which devices: those of a tenant, of a category, those named, or All; together they narrow each other down.
	TenantID   domain.TenantID   `json:"tenant_id" validate:"omitempty,id"`
	CategoryID domain.CategoryID `json:"category_id" validate:"omitempty,id"`
	Devices    []domain.DeviceID `json:"devices" validate:"max=1000,dive,id"`
	All        bool              `json:"all"`
	// Wave is how many are moved before the next ones wait for them; 20 when 0.
	Wave int `json:"wave" validate:"gte=0,lte=1000"`
	// HaltAfter is how many may fail; 3 when 0.
	HaltAfter int `json:"halt_after" validate:"gte=0,lte=1000"`
	// Synchronize tells each phone to fetch. Without it phones fetch in their own time, or as resync_enabled says.
	Synchronize bool `json:"synchronize"`
}

const (
	upgradePatience = 10 * time.Minute // for a phone that was told to fetch
	upgradeLook     = 2 * time.Second  // how often a wave is looked at
	upgradeClosed   = time.Minute      // how often hours that are closed are looked at
	plannedDevices  = 1000
)

func (in UpgradeDevices) started(id, version string) domain.PluginDeviceUpgradeStarted {
	u := domain.PluginDeviceUpgradeStarted{UpgradeID: id, Version: version, TenantID: in.TenantID, CategoryID: in.CategoryID, Devices: in.Devices,
		Wave: in.Wave, HaltAfter: in.HaltAfter, Synchronize: in.Synchronize}
	if u.Wave == 0 {
		u.Wave = 20
	}
	if u.HaltAfter == 0 {
		u.HaltAfter = 3
	}
	return u
}

func (in UpgradeDevices) check() error {
	if !in.All && in.TenantID == "" && in.CategoryID == "" && len(in.Devices) == 0 {
		return &InvalidError{"devices", "is required: a tenant, a category, devices, or all"}
	}
	return check(in)
}

// UpgradeDevices records the order, which CarryDeviceUpgrade carries out. Errors: ErrInvalid, domain.ErrPluginUnknown,
// domain.ErrUpgradeUnderWay.
func (s *Service) UpgradeDevices(ctx context.Context, in UpgradeDevices) (id string, out Outcome, err error) {
	if err := in.check(); err != nil {
		return "", Outcome{}, err
	}
	id = newID()
	out, err = s.changePlugin(ctx, domain.PluginID(in.Plugin), func(p domain.Plugin) ([]domain.Event, error) {
		return p.UpgradeDevices(in.started(id, in.versionOf(p)))
	})
	return id, out, err
}

func (in UpgradeDevices) versionOf(p domain.Plugin) string {
	if in.Version == "" {
		return p.Current
	}
	return in.Version
}

// PlanDeviceUpgrade pins at once what UpgradeDevices would move in waves, a thousand devices at most: for a dry run,
// which then shows the files and lines that change.
func (s *Service) PlanDeviceUpgrade(ctx context.Context, in UpgradeDevices) (Outcome, error) {
	if err := in.check(); err != nil {
		return Outcome{}, err
	}
	p, err := s.Plugin(ctx, domain.PluginID(in.Plugin))
	if err != nil {
		return Outcome{}, err
	}
	version := in.versionOf(p)
	if !p.Installed(version) {
		return Outcome{}, domain.ErrPluginUnknown
	}
	ids, err := s.toUpgrade(ctx, domain.PluginID(in.Plugin), in.started("", version), "", plannedDevices)
	var out Outcome
	for _, id := range ids {
		if err == nil {
			out, err = decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) { return d.PinPlugin(version) })
		}
	}
	return out, unlessGone(err)
}

func (s *Service) toUpgrade(ctx context.Context, plugin domain.PluginID, u domain.PluginDeviceUpgradeStarted, after domain.DeviceID, limit int) ([]domain.DeviceID, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	return s.Candidates.DevicesOfPlugin(ctx, head, domain.PluginDevices{Plugin: string(plugin), Not: u.Version, Tenant: u.TenantID, Category: u.CategoryID,
		Devices: u.Devices, After: after, Limit: limit})
}

// CancelDeviceUpgrade ends an upgrade under way; devices moved stay moved. Errors: domain.ErrUpgradeUnknown.
func (s *Service) CancelDeviceUpgrade(ctx context.Context, plugin domain.PluginID, id string) (Outcome, error) {
	return s.endDeviceUpgrade(ctx, plugin, domain.PluginDeviceUpgradeEnded{UpgradeID: id, Outcome: domain.UpgradeCancelled})
}

func (s *Service) endDeviceUpgrade(ctx context.Context, plugin domain.PluginID, e domain.PluginDeviceUpgradeEnded) (Outcome, error) {
	return s.changePlugin(ctx, plugin, func(p domain.Plugin) ([]domain.Event, error) { return p.EndDeviceUpgrade(e) })
}

// CarryDeviceUpgrade carries an upgrade out until it has ended, or ctx. One process does so at a time; another one may go
// on where it stopped, for what has been moved is on record. It answers nil for one that has ended.
func (s *Service) CarryDeviceUpgrade(ctx context.Context, plugin domain.PluginID, id string, p *Progress) error {
	u := upgrade{s: s, plugin: plugin, progress: p, closed: map[domain.DeviceID]bool{}}
	ctx = WithCaller(ctx, Caller{Actor: "system:device-upgrade", Reason: "upgrade of devices " + id, correlation: id})
	for {
		state, err := s.Plugin(ctx, plugin)
		if err != nil {
			return err
		}
		var open bool
		if u.order, open = state.DeviceUpgrades[id]; !open {
			return nil
		}
		done, err := u.wave(ctx)
		switch {
		case err != nil:
			return err
		case u.failed >= u.order.HaltAfter:
			_, err := s.endDeviceUpgrade(ctx, plugin, u.ended(domain.UpgradeHalted))
			return errors.Join(fmt.Errorf("halted: %s", u.reason), err)
		case done:
			_, err := s.endDeviceUpgrade(ctx, plugin, u.ended(domain.UpgradeCompleted))
			return err
		}
	}
}

// upgrade is the volatile part of one that is carried out.
type upgrade struct {
	s        *Service
	plugin   domain.PluginID
	order    domain.PluginDeviceUpgradeStarted
	progress *Progress

	after         domain.DeviceID
	closed        map[domain.DeviceID]bool // passed over, for it is not their time
	moved, failed int
	reason        string // of the latest failure
}

func (u *upgrade) ended(outcome string) domain.PluginDeviceUpgradeEnded {
	return domain.PluginDeviceUpgradeEnded{UpgradeID: u.order.UpgradeID, Outcome: outcome, Moved: u.moved, Failed: u.failed, Detail: u.reason}
}

func (u *upgrade) fail(id domain.DeviceID, why string) {
	u.failed++
	u.reason = string(id) + ": " + why
}

// wave moves the next devices and waits for them; done when none is left.
func (u *upgrade) wave(ctx context.Context) (done bool, err error) {
	ids, err := u.s.toUpgrade(ctx, u.plugin, u.order, u.after, u.order.Wave)
	if err != nil {
		return false, err
	}
	if len(ids) == 0 {
		if len(u.closed) == 0 {
			return true, nil
		}
		u.after = ""
		clear(u.closed)
		return false, pause(ctx, upgradeClosed)
	}
	told := map[domain.DeviceID]string{}
	for _, id := range ids {
		if u.after = id; u.failed >= u.order.HaltAfter {
			break
		}
		wait, err := u.move(ctx, id, told)
		if err == nil {
			err = pause(ctx, wait)
		}
		if err != nil {
			return false, err
		}
	}
	return false, u.await(ctx, told)
}

// move moves one device, if it is its time, and answers how long to wait before the next.
func (u *upgrade) move(ctx context.Context, id domain.DeviceID, told map[domain.DeviceID]string) (time.Duration, error) {
	d, _, err := load[domain.Device](ctx, u.s.Log, id.Stream())
	if err != nil || d.Live() != nil {
		return 0, err
	}
	stack, err := u.s.Settings(ctx, d)
	if err != nil {
		return 0, err
	}
	policy := resyncPolicyOf(stack.Merged())
	if !policy.open(u.s.now()) {
		u.closed[id] = true
		return 0, nil
	}
	next := d
	next.PluginVersion = u.order.Version
	if _, err := u.s.RenderDevice(ctx, next); err != nil {
		if ctx.Err() == nil {
			u.fail(id, "its files cannot be made: "+err.Error())
		}
		return 0, ctx.Err()
	}
	if _, err := decide(ctx, u.s, id.Stream(), func(d domain.Device) ([]domain.Event, error) { return d.PinPlugin(u.order.Version) }); err != nil {
		return 0, unlessGone(err)
	}
	u.moved++
	u.progress.Add(1)
	if u.order.Synchronize && d.Assigned() {
		told[id], _, err = u.s.SynchronizeDevice(ctx, SynchronizeDevice{ID: id})
	} else {
		_, _, err = u.s.RegenerateConfig(ctx, RegenerateConfig{ID: id})
	}
	return time.Minute / time.Duration(policy.perMinute), unlessGone(err)
}

// await waits until the phones told have fetched, or have failed to.
func (u *upgrade) await(ctx context.Context, told map[domain.DeviceID]string) error {
	for until := time.Now().Add(upgradePatience); len(told) > 0; {
		for id, sync := range told {
			d, _, err := load[domain.Device](ctx, u.s.Log, id.Stream())
			if err != nil {
				return err
			}
			switch {
			case d.Live() != nil || d.Sync.SyncID != sync || d.Sync.State == domain.SyncApplied:
			case d.Sync.State == domain.SyncFailed:
				u.fail(id, "the phone could not be told to fetch")
			case !time.Now().Before(until):
				u.fail(id, "the phone was told to fetch, and did not")
			default:
				continue
			}
			delete(told, id)
		}
		if len(told) > 0 && u.failed < u.order.HaltAfter {
			if err := pause(ctx, upgradeLook); err != nil {
				return err
			}
			continue
		}
		return nil
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
