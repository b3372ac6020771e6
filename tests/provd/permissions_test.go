package provd_test

import (
	"strings"
	"testing"
)

// Every call asks for the permission the reference names for it (§1.3), and for no other; ids stand in it with "_" for ".".
func TestPermissions(t *testing.T) {
	s := newStand(t)
	s.withIndex()
	s.device(object{"id": "a.b"})
	s.config(object{"id": "c.d", "parent_ids": []string{}, "raw_config": object{}})
	allowed := func(permission string) {
		s.auth.change(func() {
			s.auth.tokens["one"] = mainTenant
			s.auth.scopes["one"] = []string{permission}
		})
	}
	operation := func(r reply) string { return strings.TrimPrefix(r.Header.Get("Location"), "/0.2") }
	synchronized := operation(s.must(201, "POST", "/dev_mgr/synchronize", object{"id": "a.b"}))
	updated := operation(s.must(201, "POST", "/pg_mgr/install/update", object{}))
	for _, c := range []struct{ method, path, permission string }{
		{"GET", "", "provd.read"},
		{"GET", "/status", "provd.status.read"},
		{"GET", "/configure", "provd.configure.read"},
		{"GET", "/configure/NAT", "provd.configure." + mainTenant + ".NAT.read"},
		{"PUT", "/configure/NAT", "provd.configure." + mainTenant + ".NAT.update"},
		{"GET", "/dev_mgr", "provd.dev_mgr.read"},
		{"GET", "/dev_mgr/devices", "provd.dev_mgr.devices.read"},
		{"POST", "/dev_mgr/devices", "provd.dev_mgr.devices.create"},
		{"GET", "/dev_mgr/devices/a.b", "provd.dev_mgr.devices.a_b.read"},
		{"PUT", "/dev_mgr/devices/a.b", "provd.dev_mgr.devices.a_b.update"},
		{"DELETE", "/dev_mgr/devices/x", "provd.dev_mgr.devices.x.delete"},
		{"POST", "/dev_mgr/synchronize", "provd.dev_mgr.synchronize.create"},
		{"POST", "/dev_mgr/reconfigure", "provd.dev_mgr.reconfigure.create"},
		{"POST", "/dev_mgr/dhcpinfo", "provd.dev_mgr.dhcpinfo.create"},
		{"GET", "/cfg_mgr", "provd.cfg_mgr.read"},
		{"GET", "/cfg_mgr/configs", "provd.cfg_mgr.configs.read"},
		{"POST", "/cfg_mgr/configs", "provd.cfg_mgr.configs.create"},
		{"GET", "/cfg_mgr/configs/c.d", "provd.cfg_mgr.configs.c_d.read"},
		{"GET", "/cfg_mgr/configs/c.d/raw", "provd.cfg_mgr.configs.c_d.raw.read"},
		{"PUT", "/cfg_mgr/configs/c.d", "provd.cfg_mgr.configs.c_d.update"},
		{"DELETE", "/cfg_mgr/configs/x", "provd.cfg_mgr.configs.x.delete"},
		{"POST", "/cfg_mgr/autocreate", "provd.cfg_mgr.autocreate.create"},
		{"GET", "/pg_mgr", "provd.pg_mgr.read"},
		{"GET", "/pg_mgr/install", "provd.pg_mgr.install.read"},
		{"POST", "/pg_mgr/install/install", "provd.pg_mgr.install.install.create"},
		{"POST", "/pg_mgr/install/upgrade", "provd.pg_mgr.install.upgrade.create"},
		{"POST", "/pg_mgr/install/uninstall", "provd.pg_mgr.install.uninstall.create"},
		{"POST", "/pg_mgr/install/update", "provd.pg_mgr.install.update.create"},
		{"GET", "/pg_mgr/install/installed", "provd.pg_mgr.install.installed.read"},
		{"GET", "/pg_mgr/install/installable", "provd.pg_mgr.install.installable.read"},
		{"GET", "/pg_mgr/plugins", "provd.pg_mgr.plugins.read"},
		{"GET", "/pg_mgr/plugins/yealink", "provd.pg_mgr.plugins.yealink.read"},
		{"GET", "/pg_mgr/plugins/yealink/info", "provd.pg_mgr.plugins.yealink.info.read"},
		{"GET", "/pg_mgr/plugins/yealink/install", "provd.pg_mgr.plugins.yealink.install.read"},
		{"GET", "/pg_mgr/plugins/yealink/install/installed", "provd.pg_mgr.plugins.yealink.install.installed.read"},
		{"GET", "/pg_mgr/plugins/yealink/install/installable", "provd.pg_mgr.plugins.yealink.install.installable.read"},
		{"POST", "/pg_mgr/plugins/yealink/install/install", "provd.pg_mgr.plugins.yealink.install.install.create"},
		{"POST", "/pg_mgr/plugins/yealink/install/uninstall", "provd.pg_mgr.plugins.yealink.install.uninstall.create"},
		{"POST", "/pg_mgr/reload", "provd.pg_mgr.reload.create"},
		{"GET", synchronized, "provd.operation.read"},
		{"DELETE", synchronized, "provd.operation.delete"},
		{"GET", updated, "provd.operation.read"},
	} {
		allowed(c.permission)
		if r := s.ask(c.method, c.path, "{}", as("one")); r.StatusCode == 401 || r.StatusCode == 405 || r.StatusCode == 501 {
			t.Errorf("%s %s with %s: %d", c.method, c.path, c.permission, r.StatusCode)
		}
		allowed("provd.something.else")
		if r := s.ask(c.method, c.path, "{}", as("one")); r.StatusCode != 401 {
			t.Errorf("%s %s without %s: %d", c.method, c.path, c.permission, r.StatusCode)
		}
	}
	s.must(200, "GET", "/api/api.yml", nil, as(""))
	// The client library has a call for it, and gets what it got.
	s.must(404, "POST", "/pg_mgr/plugins/yealink/install/upgrade", object{"id": "x"})
}
