package commands

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"ledgerline/domain"
)

// AskUpdate is the update client of an innovaphone phone asking what to do, or bringing its configuration.
type AskUpdate struct {
	MAC domain.MAC // shown in the query; Proved by a certificate
	// Proved is the MAC a client certificate proved; empty for none.
	Proved domain.MAC
	// Secret is the path secret the phone asked with; empty for none.
	Secret    string
	Transport string // http, https
	IP        string
	// Trusted: the peer is in a trusted network (D24).
	Trusted bool
	// Check is what the phone shows as UPDATE/CHECK: the serial of the script it ran last.
	Check string
}

// UpdatePhone is what an update client may be told.
type UpdatePhone struct {
	Device   domain.DeviceID
	TenantID domain.TenantID
	Model    string
	// Via is how the phone proved itself: secret, certificate or mac.
	Via string
	// Assigned: the device has an owner, whose Settings these are: opened, with secrets in clear text.
	Assigned bool
	Settings domain.Settings
	// Secret is the path secret the phone is to ask with from now on; empty for a device that is not assigned.
	Secret string
	State  domain.UpdateState

	in AskUpdate
}

// via is how the phone proves itself; the strongest proof counts.
func (in AskUpdate) via() string {
	switch {
	case in.Secret != "":
		return "secret"
	case in.Proved != "":
		return "certificate"
	}
	return "mac"
}

func (in AskUpdate) serveFile() ServeFile {
	return ServeFile{Asked: Asked{ClientMAC: in.Proved}, Via: in.via(), Credential: in.Secret, Transport: in.Transport, IP: in.IP, Trusted: in.Trusted}
}

// UpdatePhone finds who asks. By MAC alone only from a trusted network, and only until the phone has used its secret path
// (D24). That the phone shows the serial of its last script is recorded, once. ErrNoFile for a phone that is not known, or
// not let in.
func (s *Service) UpdatePhone(ctx context.Context, in AskUpdate) (UpdatePhone, error) {
	asked := in.serveFile()
	ctx = WithCaller(ctx, Caller{Actor: "phone:" + string(in.MAC), IP: in.IP, Listener: asked.listener()})
	row, err := s.updating(ctx, asked, in)
	if s.Sightings != nil {
		s.Sightings.Seen(Sighting{Device: row.Device, MAC: in.MAC, IP: in.IP, UserAgent: "", Transport: in.Transport, Path: "/update", At: s.now()})
	}
	if err != nil {
		return UpdatePhone{}, err
	}
	d, _, err := load[domain.Device](ctx, s.Log, row.Device.Stream())
	if err != nil {
		return UpdatePhone{}, err
	}
	if d.Live() != nil {
		return UpdatePhone{}, ErrNoFile
	}
	p := UpdatePhone{Device: d.ID, TenantID: d.TenantID, Model: d.Model, Via: in.via(), Assigned: d.Assigned(), in: in}
	if p.State, _, err = load[domain.UpdateState](ctx, s.Log, d.ID.Stream()); err != nil {
		return UpdatePhone{}, err
	}
	if len(p.State.Confirm(in.Check, in.via(), s.now())) > 0 {
		if _, err := s.onUpdate(ctx, p, func(u domain.UpdateState) []domain.Event { return u.Confirm(in.Check, in.via(), s.now()) }); err != nil {
			return UpdatePhone{}, err
		}
	}
	if !p.Assigned {
		return p, nil
	}
	stack, err := s.Settings(ctx, d)
	if err != nil {
		return UpdatePhone{}, err
	}
	p.Settings = stack.Merged()
	p.Secret, err = s.Open(ctx, d.Secret.Sealed)
	return p, err
}

// updating is the row of the phone that asks.
func (s *Service) updating(ctx context.Context, asked ServeFile, in AskUpdate) (Shelved, error) {
	if in.MAC == "" || in.Proved != "" && in.Proved != in.MAC || !asked.private() {
		return Shelved{}, ErrNoFile
	}
	if in.Secret != "" {
		row, _, err := s.identify(ctx, asked, Recognition{MAC: in.MAC}, true)
		return row, err
	}
	if in.Proved == "" && !in.Trusted {
		return Shelved{}, ErrNoFile
	}
	row, found, err := s.Shelf.ByMAC(ctx, in.MAC)
	if err == nil && (!found || in.Proved == "" && row.MACPathClosed) {
		err = ErrNoFile
	}
	return row, err
}

// onUpdate records what an update client did, on its device.
func (s *Service) onUpdate(ctx context.Context, p UpdatePhone, ask func(domain.UpdateState) []domain.Event) (Outcome, error) {
	caller := CallerFrom(ctx)
	caller.Actor, caller.IP, caller.Listener, caller.TenantID = "phone:"+string(p.in.MAC), p.in.IP, p.in.serveFile().listener(), p.TenantID
	return decide(WithCaller(ctx, caller), s, p.Device.Stream(), func(u domain.UpdateState) ([]domain.Event, error) { return ask(u), nil })
}

// ScriptDelivered records that the phone has a script, and keeps its bytes sealed; the one it got last again is no news.
func (s *Service) ScriptDelivered(ctx context.Context, p UpdatePhone, serial string, script []byte) error {
	mac, err := s.keepSent(ctx, p.Device, script)
	if err != nil {
		return err
	}
	_, err = s.onUpdate(ctx, p, func(u domain.UpdateState) []domain.Event {
		return u.Deliver(domain.DeviceScriptDelivered{Serial: serial, MAC: mac, Size: len(script), Via: p.Via, Transport: p.in.Transport, DeliveredAt: s.now()})
	})
	return err
}

// keepSent puts bytes into the blobs under their HMAC, sealed under the device's key.
func (s *Service) keepSent(ctx context.Context, id domain.DeviceID, data []byte) (mac string, err error) {
	sum, err := s.Vault.Hash(ctx, id.Subject(), "mac", data)
	if err != nil {
		return "", fmt.Errorf("mac of what %s sent or got: %w", id, err)
	}
	mac = hex.EncodeToString(sum)
	return mac, s.Blobs.Put(ctx, id.Subject(), mac, data)
}

// Limits of backups: how many of a device are kept, and how long lies between two that differ.
const (
	KeptBackups   = 30
	BackupSpacing = 5 * time.Minute
)

// ErrBackupTooSoon: the phone brings another configuration less than BackupSpacing after the last.
var ErrBackupTooSoon = errors.New("a backup of this phone was kept just now")

// StoreBackup keeps the configuration a phone has uploaded; stable is what is left of it without what always changes. One
// that equals the last in that is no news. Of the older ones the bytes are erased, beyond KeptBackups. ErrBackupTooSoon.
func (s *Service) StoreBackup(ctx context.Context, p UpdatePhone, config, stable []byte) error {
	sum, err := s.Vault.Hash(ctx, p.Device.Subject(), "backup", stable)
	if err != nil {
		return fmt.Errorf("mac of a backup of %s: %w", p.Device, err)
	}
	b := domain.DeviceConfigBackedUp{Stable: hex.EncodeToString(sum), Size: len(config), Via: p.Via, Transport: p.in.Transport, StoredAt: s.now()}
	if len(p.State.BackUp(b)) == 0 {
		return nil
	}
	if last := p.State.Backup.StoredAt; !last.IsZero() && s.now().Sub(last) < BackupSpacing {
		return ErrBackupTooSoon
	}
	if b.MAC, err = s.keepSent(ctx, p.Device, config); err != nil {
		return err
	}
	if _, err := s.onUpdate(ctx, p, func(u domain.UpdateState) []domain.Event { return u.BackUp(b) }); err != nil {
		return err
	}
	all, err := s.Backups(ctx, p.Device)
	if err != nil || len(all) <= KeptBackups {
		return err
	}
	kept, old := all[len(all)-KeptBackups:], all[len(all)-KeptBackups-1]
	if slices.ContainsFunc(kept, func(k Backup) bool { return k.MAC == old.MAC }) {
		return nil // the same again, later
	}
	return s.Blobs.Erase(ctx, p.Device.Subject(), old.MAC)
}

// Backup is one configuration that a phone uploaded.
type Backup struct {
	// Revision of the device's stream names it.
	Revision domain.Revision
	domain.DeviceConfigBackedUp
}

// Backups are the uploads of one life of a device, oldest first.
func (s *Service) Backups(ctx context.Context, id domain.DeviceID) ([]Backup, error) {
	var out []Backup
	for r, err := range s.Log.Read(ctx, id.Stream(), 0) {
		if errors.Is(err, domain.ErrNoStream) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", id.Stream(), err)
		}
		if r.Type != (domain.DeviceConfigBackedUp{}).EventType() {
			continue
		}
		e, err := r.Event()
		if err != nil {
			return nil, err
		}
		out = append(out, Backup{r.Revision, e.(domain.DeviceConfigBackedUp)})
	}
	return out, nil
}

// BackupBytes are the bytes of a backup, secrets and all: for comparing and masking. Errors: ErrNoBlob, domain.ErrErased.
func (s *Service) BackupBytes(ctx context.Context, id domain.DeviceID, revision domain.Revision) (Backup, []byte, error) {
	all, err := s.Backups(ctx, id)
	if err != nil {
		return Backup{}, nil, err
	}
	i := slices.IndexFunc(all, func(b Backup) bool { return b.Revision == revision })
	if i < 0 {
		return Backup{}, nil, fmt.Errorf("backup %d of %s: %w", revision, id, ErrNoBlob)
	}
	data, err := s.Blobs.Get(ctx, id.Subject(), all[i].MAC)
	return all[i], data, err
}

// RevealBackup hands out the very bytes of a backup, to be loaded into a phone again. That it was done, by whom and why, is
// a fact.
type RevealBackup struct {
	ID       domain.DeviceID `json:"id" validate:"required,id"` // one life
	Revision domain.Revision `json:"revision" validate:"gte=0"`
}

// RevealBackup records the reveal before it answers. Errors: ErrInvalid, ErrNoBlob, domain.ErrErased.
func (s *Service) RevealBackup(ctx context.Context, in RevealBackup) ([]byte, Outcome, error) {
	if err := check(in); err != nil {
		return nil, Outcome{}, err
	}
	b, data, err := s.BackupBytes(ctx, in.ID, in.Revision)
	if err != nil {
		return nil, Outcome{}, err
	}
	out, err := decide(ctx, s, in.ID.Stream(), func(domain.Device) ([]domain.Event, error) {
		return []domain.Event{domain.DeviceConfigRevealed{Path: "backup", MAC: b.MAC, Regenerated: b.Revision}}, nil
	})
	return data, out, err
}
