package provd

import (
	"net/http"
	"strings"
)

// link is one entry of an index page.
type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// table is every path of the interface (reference: wazo-provd.md §1).
func (s *Server) table() []route {
	var all []route
	on := func(path string, methods map[string]action) *route {
		all = append(all, route{path: "/0.2" + path, parts: strings.Split(strings.TrimPrefix("/0.2"+path, "/"), "/"), methods: methods})
		return &all[len(all)-1]
	}
	get := func(permission string, do func(*call) error) map[string]action {
		return map[string]action{http.MethodGet: {permission, do}}
	}
	post := func(permission string, do func(*call) error) map[string]action {
		return map[string]action{http.MethodPost: {permission, do}}
	}
	on("", get("provd.read", index("/0.2", "dev", "dev_mgr", "cfg", "cfg_mgr", "pg", "pg_mgr", "status", "status", "srv.configure", "configure")))

	on("/dev_mgr", get("provd.dev_mgr.read", index("/0.2/dev_mgr", "dev.synchronize", "synchronize", "dev.reconfigure", "reconfigure",
		"dev.dhcpinfo", "dhcpinfo", "dev.devices", "devices")))
	on("/dev_mgr/devices", map[string]action{
		http.MethodGet:  {"provd.dev_mgr.devices.read", (*call).listDevices},
		http.MethodPost: {"provd.dev_mgr.devices.create", (*call).createDevice},
	})
	on("/dev_mgr/devices/{id}", map[string]action{
		http.MethodGet:    {"provd.dev_mgr.devices.{id}.read", (*call).getDevice},
		http.MethodPut:    {"provd.dev_mgr.devices.{id}.update", (*call).putDevice},
		http.MethodDelete: {"provd.dev_mgr.devices.{id}.delete", (*call).deleteDevice},
	})
	on("/dev_mgr/reconfigure", post("provd.dev_mgr.reconfigure.create", (*call).reconfigure))
	on("/dev_mgr/dhcpinfo", post("provd.dev_mgr.dhcpinfo.create", (*call).dhcpInfo))

	on("/cfg_mgr", get("provd.cfg_mgr.read", index("/0.2/cfg_mgr", "cfg.configs", "configs", "cfg.autocreate", "autocreate")))
	on("/cfg_mgr/configs", map[string]action{
		http.MethodGet:  {"provd.cfg_mgr.configs.read", (*call).listConfigs},
		http.MethodPost: {"provd.cfg_mgr.configs.create", (*call).createConfig},
	})
	on("/cfg_mgr/configs/{id}", map[string]action{
		http.MethodGet:    {"provd.cfg_mgr.configs.{id}.read", (*call).getConfig},
		http.MethodPut:    {"provd.cfg_mgr.configs.{id}.update", (*call).putConfig},
		http.MethodDelete: {"provd.cfg_mgr.configs.{id}.delete", (*call).deleteConfig},
	})
	on("/cfg_mgr/configs/{id}/raw", get("provd.cfg_mgr.configs.{id}.raw.read", (*call).rawConfig))
	on("/cfg_mgr/autocreate", post("provd.cfg_mgr.autocreate.create", (*call).autocreate))

	operation := map[string]action{http.MethodGet: {"provd.operation.read", (*call).getOperation}, http.MethodDelete: {"provd.operation.delete", (*call).deleteOperation}}
	on("/dev_mgr/synchronize", post("provd.dev_mgr.synchronize.create", (*call).synchronize))
	on("/dev_mgr/synchronize/{operation}", operation)

	on("/pg_mgr", get("provd.pg_mgr.read", index("/0.2/pg_mgr", "srv.install", "install", "pg.plugins", "plugins", "pg.reload", "reload")))
	on("/pg_mgr/install", get("provd.pg_mgr.install.read", index("/0.2/pg_mgr/install", "srv.install.install", "install", "srv.install.uninstall", "uninstall",
		"srv.install.installed", "installed", "srv.install.installable", "installable", "srv.install.upgrade", "upgrade", "srv.install.update", "update")))
	on("/pg_mgr/install/install", post("provd.pg_mgr.install.install.create", (*call).installPlugin))
	on("/pg_mgr/install/upgrade", post("provd.pg_mgr.install.upgrade.create", (*call).upgradePlugin))
	on("/pg_mgr/install/uninstall", post("provd.pg_mgr.install.uninstall.create", (*call).uninstallPlugin))
	on("/pg_mgr/install/update", post("provd.pg_mgr.install.update.create", (*call).updateIndex))
	for _, verb := range []string{"install", "upgrade", "update"} {
		on("/pg_mgr/install/"+verb+"/{operation}", operation)
	}
	on("/pg_mgr/install/installed", get("provd.pg_mgr.install.installed.read", (*call).installedPlugins))
	on("/pg_mgr/install/installable", get("provd.pg_mgr.install.installable.read", (*call).installablePlugins))
	on("/pg_mgr/plugins", get("provd.pg_mgr.plugins.read", (*call).listPlugins))
	plugin := func(path string, methods map[string]action) {
		on("/pg_mgr/plugins/{id}"+path, methods).exists = hasPlugin
	}
	plugin("", get("provd.pg_mgr.plugins.{id}.read", (*call).pluginIndex))
	plugin("/info", get("provd.pg_mgr.plugins.{id}.info.read", (*call).pluginInfo))
	plugin("/install", get("provd.pg_mgr.plugins.{id}.install.read", func(c *call) error {
		return index("/0.2/pg_mgr/plugins/"+c.params["id"]+"/install", "srv.install.install", "install", "srv.install.uninstall", "uninstall",
			"srv.install.installed", "installed", "srv.install.installable", "installable")(c)
	}))
	plugin("/install/install", post("provd.pg_mgr.plugins.{id}.install.install.create", (*call).installFiles))
	plugin("/install/install/{operation}", operation)
	plugin("/install/uninstall", post("provd.pg_mgr.plugins.{id}.install.uninstall.create", (*call).uninstallFiles))
	plugin("/install/installed", get("provd.pg_mgr.plugins.{id}.install.installed.read", (*call).installedFiles))
	plugin("/install/installable", get("provd.pg_mgr.plugins.{id}.install.installable.read", (*call).installableFiles))
	on("/pg_mgr/reload", post("provd.pg_mgr.reload.create", (*call).reloadPlugin))

	on("/configure", get("provd.configure.read", (*call).listParameters))
	on("/configure/{param}", map[string]action{
		http.MethodGet: {"provd.configure.{tenant_uuid}.{param}.read", (*call).getParameter},
		http.MethodPut: {"provd.configure.{tenant_uuid}.{param}.update", (*call).putParameter},
	}).exists = knownParameter

	on("/api/api.yml", map[string]action{http.MethodGet: {"", (*call).description}})
	on("/status", get("provd.status.read", (*call).status))
	return all
}

// index answers the links of an index page: pairs of rel and last part of href.
func index(at string, pairs ...string) func(*call) error {
	var links []link
	for i := 0; i < len(pairs); i += 2 {
		links = append(links, link{pairs[i], at + "/" + pairs[i+1]})
	}
	return func(c *call) error {
		c.answer(http.StatusOK, map[string]any{"links": links})
		return nil
	}
}

func (c *call) status() error {
	bus := "ok"
	if c.Bus != nil {
		bus = c.Bus()
	}
	c.answer(http.StatusOK, map[string]any{"rest_api": "ok", "bus_consumer": map[string]string{"status": bus}})
	return nil
}
