package commands

import (
	"context"
	"errors"
	"slices"
	"time"

	"ledgerline/domain"
)

// Reaction is one row of the table "when this is recorded, ask for that". adapters/reactor delivers at
// least once, in order per key; Do issues one command, and commands record nothing new for a cause and
// reaction that already stand in the stream they decide.
type Reaction struct {
	// Name names a durable position: renaming a row runs it again from the start of the log.
	Name string
	// On are the wire names of the events that set it off.
	On []string
	// Key is what order is kept by: the id of the one stream that Do writes to. Events of different keys
	// run side by side.
	Key func(r domain.Recorded, e domain.Event) string
	// Hold keeps later events of a key back while one of them is parked; without it the key goes on.
	Hold bool
	// Shared: order does not matter, so with several replicas whichever has room carries it out.
	Shared bool
	// Moot, if not nil, tells from the event alone that Do would do nothing; Do holds without it.
	Moot func(r domain.Recorded, e domain.Event) bool
	// Latest: of several events of a key and stream that wait, carrying out the last is enough.
	Latest bool
	// Do carries the reaction out. An error is retried with growing delays and parked at last; one that
	// wraps ErrPermanent is parked at once, one that wraps ErrAway never.
	Do func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error
}

// ErrPermanent marks an error that no retry can cure.
var ErrPermanent = errors.New("permanent")

// ErrAway marks the error of somebody outside who is awaited: what fails by it is tried again until they are back, and
// never parked.
var ErrAway = errors.New("away")

// Reactions is the whole table. To add a side effect is to add a row here, and its command.
var Reactions = []Reaction{
	{
		Name: "assign-redeemed-device",
		On:   []string{"code.redeemed"},
		Key:  func(_ domain.Recorded, e domain.Event) string { return string(e.(domain.CodeRedeemed).DeviceID) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			c := e.(domain.CodeRedeemed)
			_, err := s.AssignDevice(ctx, AssignDevice{ID: c.DeviceID, TenantID: c.TenantID, CategoryID: c.CategoryID, UserID: c.UserID, CodeID: c.CodeID})
			if !refused(err) {
				return err
			}
			// The race was lost after the code was used up: visible, and a new code is due (D17).
			_, err = decide(ctx, s, r.Stream, func(code domain.Code) ([]domain.Event, error) { return code.FailAssignment(c.DeviceID, err), nil })
			return err
		},
	},
	{
		Name:   "release-registry-code",
		On:     []string{"code.revoked"},
		Key:    func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Shared: true,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.ReleaseAtRegistry(ctx, r.Stream)
		},
	},
	{
		Name: "carry-out-rollout",
		On:   []string{"rollout.started", "rollout.extended", "rollout.reissued", "rollout.cancelled", "rollout.resent"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Hold: true,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			return s.CarryOutRollout(ctx, r, e)
		},
	},
	{
		Name: "store-notice",
		On:   []string{"device.assigned"},
		Key:  ofDevice,
		Moot: func(_ domain.Recorded, e domain.Event) bool { return e.(domain.DeviceAssigned).CodeID == "" },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			return s.StoreNotice(ctx, r, e.(domain.DeviceAssigned))
		},
	},
	{
		Name: "follow-rollout-row",
		On:   []string{"code.expired", "code.revoked", "code.assignment_failed", "device.assigned"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Moot: func(_ domain.Recorded, e domain.Event) bool {
			a, assigned := e.(domain.DeviceAssigned)
			return assigned && a.CodeID == ""
		},
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			return s.FollowRolloutRow(ctx, r, e)
		},
	},
	{
		Name: "associate-user-lines",
		On:   []string{"device.assigned"},
		Key:  ofDevice,
		Moot: func(_ domain.Recorded, e domain.Event) bool { return e.(domain.DeviceAssigned).UserID == "" },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			if e.(domain.DeviceAssigned).UserID == "" {
				return nil
			}
			_, err := s.AssociateUserLines(ctx, AssociateUserLines{DeviceID: domain.DeviceID(r.Stream.ID()), At: r.Position})
			return unlessGone(err)
		},
	},
	{
		Name: "give-waiting-device-its-line",
		On:   []string{"line.defined"},
		Key:  func(r domain.Recorded, e domain.Event) string { return string(e.(domain.LineDefined).UserID) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			user := e.(domain.LineDefined).UserID
			if user == "" {
				return nil
			}
			waiting, err := s.Candidates.DevicesAwaiting(ctx, r.Position, user)
			for _, id := range waiting {
				if _, err := s.AssociateUserLines(ctx, AssociateUserLines{DeviceID: id, At: r.Position}); unlessGone(err) != nil {
					return err
				}
			}
			return err
		},
	},
	{
		Name:   "regenerate-config",
		On:     filesFollow,
		Key:    ofDevice,
		Latest: true,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			s.serving.making.wait(ctx, domain.DeviceID(r.Stream.ID()))
			if done, err := s.overtaken(ctx, r, append([]string{"device.config_regenerated"}, filesFollow...)...); done || err != nil {
				return err
			}
			return s.regenerate(ctx, domain.DeviceID(r.Stream.ID()))
		},
	},
	{
		Name: "regenerate-line-devices",
		On:   []string{"line.amended", "line.secret_rotated", "user.amended"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do:   sweep,
	},
	{
		// One worker for all shared changes: of several changes to one layer the first sweep makes every
		// device current, and the others find none that is stale (D16).
		Name: "sweep-shared-change",
		On:   []string{"layer.defined", "layer.amended", "layer.removed", "category.amended"},
		Key:  func(domain.Recorded, domain.Event) string { return "sweep" },
		Do:   sweep,
	},
	{
		Name: "offer-jobs",
		On:   []string{"job.created", "job.amended", "job.cancelled"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.OfferJobs(ctx, r)
		},
	},
	{
		Name: "send-jobs",
		On:   []string{"device.jobs_selected", "device.job_queued"},
		Key:  ofDevice,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			if s.planning {
				return unlessGone(s.SendJobs(ctx, domain.DeviceID(r.Stream.ID())))
			}
			// Not here: a device may take its time, and a lane is everybody's. A device that is forgotten with a restart
			// registers again.
			s.jobs.wait(domain.DeviceID(r.Stream.ID()), s.now())
			return nil
		},
	},
	{
		Name: "dissociate-removed-line",
		On:   []string{"line.removed"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			line := domain.LineID(r.Stream.ID())
			devices, err := s.Candidates.DevicesOfLine(ctx, r.Position, line)
			for _, id := range devices {
				_, err := decide(ctx, s, id.Stream(), func(d domain.Device) ([]domain.Event, error) { return d.Dissociate(line) })
				if unlessGone(err) != nil && !errors.Is(err, domain.ErrLineNotOnDevice) {
					return err
				}
			}
			return err
		},
	},
	{
		Name: "drop-transient-layer",
		On:   []string{"device.configured", "device.reset", "device.deleted", "device.replaced"},
		Key:  ofDevice,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.DropTransientLayer(ctx, DropTransientLayer{After: r})
		},
	},
	{
		Name: "release-extension",
		On:   []string{"line.removed"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.ReleaseExtension(ctx, domain.LineID(r.Stream.ID()))
		},
	},
	{
		Name: "release-mac",
		On:   []string{"device.amended", "device.deleted", "device.replaced"},
		Key:  ofDevice,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.ReleaseMAC(ctx, r)
		},
	},
	{
		Name: "continue-move",
		On:   []string{"device.deleted"},
		Key:  ofDevice,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			if e.(domain.DeviceDeleted).MovedTo == "" {
				return nil
			}
			_, err := s.BeginLife(ctx, BeginLife{After: domain.DeviceID(r.Stream.ID())})
			return permanentIfRefused(err)
		},
	},
	{
		Name: "take-over",
		On:   []string{"device.replaced"},
		Key:  ofDevice,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			_, err := s.TakeOver(ctx, TakeOver{Old: domain.DeviceID(r.Stream.ID())})
			return permanentIfRefused(err)
		},
	},
	{
		Name:   "notify-phone",
		On:     []string{"device.sync_requested"},
		Key:    ofDevice,
		Shared: true,
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			if asked := e.(domain.DeviceSyncRequested); !asked.Paced {
				return unlessGone(s.NotifyPhone(ctx, NotifyPhone{ID: domain.DeviceID(r.Stream.ID()), SyncID: asked.SyncID, At: r.Position}))
			}
			return nil
		},
	},
	{
		Name: "plan-sip-user",
		On:   []string{"line.remote_authorization_set", "line.remote_authorization_cleared", "line.amended", "line.secret_rotated", "line.removed"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.planLine(ctx, domain.LineID(r.Stream.ID()), "line")
		},
	},
	{
		Name: "plan-sip-users-of-user",
		On:   []string{"user.amended"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.planUser(ctx, r)
		},
	},
	{
		Name: "sweep-gateway",
		On:   []string{"gateway.enabled", "gateway.token_granted", "gateway.mapping_selected", "gateway.icp_matched"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			return s.sweepGateway(ctx, r, e)
		},
	},
	{
		// Only now, with the gateway's record read back, does the phone get its new credentials.
		Name: "regenerate-behind-gateway",
		On:   []string{"sipuser.pushed", "sipuser.removed", "gateway.amended", "gateway.node_defined", "gateway.node_removed"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do:   sweep,
	},
	{
		Name: "announce-gateway",
		On: []string{"gateway.token_expiring", "gateway.token_expired", "gateway.token_rejected", "gateway.held", "gateway.drift_found",
			"gateway.icp_match_failed", "sipuser.push_failed"},
		Key: func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
			return s.announce(ctx, r)
		},
	},
	{
		Name: "destroy-keys",
		On:   []string{"subject.erased"},
		Key:  func(r domain.Recorded, _ domain.Event) string { return string(r.Stream) },
		Do: func(ctx context.Context, s *Service, r domain.Recorded, e domain.Event) error {
			erased := e.(domain.SubjectErased).Subjects
			for _, subject := range erased {
				if _, err := s.DestroyKey(ctx, DestroyKey{Subject: subject}); err != nil {
					return err
				}
			}
			return s.ForgetFiles(ctx, ForgetFiles{Subjects: erased, At: r.Position})
		},
	},
}

// filesFollow are the facts about a device that its files follow from.
var filesFollow = []string{"device.discovered", "device.identified", "device.amended", "device.assigned", "device.line_associated", "device.line_dissociated",
	"device.configured", "device.plugin_pinned", "device.reset", "device.gateway_set", "device.jobs_selected"}

// overtaken tells whether an event of these types stands behind r in its stream: then what r asks for was done, or
// will be done for the later one.
func (s *Service) overtaken(ctx context.Context, r domain.Recorded, types ...string) (bool, error) {
	for later, err := range s.Log.Read(ctx, r.Stream, r.Revision+1) {
		if err != nil {
			return false, err
		}
		if slices.Contains(types, later.Type) {
			return true, nil
		}
	}
	return false, nil
}

func ofDevice(r domain.Recorded, _ domain.Event) string { return r.Stream.ID() }

// sweep regenerates every device whose files were made from an older revision of the stream that changed,
// in the order of ids and in bounded batches, phones that wait for theirs first. Interrupted, it goes on with those
// that are still stale.
func sweep(ctx context.Context, s *Service, r domain.Recorded, _ domain.Event) error {
	const batch = 200
	var errs []error
	for after := domain.DeviceID(""); ; {
		stale, err := s.Candidates.StaleDevices(ctx, r.Position, r.Stream, r.Revision, after, batch)
		if err != nil {
			return err
		}
		for _, id := range stale {
			s.serving.making.giveWay(ctx, sweepPatience)
			if err := s.regenerate(ctx, id); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				errs = append(errs, err)
			}
			after = id
		}
		if len(stale) < batch {
			return errors.Join(errs...)
		}
	}
}

// sweepPatience is how long one device of a sweep waits while phones wait for their own files.
const sweepPatience = 20 * time.Millisecond

// regenerate is RegenerateConfig for a reaction: a device that is gone needs no files, and what a retry
// cannot cure is parked at once.
func (s *Service) regenerate(ctx context.Context, id domain.DeviceID) error {
	_, _, err := s.RegenerateConfig(ctx, RegenerateConfig{ID: id})
	if errors.Is(err, ErrNoPlugin) || errors.Is(err, domain.ErrErased) {
		return errors.Join(err, ErrPermanent)
	}
	return unlessGone(err)
}

// unlessGone drops the error that the device has ended meanwhile.
func unlessGone(err error) error {
	if errors.Is(err, domain.ErrDeviceDeleted) || errors.Is(err, domain.ErrDeviceUnknown) {
		return nil
	}
	return err
}

// refused tells whether a rule said no, rather than something being out of order.
func refused(err error) bool {
	for _, rule := range []error{domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, domain.ErrDeviceOfOtherTenant, domain.ErrTenantUnknown,
		domain.ErrTenantDeleted, domain.ErrCategoryUnknown, domain.ErrCategoryOfOtherTenant, domain.ErrCategoryRetired, domain.ErrModelNotAllowed,
		domain.ErrUserUnknown, domain.ErrUserRemoved, domain.ErrUserOfOtherTenant, domain.ErrReplacementInUse} {
		if errors.Is(err, rule) {
			return true
		}
	}
	return false
}

func permanentIfRefused(err error) error {
	if refused(err) {
		return errors.Join(err, ErrPermanent)
	}
	return err
}
