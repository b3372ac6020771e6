package provd_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ledgerline/adapters/plugins"
	"ledgerline/tests/wazo"
)

// A repository of wazo-provd's, as it is: its index is fetched, a plugin of a family of ours and one of none are installed,
// a package's procedure makes what phones fetch, and a device of the plugin's name is configured and served.
func TestRepositoryOfWazoProvd(t *testing.T) {
	image := wazo.Zip(t, map[string]string{"T54W.rom": "the firmware"})
	sum := sha1.Sum(image)
	dir := t.TempDir()
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	db := fmt.Sprintf("[pkg_t54w-fw]\nversion: 96.86\ndescription: Firmware for the T54W\nfiles: fw\ninstall: zip\n[file_fw]\nurl: %s/fw.zip\nsize: %d\nsha1sum: %s\n"+
		"[install_zip]\na-b: unzip $FILE1\nb-c: cp *.rom firmware/\n", web.URL, len(image), hex.EncodeToString(sum[:]))
	info := map[string]map[string]any{
		"wazo-yealink-v86": {"version": "3.1", "description": "Yealink", "capabilities": map[string]any{"Yealink, T54W, 96.86.0.75": map[string]any{"lines": 16, "type": "deskphone"}}},
		"wazo-acme":        {"version": "1.0.1", "description": "Acme"},
		"wazo-forged":      {"version": "1.0.1", "description": "Forged"},
	}
	archives := map[string][]byte{}
	for id := range info {
		a, ok := wazo.Plugin(t, id, info[id], map[string]string{"pkgs/pkgs.db": db, "var/tftpboot/logo.png": "PNG of " + id})
		if !ok {
			return
		}
		archives[id] = a
	}
	if err := os.WriteFile(filepath.Join(dir, "fw.zip"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	wazo.Index(t, dir, info, archives)
	if err := os.WriteFile(filepath.Join(dir, "wazo-forged-1.0.1.tar.bz2"), archives["wazo-acme"], 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStand(t)
	var err error
	s.rig.Service.Packages, err = plugins.NewDepot(plugins.Options{Dir: t.TempDir(), Set: s.rig.Plugins, Index: web.URL + "/plugins.db",
		Archive: s.rig.Service.PluginArchive, History: s.rig.Service.Plugin})
	if err != nil {
		t.Fatal(err)
	}
	if text := s.finish(s.must(201, "POST", "/pg_mgr/install/update", object{})); !strings.HasPrefix(text, "update|success") {
		t.Fatalf("update: %s", text)
	}
	offers := s.must(200, "GET", "/pg_mgr/install/installable", nil).json(t)["pkgs"].(object)
	if len(offers) != 3 || offers["wazo-acme"].(object)["version"] != "1.0.1" || offers["wazo-yealink-v86"].(object)["dsize"] != float64(len(archives["wazo-yealink-v86"])) {
		t.Fatalf("on offer: %v", offers)
	}
	for id, want := range map[string]string{"wazo-yealink-v86": "install|success", "wazo-acme": "install|success", "wazo-forged": "install|fail"} {
		if text := s.finish(s.must(201, "POST", "/pg_mgr/install/install", object{"id": id})); !strings.HasPrefix(text, want) {
			t.Errorf("install %s: %s", id, text)
		}
	}
	s.must(404, "GET", "/pg_mgr/plugins/wazo-forged/info", nil)
	told := s.must(200, "GET", "/pg_mgr/plugins/wazo-acme/info", nil).json(t)["plugin_info"].(object)
	if text, _ := told["description"].(string); !strings.Contains(text, "of no family known here") {
		t.Errorf("that a plugin has no family is not told: %v", told)
	}
	can := s.must(200, "GET", "/pg_mgr/plugins/wazo-yealink-v86/info", nil).json(t)["plugin_info"].(object)["capabilities"].(object)
	if can["Yealink, T54W, *"] == nil {
		t.Errorf("capabilities: %v", can)
	}
	for _, id := range []string{"wazo-yealink-v86", "wazo-acme"} {
		pkgs := s.must(200, "GET", "/pg_mgr/plugins/"+id+"/install/installable", nil).json(t)["pkgs"].(object)
		if p, _ := pkgs["t54w-fw"].(object); p["dsize"] != float64(len(image)) {
			t.Fatalf("packages of %s: %v", id, pkgs)
		}
		if text := s.finish(s.must(201, "POST", "/pg_mgr/plugins/"+id+"/install/install", object{"id": "t54w-fw"})); !strings.HasPrefix(text, "install_pkg|success") {
			t.Fatalf("package of %s: %s", id, text)
		}
	}
	config := s.config(object{"parent_ids": []string{}, "raw_config": object{"sip_lines": object{"1": object{"username": "u101", "password": "p", "proxy_ip": "10.0.0.1"}}}})
	const agent = "Yealink SIP-T54W 96.86.0.70 00:15:65:1a:2b:3c"
	id := s.device(object{"mac": "00:15:65:1a:2b:3c", "plugin": "wazo-yealink-v86", "config": config})
	s.eventually("the device is configured", func() bool { return s.deviceDoc(id)["configured"] == true })
	if status, text := s.fetch("/0015651a2b3c.cfg", agent); status != 200 || !strings.Contains(text, "u101") {
		t.Errorf("the phone's file: %d %.200s", status, text)
	}
	for name, want := range map[string]string{"firmware/T54W.rom": "the firmware", "logo.png": "PNG of wazo-yealink-v86"} {
		if status, text := s.fetch("/"+name, agent); status != 200 || text != want {
			t.Errorf("%s: %d %.100q", name, status, text)
		}
	}
	if got := s.deviceDoc(id)["plugin"]; got != "wazo-yealink-v86" {
		t.Errorf("the device's plugin is now %v", got)
	}
	// A device of the plugin without a family is there, and has no file.
	other := s.device(object{"mac": "00:a1:b2:c3:d4:e5", "plugin": "wazo-acme", "config": config})
	if got := s.deviceDoc(other)["plugin"]; got != "wazo-acme" {
		t.Errorf("plugin %v", got)
	}
	if status, _ := s.fetch("/00a1b2c3d4e5.cfg", "Acme A1"); status != 404 {
		t.Errorf("a file nobody makes: %d", status)
	}
	s.must(204, "POST", "/pg_mgr/plugins/wazo-acme/install/uninstall", object{"id": "t54w-fw"})
	s.must(204, "POST", "/pg_mgr/install/uninstall", object{"id": "wazo-acme"})
}
