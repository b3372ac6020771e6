package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/projections"
)

// ByBundle names a bundle of files of a plugin.
type ByBundle struct {
	ByID
	Bundle string `path:"bundle" maxLength:"64"`
}

// Upload is a request whose body is a file, read as it comes.
type Upload struct {
	body io.Reader
}

// Resolve gets hold of the body before huma would read it whole.
func (u *Upload) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	c := http.NewResponseController(w)
	_ = errors.Join(c.SetReadDeadline(time.Now().Add(uploadTime)), c.SetWriteDeadline(time.Now().Add(uploadTime))) // where there is none, none is in the way
	u.body = r.Body
	return nil
}

const (
	maxUpload  = 2 << 30
	uploadTime = 30 * time.Minute
)

// uploads tells whether a request brings a file.
func uploads(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/api/v1/plugins/") && !strings.HasSuffix(r.URL.Path, "/pin")
}

// begun is the answer to what was only started.
type begun struct {
	Location string `header:"Location"`
	Body     struct {
		ID string `json:"id" doc:"of the operation: poll /operations/{id}"`
	}
}

// starts registers an operation that begins a piece of work.
func starts[I any](a *api, o op, work func(ctx context.Context, s *commands.Service, in *I) (commands.Work, error)) {
	o.status = http.StatusAccepted
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *I) (*begun, error) {
		caller := a.caller(ctx)
		caller.Reason = member[string](in, "Reason")
		ctx = commands.WithCaller(ctx, caller)
		w, err := work(ctx, a.Service, in)
		var id string
		if err == nil {
			id, err = a.Service.Operations().Start(ctx, w)
		}
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		out := &begun{Location: "/api/v1/operations/" + id}
		out.Body.ID = id
		return out, nil
	})
}

// pluginsOf is what every change of plugins checks first: they are the whole instance's.
func (a *api) pluginsOf(ctx context.Context, s *commands.Service, name string) error {
	switch {
	case wholeInstance(ctx) != nil:
		return errForbidden
	case a.Service.Packages == nil:
		return newProblem(http.StatusNotImplemented, "no-packages", "this server installs no plugins")
	case name != "" && domain.CheckID(name) != nil:
		return errNotFound
	case name == "":
		return nil
	}
	p, err := s.Plugin(ctx, domain.PluginID(name))
	if err == nil && len(p.Versions) == 0 {
		err = errNotFound
	}
	return err
}

// Reasoned is a header of work that is started.
type Reasoned struct {
	Reason string `header:"X-Reason" maxLength:"500" doc:"why, for the record"`
}

func (a *api) plugins() {
	a.listPlugins()
	starts(a, op{"POST", "/plugins/index", "update-plugin-index", "Fetch the index of packages anew", admins, 0}, func(ctx context.Context, s *commands.Service, _ *struct{ Reasoned }) (commands.Work, error) {
		return commands.Work{Label: "update", Key: "plugin-index", Do: func(ctx context.Context, p *commands.Progress) error { return s.Packages.UpdateIndex(ctx, p) }}, a.pluginsOf(ctx, s, "")
	})
	starts(a, op{"POST", "/plugins", "install-plugin", "Install a package from the index, or from a URL", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		Reasoned
		Body struct {
			Name          string `json:"name,omitempty" doc:"in the index"`
			Version       string `json:"version,omitempty" doc:"the newest when empty"`
			Source        string `json:"source,omitempty" doc:"URL of an archive, instead of the index"`
			AllowUnsigned bool   `json:"allow_unsigned,omitempty" doc:"let it in without a trusted signature; recorded"`
			Upgrade       bool   `json:"upgrade,omitempty" doc:"new devices get it from now on; installed versions are not fetched again"`
		}
	}) (commands.Work, error) {
		b := in.Body
		if err := a.pluginsOf(ctx, s, ""); err != nil {
			return commands.Work{}, err
		}
		install := commands.InstallPlugin{Name: b.Name, Version: b.Version, Source: b.Source, AllowUnsigned: b.AllowUnsigned, Upgrade: b.Upgrade}
		if err := install.Check(); err != nil {
			return commands.Work{}, err
		}
		return commands.Work{Label: "install", Key: "plugin-" + b.Name + b.Source, Do: func(ctx context.Context, p *commands.Progress) error {
			_, _, err := s.InstallPlugin(ctx, install, p)
			return err
		}}, nil
	})
	change(a, op{"PUT", "/plugins/{id}/versions/{version}", "upload-plugin", "Install a package from the archive that is the body", admins, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Version string `path:"version" maxLength:"64"`
		Upload
		AllowUnsigned bool   `query:"allow_unsigned" doc:"let it in without a trusted signature; recorded"`
		Upgrade       bool   `query:"upgrade" doc:"new devices get it from now on"`
		Reason        string `header:"X-Reason" maxLength:"500"`
	}) (commands.Outcome, string, commands.PluginRef, error) {
		if err := a.pluginsOf(ctx, s, ""); err != nil {
			return commands.Outcome{}, "", commands.PluginRef{}, err
		}
		b, err := io.ReadAll(io.LimitReader(in.body, commands.MaxPluginArchive+1))
		if err != nil || len(b) > commands.MaxPluginArchive {
			return commands.Outcome{}, "", commands.PluginRef{}, newProblem(http.StatusRequestEntityTooLarge, "too-big", "the archive cannot be read, or is larger than 64 MiB")
		}
		ref, out, err := s.InstallPlugin(ctx, commands.InstallPlugin{Name: in.ID, Version: in.Version, Archive: b, AllowUnsigned: in.AllowUnsigned, Upgrade: in.Upgrade}, nil)
		return out, "/api/v1/plugins/" + in.ID, ref, err
	})
	act(a, op{"DELETE", "/plugins/{id}/versions/{version}", "uninstall-plugin", "Take a version away from new devices", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Version string `path:"version" maxLength:"64"`
		Force   bool   `query:"force" doc:"even while devices use it; they go on with it"`
		Planned
	}) (commands.Outcome, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, err
		}
		return s.UninstallPlugin(ctx, commands.UninstallPlugin{Name: in.ID, Version: in.Version, Force: in.Force})
	})
	act(a, op{"PUT", "/plugins/{id}/pin", "pin-plugin", "Hold new devices at a version; an empty one lets go", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Body struct {
			Version string `json:"version"`
		}
	}) (commands.Outcome, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, err
		}
		return s.PinPlugin(ctx, commands.PinPlugin{Name: in.ID, Version: in.Body.Version})
	})
	a.deviceUpgrades()
	a.bundles()
	a.running()
}

// deviceUpgrades registers what moves devices to other versions.
func (a *api) deviceUpgrades() {
	change(a, op{"POST", "/plugins/{id}/device-upgrades", "upgrade-devices", "Move devices to another version, in waves; a dry run shows the lines that change", operators, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Planned
		Body struct {
			Version     string            `json:"version,omitempty" doc:"the one new devices get when empty"`
			TenantID    domain.TenantID   `json:"tenant_id,omitempty"`
			CategoryID  domain.CategoryID `json:"category_id,omitempty"`
			Devices     []domain.DeviceID `json:"devices,omitempty"`
			All         bool              `json:"all,omitempty" doc:"every device the plugin serves"`
			Wave        int               `json:"wave,omitempty" doc:"devices moved before the next ones wait for them; 20"`
			HaltAfter   int               `json:"halt_after,omitempty" doc:"failures after which it ends; 3"`
			Synchronize bool              `json:"synchronize,omitempty" doc:"tell each phone to fetch"`
		}
	}) (commands.Outcome, string, made, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, "", made{}, err
		}
		b := in.Body
		order := commands.UpgradeDevices{Plugin: in.ID, Version: b.Version, TenantID: b.TenantID, CategoryID: b.CategoryID, Devices: b.Devices, All: b.All,
			Wave: b.Wave, HaltAfter: b.HaltAfter, Synchronize: b.Synchronize}
		if in.DryRun {
			out, err := s.PlanDeviceUpgrade(ctx, order)
			return out, "", made{}, err
		}
		id, out, err := s.UpgradeDevices(ctx, order)
		return out, "/api/v1/plugins/" + in.ID, made{id}, err
	})
	act(a, op{"DELETE", "/plugins/{id}/device-upgrades/{upgrade}", "cancel-device-upgrade", "Move no more devices; those moved stay moved", operators, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByID
		Upgrade string `path:"upgrade" maxLength:"64"`
		Planned
	}) (commands.Outcome, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, err
		}
		return s.CancelDeviceUpgrade(ctx, domain.PluginID(in.ID), in.Upgrade)
	})
}

func (a *api) listPlugins() {
	type capable struct {
		projections.Plugin
		Vendor       string                `json:"vendor,omitempty"`
		Description  string                `json:"description,omitempty"`
		Capabilities []commands.Capability `json:"capabilities,omitempty" doc:"of the version new devices get"`
	}
	lists(a, op{"GET", "/plugins", "list-plugins", "List plugins and their versions", readers, 0}, func(ctx context.Context, l listed, in *struct {
		Present
		Gone bool `query:"gone" doc:"those too of which nothing is installed any more"`
	}) (projections.Listed[projections.Plugin], error) {
		return projections.ListPlugins(ctx, l.views, in.Gone, l.page)
	}, plain[projections.Plugin])
	read(a, op{"GET", "/plugins/{id}", "get-plugin", "Show a plugin, and what its models can do", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*one[capable], error) {
		row, ok, err := projections.PluginByName(ctx, a.Views, domain.PluginID(in.ID))
		if err != nil || !ok {
			return nil, orNotFound(err)
		}
		body := capable{Plugin: row}
		if a.Service.Packages != nil {
			for _, l := range a.Service.Packages.Loaded() {
				if l.Name == in.ID && l.Current {
					body.Vendor, body.Description, body.Capabilities = l.Vendor, l.Description, l.Capabilities
				}
			}
		}
		return &one[capable]{etag(row.Revision), body}, nil
	})
	type offers struct {
		Body struct {
			Items []commands.PackageOffer `json:"items"`
		}
	}
	read(a, op{"GET", "/plugins/installable", "list-installable-plugins", "What the index fetched last offers", readers, 0}, func(ctx context.Context, _ *struct{}) (*offers, error) {
		out := &offers{}
		out.Body.Items = []commands.PackageOffer{}
		if a.Service.Packages == nil {
			return out, nil
		}
		var err error
		out.Body.Items, err = a.Service.Packages.Offers(ctx)
		return out, err
	})
}

// bundles registers what is about vendors' files.
func (a *api) bundles() {
	type bundles struct {
		Body struct {
			Installed   []domain.PluginFiles  `json:"installed"`
			Installable []commands.FileBundle `json:"installable" doc:"what the package names"`
		}
	}
	read(a, op{"GET", "/plugins/{id}/bundles", "list-plugin-bundles", "Firmware and language files of a plugin's phones", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		MinPosition string `query:"min_position"`
	}) (*bundles, error) {
		row, ok, err := projections.PluginByName(ctx, a.Views, domain.PluginID(in.ID))
		if err != nil || !ok {
			return nil, orNotFound(err)
		}
		out := &bundles{}
		out.Body.Installed, out.Body.Installable = row.Bundles, []commands.FileBundle{}
		if a.Service.Packages == nil || row.Current == "" {
			return out, nil
		}
		out.Body.Installable, err = a.Service.Packages.Bundles(in.ID)
		return out, err
	})
	starts(a, op{"POST", "/plugins/{id}/bundles/{bundle}", "install-plugin-bundle", "Fetch files that the package names", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByBundle
		Reasoned
	}) (commands.Work, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Work{}, err
		}
		return commands.Work{Label: "install_pkg", Key: "bundle-" + in.ID + "/" + in.Bundle, Do: func(ctx context.Context, p *commands.Progress) error {
			_, _, err := s.InstallFiles(ctx, commands.InstallFiles{Plugin: in.ID, Bundle: in.Bundle}, p)
			return err
		}}, nil
	})
	change(a, op{"PUT", "/plugins/{id}/bundles/{bundle}", "upload-plugin-bundle", "Make a file of the operator's own, the body, available to phones", admins, 201}, func(ctx context.Context, s *commands.Service, in *struct {
		ByBundle
		Upload
		Kind    string   `query:"kind" enum:"firmware,language,dictionary,other" default:"firmware"`
		Release string   `query:"release" maxLength:"64"`
		Models  []string `query:"models" doc:"separated by commas"`
		Path    string   `query:"path" maxLength:"200" doc:"name phones find it under; as the package's rule says when empty"`
		Unpack  string   `query:"unpack" enum:"zip,tar,tar.gz" doc:"the body is an archive of files"`
		Reason  string   `header:"X-Reason" maxLength:"500"`
	}) (commands.Outcome, string, domain.PluginFiles, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, "", domain.PluginFiles{}, err
		}
		files, out, err := s.InstallFiles(ctx, commands.InstallFiles{Plugin: in.ID, Bundle: in.Bundle, Kind: in.Kind, Release: in.Release, Models: in.Models,
			Path: in.Path, Unpack: in.Unpack, Data: in.body}, nil)
		return out, "/api/v1/plugins/" + in.ID + "/bundles", files, err
	})
	act(a, op{"DELETE", "/plugins/{id}/bundles/{bundle}", "remove-plugin-bundle", "Take files away from phones", admins, 0}, func(ctx context.Context, s *commands.Service, in *struct {
		ByBundle
		Planned
	}) (commands.Outcome, error) {
		if err := a.pluginsOf(ctx, s, in.ID); err != nil {
			return commands.Outcome{}, err
		}
		return s.RemoveFiles(ctx, commands.RemoveFiles{Plugin: in.ID, Bundle: in.Bundle})
	})
}

// running registers what is about operations under way.
func (a *api) running() {
	reaches := func(ctx context.Context, o commands.Operation) error {
		if o.TenantID == "" && bound(ctx) || o.TenantID != "" && sees(ctx, o.TenantID) != nil {
			return errNotFound
		}
		return nil
	}
	type running struct {
		Body struct {
			Items []commands.Operation `json:"items"`
		}
	}
	read(a, op{"GET", "/operations", "list-operations", "Pieces of work under way, and those that ended within the hour", readers, 0}, func(ctx context.Context, _ *struct{}) (*running, error) {
		out := &running{}
		out.Body.Items = []commands.Operation{}
		for _, o := range a.Service.Operations().List() {
			if reaches(ctx, o) == nil {
				out.Body.Items = append(out.Body.Items, o)
			}
		}
		return out, nil
	})
	read(a, op{"GET", "/operations/{id}", "get-operation", "How far a piece of work has come", readers, 0}, func(ctx context.Context, in *struct{ ByID }) (*one[commands.Operation], error) {
		o, err := a.Service.Operations().Get(in.ID)
		if err == nil {
			err = reaches(ctx, o)
		}
		return &one[commands.Operation]{Body: o}, err
	})
	o := op{"DELETE", "/operations/{id}", "cancel-operation", "Stop a piece of work, and forget it", operators, http.StatusNoContent}
	huma.Register(a.huma, a.operation(o), func(ctx context.Context, in *struct{ ByID }) (*struct{}, error) {
		o, err := a.Service.Operations().Get(in.ID)
		if err == nil {
			err = reaches(ctx, o)
		}
		if err == nil {
			err = a.Service.Operations().Cancel(in.ID)
		}
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return nil, nil
	})
}
