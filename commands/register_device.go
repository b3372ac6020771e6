package commands

import (
	"context"
	"slices"

	"ledgerline/domain"
)

// Registration is what an authenticated sysclient shows of itself when it connects.
type Registration struct {
	Device           domain.DeviceID // one life
	Product          string          // "IP222"
	Version          string          // "13r2 dvl [13.4250/131286/1300]"
	FwBuild, BcBuild string          // builds of firmware and boot code
	// Foreign: it takes configuration messages, in place of a device of another vendor.
	Foreign bool
}

// contact is the registration in the words of jobs.
func (r Registration) contact() domain.JobContact {
	c := domain.JobContact{Via: domain.ViaNative, Product: r.Product, Firmware: r.FwBuild, BootCode: r.BcBuild}
	if r.Foreign {
		c.Via = domain.ViaForeign
	}
	return c
}

// RegisterDevice is the first word of a connected device, each time it has identified itself and was authenticated. It
// chooses and pins the device's jobs where that is due (D21), settles those that waited for the device to come back, and
// has the others sent: not here, RegisterDevice does not talk to the device. Errors: domain.ErrDeviceUnknown,
// domain.ErrDeviceDeleted.
func (s *Service) RegisterDevice(ctx context.Context, in Registration) (Outcome, error) {
	out, waiting, err := s.registerJobs(ctx, in.Device, in.contact(), true)
	if err == nil && waiting {
		s.jobs.wait(in.Device, s.now())
	}
	return out, err
}

// registerJobs records what a contact says of a device's jobs; waiting tells that some are still to be carried out.
func (s *Service) registerJobs(ctx context.Context, id domain.DeviceID, c domain.JobContact, back bool) (out Outcome, waiting bool, err error) {
	out, err = decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		if err := d.Live(); err != nil {
			return nil, err
		}
		events, err := s.jobsAt(ctx, d, c, back)
		for _, e := range events {
			d = d.Apply(e)
		}
		waiting = d.Jobs.Waiting()
		return events, err
	})
	return out, waiting, err
}

func (s *Service) jobsAt(ctx context.Context, d domain.Device, c domain.JobContact, back bool) ([]domain.Event, error) {
	jobs, _, err := s.jobLists.now(ctx, s.Log, domain.JobsStream(d.TenantID))
	if err != nil {
		return nil, err
	}
	return d.RegisterJobs(jobs, c, back, s.skips), nil
}

// skips tells why a job has nothing to do for a device; empty when it has.
func (s *Service) skips(v domain.JobVersion, c domain.JobContact) string {
	supported := true
	switch {
	case v.Type == domain.JobSoftware:
		_, _, skip := v.Software.SoftwareNeed(c)
		return skip
	case c.Via == domain.ViaFiles:
		supported = len(jobSettings(v)) > 0
	case c.Via == domain.ViaForeign:
		supported = v.Type != domain.JobExpert // never sent to them: reference §2.2
	case v.Type != domain.JobExpert:
		supported = len(s.jobLines(v.Type, v.Config.Shown())) > 0
	}
	if !supported {
		return domain.SkipNotSupported
	}
	return ""
}

// contactOf is how a device is reached that is not asking just now, by what is known of it.
func contactOf(d domain.Device) domain.JobContact {
	if f := d.Sysclient; f.Product != "" {
		return Registration{Product: f.Product, FwBuild: f.FwBuild, BcBuild: f.BcBuild, Foreign: f.Foreign}.contact()
	}
	return domain.JobContact{Via: domain.ViaFiles, Product: d.Model, Firmware: d.Firmware}
}

// registerByFiles is RegisterDevice for a device that comes for its files, as part of making them.
func (s *Service) registerByFiles(ctx context.Context, d domain.Device) ([]domain.Event, error) {
	c := contactOf(d)
	if d.Guest() || c.Via != domain.ViaFiles {
		return nil, nil
	}
	return s.jobsAt(ctx, d, c, true)
}

// jobSweep bounds the devices OfferJobs looks at in one step.
const jobSweep = 200

// OfferJobs follows a change of a tenant's jobs. A connected device gets to know it at once; of the others, those whose
// settings want it are told to fetch, and every one gets its jobs when it registers (D16, D21). A dry run shows what the first
// thousand will get.
func (s *Service) OfferJobs(ctx context.Context, r domain.Recorded) error {
	tenant, planned := domain.TenantID(r.Stream.ID()), 0
	for after := domain.DeviceID(""); ; {
		devices, err := s.Candidates.DevicesOfPlugin(ctx, r.Position, domain.PluginDevices{Tenant: tenant, After: after, Limit: jobSweep})
		if err != nil {
			return err
		}
		for _, id := range devices {
			if planned++; s.planning && planned > plannedDevices {
				return nil
			}
			if err := unlessGone(s.offerJobs(ctx, id)); err != nil {
				return err
			}
			after = id
		}
		if len(devices) < jobSweep {
			return nil
		}
	}
}

func (s *Service) offerJobs(ctx context.Context, id domain.DeviceID) error {
	d, _, err := load[domain.Device](ctx, s.Log, id.Stream())
	if err != nil || d.Live() != nil || !d.Assigned() {
		return err
	}
	c := contactOf(d)
	connected := s.Sysclients != nil && s.Sysclients.Connected(id)
	if connected && c.Via == domain.ViaFiles {
		return nil // it has authenticated, and is about to say what it is: then it registers
	}
	if s.planning || connected {
		_, _, err := s.registerJobs(ctx, id, c, false)
		return err
	}
	if c.Via != domain.ViaFiles || d.Plugin == "" {
		return nil
	}
	if !slices.ContainsFunc(d.Config.Inputs, func(in domain.Input) bool { return in.Stream == domain.JobsStream(d.TenantID) }) {
		return s.regenerate(ctx, id) // its files do not know of jobs yet: from here on a change of them is noticed
	}
	stack, err := s.Settings(ctx, d)
	if err != nil || !resyncPolicyOf(stack.Merged()).enabled {
		return err
	}
	_, err = decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) {
		return d.RequestSync(domain.DeviceSyncRequested{SyncID: newID(), Trigger: domain.SyncJobs, Paced: true})
	})
	return err
}
