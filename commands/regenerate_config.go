package commands

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"ledgerline/domain"
)

// RegenerateConfig makes a device's files anew from everything they follow from, keeps their bytes, and
// records them if they differ from what the device has.
type RegenerateConfig struct {
	ID domain.DeviceID // one life
	// Fetching: the phone itself waits for them, and need not be told that there are new ones.
	Fetching bool
}

// Regenerated is the state of a device's files after RegenerateConfig, changed or not.
type Regenerated struct {
	Config  domain.DeviceConfigRegenerated
	Changed bool
}

// RegenerateConfig reads the device, then its inputs, and appends at that device revision; on conflict it
// reads all again (D5). A device without a plugin has no files, and that is no error. Errors:
// domain.ErrDeviceUnknown, domain.ErrDeviceDeleted, ErrNoPlugin, domain.ErrErased.
func (s *Service) RegenerateConfig(ctx context.Context, in RegenerateConfig) (Regenerated, Outcome, error) {
	var made Regenerated
	out, err := decide(ctx, s, in.ID.Stream(), func(d domain.Device) (events []domain.Event, err error) {
		events, made, err = s.remake(ctx, d, in.Fetching)
		return events, err
	})
	if err != nil {
		return made, out, err
	}
	if made.Config.Plugin != "" && !made.Changed {
		s.serving.same(in.ID, out.Revision, made.Config)
	}
	return made, out, nil
}

// remake makes the files of a device as it is given, keeps their bytes, and answers what is to be recorded of them at the
// revision the device was given at.
func (s *Service) remake(ctx context.Context, d domain.Device, fetching bool) (events []domain.Event, made Regenerated, err error) {
	if err := d.Live(); err != nil {
		return nil, made, err
	}
	if d.Plugin == "" {
		return nil, made, nil
	}
	record := func(more []domain.Event) {
		for _, e := range more {
			events, d = append(events, e), d.Apply(e)
		}
	}
	if fetching {
		registered, err := s.registerByFiles(ctx, d)
		if err != nil {
			return nil, made, err
		}
		record(registered)
	}
	revealed, err := s.RenderDevice(ctx, d)
	if err != nil {
		return nil, made, err
	}
	if made.Config, err = s.keep(ctx, d, revealed, fetching); err != nil {
		return nil, made, err
	}
	fresh, err := d.Regenerate(made.Config)
	if err != nil {
		return nil, made, err
	}
	if made.Changed = len(fresh) > 0; !made.Changed {
		made.Config.Files = d.Config.Files
	}
	record(fresh)
	switch {
	case fetching:
		record(d.FetchedJobs())
	case revealed.Resync && made.Changed:
		more, err := d.RequestSync(domain.DeviceSyncRequested{SyncID: newID(), Trigger: domain.SyncChanged, Paced: true})
		return append(events, more...), made, err
	}
	return events, made, nil
}

// Revealed is one device's files with every secret in them, and what they followed from.
type Revealed struct {
	Device   domain.DeviceID
	Guest    bool
	Stack    Stack
	Rendered Rendered
	Username string // of line 1
	Resync   bool   // the settings want the phone told of new files
}

// RenderDevice renders the files of a device as it is given, without recording anything.
func (s *Service) RenderDevice(ctx context.Context, d domain.Device) (Revealed, error) {
	stack, err := s.Settings(ctx, d)
	if err != nil {
		return Revealed{}, err
	}
	secret := ""
	if d.Assigned() {
		if secret, err = s.Vault.Open(ctx, d.Secret.Sealed); err != nil {
			return Revealed{}, fmt.Errorf("open the path secret of %s: %w", d.ID, err)
		}
	}
	return s.render(ctx, d, stack, secret)
}

// render renders the files of a device from settings and the path secret, empty of one that is not assigned.
func (s *Service) render(ctx context.Context, d domain.Device, stack Stack, secret string) (Revealed, error) {
	settings := stack.Merged()
	base := s.baseURL(settings)
	if secret != "" {
		base += "d/" + secret + "/"
	}
	guest := d.Guest()
	if guest {
		var autoprov bool
		settings, autoprov = autoprovSettings(settings, d)
		guest = !autoprov // it has an account, so its files are those of a phone that has one
	}
	r, err := s.Renderer.Render(ctx, Render{
		Plugin: PluginRef{d.Plugin, d.Version()}, MAC: d.MAC, ID: d.ID, Model: d.Model, Fw: d.Firmware,
		Settings: settings, BaseURL: base, Guest: guest,
	})
	if err != nil {
		return Revealed{}, fmt.Errorf("render %s: %w", d.ID, err)
	}
	if secret != "" {
		for i := range r.Files {
			r.Files[i].Skeleton = bytes.ReplaceAll(r.Files[i].Skeleton, []byte(secret), []byte(domain.Redacted))
		}
	}
	username, _ := settings.Get("sip_lines.1.username").(string)
	resync, _ := settings["resync_enabled"].(bool)
	return Revealed{Device: d.ID, Guest: d.Guest(), Stack: stack, Rendered: r, Username: username, Resync: resync}, nil
}

// baseURL is where phones come back to: the setting http_base_url, else the server's own, ending in "/".
func (s *Service) baseURL(settings domain.Settings) string {
	base, _ := settings.Get("http_base_url").(string)
	if base == "" {
		base = s.PublicURL
	}
	return strings.TrimSuffix(base, "/") + "/"
}

// keep stores the bytes of every new file and describes them all; at hand for the next request, when a phone waits.
func (s *Service) keep(ctx context.Context, d domain.Device, r Revealed, atHand bool) (domain.DeviceConfigRegenerated, error) {
	subject := d.ID.Subject()
	fresh := make(map[string][]byte, len(r.Rendered.Files))
	has := make(map[string]bool, len(d.Config.Files))
	for _, f := range d.Config.Files {
		has[f.MAC] = true
	}
	c := domain.DeviceConfigRegenerated{Plugin: r.Rendered.Plugin.Name, PluginVersion: r.Rendered.Plugin.Version, Guest: r.Guest,
		Renderer: r.Rendered.Renderer, TZData: r.Rendered.TZData, Inputs: r.Stack.Inputs, Username: r.Username}
	for _, w := range r.Rendered.Warnings {
		c.Warnings = append(c.Warnings, domain.ConfigWarning(w))
	}
	for _, f := range r.Rendered.Files {
		sum, err := s.Vault.Hash(ctx, subject, "mac", f.Data)
		if err != nil {
			return c, fmt.Errorf("sign %s: %w", f.Path, err)
		}
		skeleton := sha256.Sum256(f.Skeleton)
		g := domain.GeneratedFile{Path: f.Path, Aliases: f.Aliases, ContentType: f.ContentType, Size: len(f.Data),
			SkeletonSHA256: hex.EncodeToString(skeleton[:]), MAC: hex.EncodeToString(sum)}
		if !has[g.MAC] {
			fresh[g.MAC] = f.Data
		}
		if atHand {
			s.serving.atHand.put(g.MAC, f.Data)
		}
		c.Files = append(c.Files, g)
	}
	if len(fresh) > 0 {
		if err := s.Blobs.PutAll(ctx, subject, fresh); err != nil {
			return c, fmt.Errorf("keep the files of %s: %w", d.ID, err)
		}
	}
	return c, nil
}
