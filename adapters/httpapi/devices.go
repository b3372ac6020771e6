package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// device is a device in the API's words: settings as a reader may see them.
type device struct {
	projections.Device
	Settings domain.Settings `json:"settings,omitempty"`
	Sync     *deviceSync     `json:"sync,omitempty"`
	// Sysclient is there for devices that connect to us (innovaphone), and for their analog ports.
	Sysclient *sysclient `json:"sysclient,omitempty"`
}

// deviceSync is the latest request that the phone fetch its files.
type deviceSync struct {
	ID      string    `json:"id"`
	State   string    `json:"state" enum:"requested,failed,sent_not_fetched,applied"`
	Trigger string    `json:"trigger"`
	Reboot  bool      `json:"reboot,omitempty"`
	Outcome string    `json:"outcome,omitempty" doc:"of the latest attempt: sent, answered, timeout, unreachable, not_sent; or fetched"`
	Status  int       `json:"status,omitempty" doc:"of a SIP answer"`
	Detail  string    `json:"detail,omitempty"`
	At      time.Time `json:"at"`
}

func (a *api) device(ctx context.Context, row projections.Device) (device, error) {
	settings, err := shown(ctx, a, row.Settings)
	d := device{row, settings, nil, a.sysclient(row)}
	if s := row.Sync; s.SyncID != "" {
		d.Sync = &deviceSync{s.SyncID, s.State, s.Trigger, s.Reboot, s.Last.Outcome, s.Last.Status, s.Last.Detail, row.SyncAt}
	}
	return d, err
}

// deviceChange registers a change of one device, named by id or MAC.
func deviceChange[B any](a *api, o op, may reach, do func(ctx context.Context, s *commands.Service, id domain.DeviceID, body B) (commands.Outcome, error)) {
	o.status = http.StatusOK
	change(a, o, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body B
	}) (commands.Outcome, string, made, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, may)
		if err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		out, err := do(ctx, s, id, in.Body)
		return out, "", made{string(id)}, err
	})
}

func (a *api) changingDevice(ctx context.Context, s *commands.Service, named, match string, may reach) (context.Context, domain.DeviceID, error) {
	id, err := a.reachesDevice(ctx, s, named, may)
	if err != nil {
		return ctx, id, err
	}
	_, life, err := s.CurrentDevice(ctx, id)
	if err != nil {
		return ctx, id, err
	}
	ctx, err = guarded(ctx, match, life.Stream())
	return ctx, id, err
}

// deviceNamed reads the row of a device by id or by a MAC in any spelling: the latest assigned of those that
// carry it.
func (a *api) deviceNamed(ctx context.Context, named string) (projections.Device, error) {
	id := domain.DeviceID(named)
	if mac, err := domain.ParseMAC(named); err == nil {
		rows, err := projections.DevicesByMAC(ctx, a.Views, mac)
		if err != nil {
			return projections.Device{}, err
		}
		if len(rows) > 0 {
			return rows[0], nil
		}
		id = domain.DeviceID(mac)
	}
	row, ok, err := projections.DeviceByID(ctx, a.Views, id)
	if err != nil || !ok {
		return row, orNotFound(err)
	}
	return row, nil
}

// ownDevice reads the row of a device the caller may see. Its past is the caller's to see only where it was in
// a tenant of the caller's then, too.
func (a *api) ownDevice(ctx context.Context, named, asOf string, may reach) (projections.Device, error) {
	row, err := a.deviceNamed(ctx, named)
	if err != nil {
		return row, err
	}
	if err := errors.Join(mine(ctx, row.UserID), may(ctx, row.TenantID)); err != nil {
		return row, err
	}
	at, now, err := a.position(ctx, asOf)
	if err != nil || now {
		return row, err
	}
	row, ok, err := projections.DeviceAt(a.Log.Read(ctx, row.ID.Stream(), 0), at)
	if err != nil || !ok {
		return row, orNotFound(err)
	}
	return row, errors.Join(mine(ctx, row.UserID), sees(ctx, row.TenantID))
}

// lifeOf reads the row of one life of a device, of which the caller must reach the tenant.
func (a *api) lifeOf(ctx context.Context, named string, life int) (projections.Device, error) {
	id := domain.DeviceID(named)
	if mac, err := domain.ParseMAC(named); err == nil {
		id = domain.DeviceID(mac)
	}
	row, ok, err := projections.DeviceLife(ctx, a.Views, id.InLife(life))
	if err != nil || !ok {
		return row, orNotFound(err)
	}
	return row, errors.Join(mine(ctx, row.UserID), sees(ctx, row.TenantID))
}

type deviceConfig struct {
	Parents     []domain.LayerID `json:"parents,omitempty" doc:"layers between the category's and its own settings"`
	Settings    domain.Settings  `json:"settings,omitempty" doc:"a secret sent as [redacted] keeps its value"`
	Description string           `json:"description,omitempty"`
}

type nothing struct{}

func (a *api) devices() {
	lists(a, op{"GET", "/devices", "list-devices", "List devices", everybody, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Tenant   domain.TenantID   `query:"tenant"`
		State    string            `query:"state" enum:"autoprov,awaiting_line,assigned,configured,replaced,deleted"`
		Category domain.CategoryID `query:"category"`
		User     domain.UserID     `query:"user"`
		Line     domain.LineID     `query:"line"`
		MAC      string            `query:"mac"`
		Vendor   string            `query:"vendor"`
		Model    string            `query:"model"`
		Plugin   string            `query:"plugin"`
		Text     string            `query:"text" maxLength:"200"`
		Ended    bool              `query:"ended" doc:"deleted and replaced ones too"`
	}) (projections.Listed[projections.Device], error) {
		f := projections.DeviceFilter{Tenants: l.tenants, State: in.State, Category: in.Category, User: in.User, Line: in.Line, Vendor: in.Vendor, Model: in.Model,
			Plugin: in.Plugin, Text: in.Text, Ended: in.Ended}
		if in.MAC != "" {
			mac, err := domain.ParseMAC(in.MAC)
			if err != nil {
				return projections.Listed[projections.Device]{}, &commands.InvalidError{Field: "mac", Rule: domain.ErrBadMAC.Error()}
			}
			f.MAC = mac
		}
		if key := requestOf(ctx).key; key.Role == domain.OwnUser {
			f.User = key.UserID
		}
		return projections.ListDevices(ctx, l.views, f, l.page)
	}, a.device)
	read(a, op{"GET", "/devices/{id}", "get-device", "Show a device, by id or MAC", everybody, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*one[device], error) {
		row, err := a.ownDevice(ctx, in.ID, in.AsOf, adopts)
		if err != nil {
			return nil, err
		}
		body, err := a.device(ctx, row)
		return &one[device]{etag(row.Revision), body}, err
	})
	change(a, op{"POST", "/devices", "create-device", "Make a device known and, with a tenant, assign it", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		Planned
		Body struct {
			MAC        domain.MAC        `json:"mac,omitempty"`
			ID         domain.DeviceID   `json:"id,omitempty" doc:"of a device without a MAC"`
			Vendor     string            `json:"vendor,omitempty"`
			Model      string            `json:"model,omitempty"`
			Firmware   string            `json:"firmware,omitempty"`
			Plugin     string            `json:"plugin,omitempty" doc:"chosen by vendor, model and MAC when absent"`
			TenantID   domain.TenantID   `json:"tenant_id,omitempty"`
			CategoryID domain.CategoryID `json:"category_id,omitempty"`
			UserID     domain.UserID     `json:"user_id,omitempty" doc:"whose lines it gets"`
		}
	}) (commands.Outcome, string, made, error) {
		b := in.Body
		if b.TenantID != "" || bound(ctx) {
			if err := sees(ctx, b.TenantID); err != nil {
				return commands.Outcome{}, "", made{}, err
			}
		}
		if err := unclaimed(ctx, s, b.MAC); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		id, out, err := s.DiscoverDevice(ctx, commands.DiscoverDevice{ID: b.ID, MAC: b.MAC, Vendor: b.Vendor, Model: b.Model, Firmware: b.Firmware, Plugin: b.Plugin,
			Added: "operator", TenantID: b.TenantID, CategoryID: b.CategoryID, UserID: b.UserID})
		return out, "/api/v1/devices/" + string(id), made{string(id)}, err
	})
	act(a, op{"DELETE", "/devices/{id}", "delete-device", "End a device's life", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
	}) (commands.Outcome, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, sees)
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.DeleteDevice(ctx, commands.DeleteDevice{ID: id})
	})
	deviceChange(a, op{"POST", "/devices/{id}/assign", "assign-device", "Give it to a tenant, category and user", supporters, 0}, adopts, func(ctx context.Context, s *commands.Service, id domain.DeviceID, b struct {
		TenantID   domain.TenantID   `json:"tenant_id"`
		CategoryID domain.CategoryID `json:"category_id,omitempty"`
		UserID     domain.UserID     `json:"user_id,omitempty"`
	}) (commands.Outcome, error) {
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, err
		}
		return s.AssignDevice(ctx, commands.AssignDevice{ID: id, TenantID: b.TenantID, CategoryID: b.CategoryID, UserID: b.UserID})
	})
	deviceChange(a, op{"PUT", "/devices/{id}/config", "configure-device", "Set its own layers and settings, whole", operators, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, b deviceConfig) (commands.Outcome, error) {
		return s.ConfigureDevice(ctx, commands.ConfigureDevice{ID: id, Parents: b.Parents, Settings: b.Settings, Description: b.Description})
	})
	deviceChange(a, op{"POST", "/devices/{id}/reset", "reset-device", "Back to the unconfigured state, within its tenant", supporters, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, _ nothing) (commands.Outcome, error) {
		return s.ResetDevice(ctx, commands.ResetDevice{ID: id})
	})
	deviceChange(a, op{"POST", "/devices/{id}/reopen", "reopen-mac-path", "Let it fetch by its MAC alone again", supporters, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, _ nothing) (commands.Outcome, error) {
		return s.ReopenMACPath(ctx, commands.ReopenMACPath{ID: id})
	})
	deviceChange(a, op{"POST", "/devices/{id}/regenerate", "regenerate-config", "Make its files anew now", supporters, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, _ nothing) (commands.Outcome, error) {
		_, life, err := s.CurrentDevice(ctx, id)
		if err != nil {
			return commands.Outcome{}, err
		}
		_, out, err := s.RegenerateConfig(ctx, commands.RegenerateConfig{ID: life})
		return out, err
	})
	change(a, op{"POST", "/devices/{id}/sync", "synchronize-device", "Ask it to fetch its files again, now; outcomes are in its history", supporters, 202}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body struct {
			Reboot bool `json:"reboot,omitempty" doc:"restart as well"`
		}
	}) (commands.Outcome, string, made, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, sees)
		if err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		sync, out, err := s.SynchronizeDevice(ctx, commands.SynchronizeDevice{ID: id, Reboot: in.Body.Reboot})
		return out, "", made{sync}, err
	})
	deviceChange(a, op{"POST", "/devices/{id}/move", "move-device", "End its life here, begin the next one in another tenant", operators, 0}, sees, func(ctx context.Context, s *commands.Service, id domain.DeviceID, b struct {
		TenantID domain.TenantID `json:"tenant_id"`
	}) (commands.Outcome, error) {
		if err := sees(ctx, b.TenantID); err != nil {
			return commands.Outcome{}, err
		}
		return s.MoveDevice(ctx, commands.MoveDevice{ID: id, TenantID: b.TenantID})
	})
	change(a, op{"POST", "/devices/{id}/replace", "replace-device", "Put another phone in its place: same lines, keys and layers", supporters, 200}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Body struct {
			MAC domain.MAC `json:"mac" doc:"of the new phone"`
		}
	}) (commands.Outcome, string, made, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, sees)
		if err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		by, out, err := s.ReplaceDevice(ctx, commands.ReplaceDevice{ID: id, MAC: in.Body.MAC})
		return out, "/api/v1/devices/" + string(by), made{string(by)}, err
	})
	deviceChange(a, op{"POST", "/devices/{id}/lines", "associate-line", "Put a line on it, at the first free position or the one given", supporters, 0}, adopts, func(ctx context.Context, s *commands.Service, id domain.DeviceID, b struct {
		LineID   domain.LineID `json:"line_id"`
		Position int           `json:"position,omitempty" minimum:"0" maximum:"1000"`
	}) (commands.Outcome, error) {
		return a.associate(ctx, s, id, b.LineID, b.Position)
	})
	change(a, op{"PUT", "/devices/{id}/lines/{line}", "place-line", "Put a line at a position, which must be free", supporters, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		// OpenAPI knows one name for a place in a path, whatever the method.
		Position int `path:"line" minimum:"1" maximum:"1000" doc:"the position, where DELETE has the line's id"`
		Body     struct {
			LineID domain.LineID `json:"line_id"`
		}
	}) (commands.Outcome, string, made, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, adopts)
		if err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		out, err := a.associate(ctx, s, id, in.Body.LineID, in.Position)
		return out, "", made{string(id)}, err
	})
	act(a, op{"DELETE", "/devices/{id}/lines/{line}", "dissociate-line", "Take a line off it", supporters, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Guarded
		Line domain.LineID `path:"line"`
	}) (commands.Outcome, error) {
		ctx, id, err := a.changingDevice(ctx, s, in.ID, in.IfMatch, sees)
		if err != nil {
			return commands.Outcome{}, err
		}
		return s.DissociateLine(ctx, commands.DissociateLine{DeviceID: id, LineID: in.Line})
	})
	a.deviceReads()
	a.past()
}

func (a *api) associate(ctx context.Context, s *commands.Service, id domain.DeviceID, line domain.LineID, position int) (commands.Outcome, error) {
	if err := a.reaches(ctx, s, line.Stream()); err != nil {
		return commands.Outcome{}, err
	}
	return s.AssociateLine(ctx, commands.AssociateLine{DeviceID: id, LineID: line, Position: position})
}

// unclaimed refuses a MAC that another tenant's device carries: a second device with it would get that phone,
// for the phone is the latest assigned of them (D20). Only a key of the whole instance may want that.
func unclaimed(ctx context.Context, s *commands.Service, mac domain.MAC) error {
	mac, err := domain.ParseMAC(string(mac))
	if err != nil || !bound(ctx) {
		return nil // what is no MAC is for the command to say
	}
	d, _, err := s.DeviceOfMAC(ctx, mac)
	if err == nil && d.Live() == nil && adopts(ctx, d.TenantID) != nil {
		err = errTaken
	}
	return err
}

// text is a file as it stands, secrets replaced.
type text struct {
	ContentType string `header:"Content-Type"`
	Redacted    string `header:"X-Redacted" doc:"secrets are replaced by a placeholder"`
	// Of a file of the past, how sure that is.
	Bytes    string `header:"X-Bytes" doc:"as_of: of the bytes kept since: verified; unverifiable: key destroyed at a position; changed; missing"`
	Rendered string `header:"X-Rendered" doc:"as_of: of rendering again: equal; equal but for secrets; differs: …; impossible: …"`
	Body     []byte
}

func (a *api) deviceReads() {
	type files struct {
		Body struct {
			Files    []projections.ConfigFile `json:"files"`
			Guest    bool                     `json:"guest"`
			Outdated bool                     `json:"outdated"`
			Warnings []domain.ConfigWarning   `json:"warnings,omitempty"`
		}
	}
	read(a, op{"GET", "/devices/{id}/files", "list-files", "The files it may fetch, and what could not be honoured", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
	}) (*files, error) {
		row, err := a.ownDevice(ctx, in.ID, "", sees)
		if err != nil {
			return nil, err
		}
		_, c, err := find(ctx, a, in.AsOf, row.ID.Stream(),
			func(ctx context.Context, q projections.Querier) (projections.Config, bool, error) {
				c, _, err := projections.ConfigByDevice(ctx, q, row.ID)
				return c, true, err // a device without files is no error
			},
			func(at domain.Position) (projections.Config, bool, error) {
				return projections.ConfigAt(a.Log.Read(ctx, row.ID.Stream(), 0), at)
			})
		out := &files{}
		out.Body.Files, out.Body.Guest, out.Body.Outdated, out.Body.Warnings = append([]projections.ConfigFile{}, c.Files...), c.Guest, c.Outdated, c.Warnings
		return out, err
	})
	read(a, op{"GET", "/devices/{id}/files/{path}", "get-file", "A file as it would be made now, or as it stood; secrets replaced by a placeholder", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Moment
		Path string `path:"path" doc:"may contain slashes, as they stand"`
	}) (*text, error) {
		if in.AsOf != "" {
			return a.pastFile(ctx, in.ID, in.Path, in.AsOf)
		}
		row, err := a.ownDevice(ctx, in.ID, "", sees)
		if err != nil {
			return nil, err
		}
		d, _, err := a.Service.CurrentDevice(ctx, row.ID)
		if err != nil {
			return nil, err
		}
		if d.Live() != nil || d.Plugin == "" {
			return nil, errNotFound
		}
		made, err := a.Service.RenderDevice(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, f := range made.Rendered.Files {
			if f.Path == in.Path {
				return &text{ContentType: f.ContentType, Redacted: "true", Body: f.Skeleton}, nil
			}
		}
		return nil, errNotFound
	})
	type explained struct {
		Body struct {
			Items []commands.Explanation `json:"items"`
		}
	}
	read(a, op{"GET", "/devices/{id}/explain", "explain-settings", "Which layer does each value come from?", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Key string `query:"key" maxLength:"200" doc:"dotted key of one setting; all when absent"`
	}) (*explained, error) {
		row, err := a.ownDevice(ctx, in.ID, "", sees)
		if err != nil {
			return nil, err
		}
		items, err := a.Service.Explain(ctx, row.ID, in.Key)
		out := &explained{}
		out.Body.Items = items
		return out, err
	})
	read(a, op{"GET", "/devices/{id}/why", "why", "Why is this phone (not) configured? One answer, with the events behind it", everybody, 0}, func(ctx context.Context, in *ByID) (*one[why], error) {
		return a.why(ctx, in.ID)
	})
}

// why is the answer to the question of two in the morning.
type why struct {
	State   string   `json:"state"`
	Answer  string   `json:"answer"`
	Reasons []string `json:"reasons"`
	Events  []event  `json:"events"`
}

func (a *api) why(ctx context.Context, named string) (*one[why], error) {
	row, err := a.ownDevice(ctx, named, "", adopts)
	out := &one[why]{}
	if errors.Is(err, errNotFound) {
		if mac, parse := domain.ParseMAC(named); parse == nil && !bound(ctx) {
			return a.whyUnknown(ctx, mac)
		}
	}
	if err != nil {
		return nil, err
	}
	w := &out.Body
	w.State = row.State
	w.Reasons = []string{}
	w.Answer = answers[row.State]
	if row.Plugin == "" {
		w.Answer = "no plugin serves it: neither its vendor and model nor its MAC address fit one"
	}
	c, hasFiles, err := projections.ConfigByDevice(ctx, a.Views, row.ID)
	if err != nil {
		return nil, err
	}
	say := func(format string, args ...any) { w.Reasons = append(w.Reasons, fmt.Sprintf(format, args...)) }
	if row.Awaiting {
		say("user %s has no line that is on no other device; define one, or associate a line by hand", row.UserID)
	}
	if row.State == domain.StateConfigured {
		switch {
		case row.DeliveredAt.IsZero():
			w.Answer = "its files are ready, but it has never fetched them"
		case row.DeliveredAt.Before(c.GeneratedAt):
			w.Answer = "it is configured, but has not fetched its latest files yet"
		}
		if len(row.Lines) == 0 {
			say("it carries no line")
		}
	}
	if hasFiles && c.Outdated {
		say("it has changed since its files were made; new ones are being made")
	}
	if row.MACPathClosed {
		say("it has used its secret path, so its MAC address alone opens nothing any more; a phone set back to factory defaults needs: device reopen, or device reset")
	}
	for _, warning := range row.Warnings {
		say("%s: %s", warning.Setting, warning.Text)
	}
	if err := a.whyParked(ctx, row, say); err != nil {
		return nil, err
	}
	if err := a.whySeen(ctx, row, say); err != nil {
		return nil, err
	}
	w.Events, err = a.latest(ctx, row.ID.Stream(), 12)
	return out, err
}

// answers put each state into words.
var answers = map[string]string{
	domain.StateAutoprov:     "it is known, but nobody has assigned it: issue a code and type it in, or assign it",
	domain.StateAwaitingLine: "it is assigned and waits for a line of its user",
	domain.StateAssigned:     "it is assigned, but its files are not made yet",
	domain.StateConfigured:   "it is configured and has fetched its latest files",
	domain.StateReplaced:     "it was replaced by another phone",
	domain.StateDeleted:      "it was deleted",
}

func (a *api) whyParked(ctx context.Context, row projections.Device, say func(string, ...any)) error {
	parked, err := a.Parked.List(ctx, "")
	if err != nil {
		return err
	}
	for _, p := range parked {
		if p.Stream == row.ID.Stream() || p.Key == string(row.ID) {
			say("reaction %s to %s is parked after %d attempts: %s", p.Reaction, p.Type, p.Attempts, p.Reason)
		}
	}
	return nil
}

func (a *api) whySeen(ctx context.Context, row projections.Device, say func(string, ...any)) error {
	if a.Seen == nil {
		return nil
	}
	seen, err := a.Seen(ctx, row.ID, row.MAC)
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		say("it has not been seen lately: is it plugged in, and does it know this server?")
	}
	for _, s := range seen {
		what := ""
		if s.Device == "" {
			what = " and was refused"
		}
		say("last seen %s from %s over %s (%s)%s", s.At.UTC().Format(time.RFC3339), s.IP, s.Transport, s.Path, what)
	}
	return nil
}

// whyUnknown answers for a MAC nobody has recorded.
func (a *api) whyUnknown(ctx context.Context, mac domain.MAC) (*one[why], error) {
	out := &one[why]{Body: why{State: "unknown", Answer: "no such phone is known: it has never asked this server, or was never allowed to", Reasons: []string{}, Events: []event{}}}
	if a.Seen == nil {
		return out, nil
	}
	seen, err := a.Seen(ctx, "", mac)
	for _, s := range seen {
		out.Body.Answer = "it asked, but was refused"
		out.Body.Reasons = append(out.Body.Reasons, fmt.Sprintf("last seen %s from %s over %s (%s): not from a trusted network, no plugin knows it, or the hourly cap on new phones was reached",
			s.At.UTC().Format(time.RFC3339), s.IP, s.Transport, s.Path))
	}
	return out, err
}
