package provd

import (
	"context"
	"errors"
	"net/http"

	"ledgerline/commands"
	"ledgerline/domain"
)

// loaded are the plugins new devices can get, by id.
func (c *call) loaded() map[string]commands.LoadedPackage {
	out := map[string]commands.LoadedPackage{}
	if c.Service.Packages == nil {
		return out
	}
	for _, p := range c.Service.Packages.Loaded() {
		if p.Current {
			out[p.Name] = p
		}
	}
	return out
}

// hasPlugin tells whether the path's plugin is loaded.
func hasPlugin(c *call) bool {
	_, ok := c.loaded()[c.params["id"]]
	return ok
}

// pluginInfo is what is shown of a package, loaded or on offer.
func pluginInfo(p commands.PackageOffer) object {
	capabilities := object{}
	for _, m := range p.Capabilities {
		kind := m.Type
		if kind == "" {
			kind = "deskphone"
		}
		capabilities[p.Vendor+", "+m.Model+", *"] = object{"lines": m.Lines, "function_keys": m.Keys, "expansion_modules": m.ExpModules,
			"high_availability": true, "switchboard": false, "multicell": kind == "dect", "type": kind, "protocol": "sip"}
	}
	return object{"version": p.Version, "description": p.Description, "capabilities": capabilities}
}

type object = map[string]any

func (c *call) listPlugins() error {
	all := object{}
	for id := range c.loaded() {
		all[id] = object{"links": []link{{"pg.plugin", "/0.2/pg_mgr/plugins/" + id}}}
	}
	c.answer(http.StatusOK, object{"plugins": all})
	return nil
}

func (c *call) pluginIndex() error {
	id := c.params["id"]
	links := []link{{"pg.info", "/0.2/pg_mgr/plugins/" + id + "/info"}}
	bundles, err := c.bundles(id)
	if err != nil {
		return err
	}
	if len(bundles) > 0 {
		links = append(links, link{"srv.install", "/0.2/pg_mgr/plugins/" + id + "/install"})
	}
	c.answer(http.StatusOK, object{"links": links})
	return nil
}

func (c *call) pluginInfo() error {
	c.answer(http.StatusOK, object{"plugin_info": pluginInfo(c.loaded()[c.params["id"]].PackageOffer)})
	return nil
}

func (c *call) installedPlugins() error {
	pkgs := object{}
	for id, p := range c.loaded() {
		pkgs[id] = pluginInfo(p.PackageOffer)
	}
	c.answer(http.StatusOK, object{"pkgs": pkgs})
	return nil
}

// offers are the packages of the index by name, of each the newest.
func (c *call) offers() (map[string]commands.PackageOffer, error) {
	out := map[string]commands.PackageOffer{}
	if c.Service.Packages == nil {
		return out, nil
	}
	all, err := c.Service.Packages.Offers(c.ctx)
	if errors.Is(err, commands.ErrNoIndex) {
		return out, nil
	}
	for _, o := range all {
		out[o.Name] = o // by name, then version
	}
	return out, err
}

func (c *call) installablePlugins() error {
	all, err := c.offers()
	if err != nil {
		return err
	}
	pkgs := object{}
	for id, o := range all {
		info := pluginInfo(o)
		info["dsize"] = o.Size
		pkgs[id] = info
	}
	c.answer(http.StatusOK, object{"pkgs": pkgs})
	return nil
}

var errNoPackages = &refusal{http.StatusInternalServerError, "this server installs no plugins"}

func (c *call) updateIndex() error {
	if c.Service.Packages == nil {
		return errNoPackages
	}
	if depot, ok := c.Service.Packages.(interface{ HasIndex() bool }); ok && !depot.HasIndex() {
		return refuse(http.StatusInternalServerError, commands.ErrNoIndex.Error())
	}
	err := c.begin(commands.Work{Label: "update", Key: "plugin-index", Do: c.Service.Packages.UpdateIndex})
	if errors.Is(err, commands.ErrOperationRunning) {
		return refuse(http.StatusInternalServerError, "an update is already in progress")
	}
	return err
}

// begin starts work and answers 201 with the handle's path.
func (c *call) begin(w commands.Work) error {
	id, err := c.Service.Operations().Start(c.ctx, w)
	if err != nil {
		return err
	}
	c.w.Header()["Location"] = []string{c.handles.add(c.r.URL.Path, id)}
	c.w.Header().Set("Content-Type", MediaType)
	c.answer(http.StatusCreated, nil)
	return nil
}

func (c *call) installPlugin() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	offers, err := c.offers()
	if err != nil {
		return err
	}
	if _, has := c.loaded()[id]; has {
		return refuse(http.StatusBadRequest, "plugin is already installed")
	}
	if _, has := offers[id]; !has {
		return refuse(http.StatusBadRequest, "no such plugin")
	}
	return c.fetchPlugin(id, false)
}

func (c *call) upgradePlugin() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	if _, has := c.loaded()[id]; !has {
		return refuse(http.StatusBadRequest, "plugin is not installed")
	}
	offers, err := c.offers()
	if err != nil {
		return err
	}
	if _, has := offers[id]; !has {
		return refuse(http.StatusBadRequest, "plugin is not in the index")
	}
	return c.fetchPlugin(id, true)
}

func (c *call) fetchPlugin(id string, upgrade bool) error {
	label := "install"
	if upgrade {
		label = "upgrade"
	}
	err := c.begin(commands.Work{Label: label, Key: "plugin-" + id, Do: func(ctx context.Context, p *commands.Progress) error {
		_, _, err := c.Service.InstallPlugin(ctx, commands.InstallPlugin{Name: id, Upgrade: upgrade}, p)
		if upgrade && errors.Is(err, domain.ErrPluginNewest) {
			return nil
		}
		return err
	}})
	if errors.Is(err, commands.ErrOperationRunning) {
		return refuse(http.StatusBadRequest, "an operation on this plugin is already in progress")
	}
	return err
}

func (c *call) uninstallPlugin() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	if _, has := c.loaded()[id]; !has {
		return refuse(http.StatusBadRequest, "plugin is not installed")
	}
	if _, err := c.Service.UninstallPlugin(c.ctx, commands.UninstallPlugin{Name: id, Force: true}); err != nil {
		if errors.Is(err, domain.ErrPluginUnknown) {
			return refuse(http.StatusBadRequest, "plugin is not installed")
		}
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

func (c *call) reloadPlugin() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	if _, has := c.loaded()[id]; !has {
		return refuse(http.StatusBadRequest, "plugin is not installed")
	}
	if err := c.Service.SyncPlugin(c.ctx, domain.PluginID(id)); err != nil {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}

// bundles are a plugin's packages of files.
func (c *call) bundles(id string) ([]commands.FileBundle, error) {
	b, err := c.Service.Packages.Bundles(id)
	if errors.Is(err, commands.ErrNoPlugin) {
		return nil, nil
	}
	return b, err
}

func (c *call) installableFiles() error {
	all, err := c.bundles(c.params["id"])
	if err != nil {
		return err
	}
	pkgs := object{}
	for _, b := range all {
		pkgs[b.ID] = object{"version": b.Release, "description": b.Description, "dsize": b.Size}
	}
	c.answer(http.StatusOK, object{"pkgs": pkgs})
	return nil
}

func (c *call) installedFiles() error {
	p, err := c.Service.Plugin(c.ctx, domain.PluginID(c.params["id"]))
	if err != nil {
		return err
	}
	all, err := c.bundles(c.params["id"])
	if err != nil {
		return err
	}
	pkgs := object{}
	for id, files := range p.Bundles {
		info := object{"version": files.Release, "description": ""}
		for _, b := range all {
			if b.ID == id {
				info["description"] = b.Description
			}
		}
		pkgs[id] = info
	}
	c.answer(http.StatusOK, object{"pkgs": pkgs})
	return nil
}

func (c *call) installFiles() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	plugin := c.params["id"]
	all, err := c.bundles(plugin)
	if err != nil {
		return err
	}
	known := false
	for _, b := range all {
		known = known || b.ID == id
	}
	if !known {
		return refuse(http.StatusBadRequest, "no such package")
	}
	err = c.begin(commands.Work{Label: "install_pkg", Key: "files-" + plugin + "-" + id, Do: func(ctx context.Context, p *commands.Progress) error {
		_, _, err := c.Service.InstallFiles(ctx, commands.InstallFiles{Plugin: plugin, Bundle: id}, p)
		return err
	}})
	if errors.Is(err, commands.ErrOperationRunning) {
		return refuse(http.StatusBadRequest, "an installation of this package is already in progress")
	}
	return err
}

func (c *call) uninstallFiles() error {
	id, err := c.named()
	if err != nil {
		return err
	}
	_, err = c.Service.RemoveFiles(c.ctx, commands.RemoveFiles{Plugin: c.params["id"], Bundle: id})
	if errors.Is(err, domain.ErrBundleUnknown) || errors.Is(err, commands.ErrInvalid) {
		return refuse(http.StatusBadRequest, "package is not installed")
	}
	if err != nil {
		return err
	}
	c.answer(http.StatusNoContent, nil)
	return nil
}
