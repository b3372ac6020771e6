package provd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ledgerline/tests/proc"
)

// A wazo-provd's storage is imported by the real program: a dry run changes nothing; what cannot be carried over is told;
// again, nothing changes; the fleet fetches what it fetched before.
func TestImport(t *testing.T) {
	server := proc.Start(t, t.TempDir())
	dir := filepath.Join("testdata", "wazo")
	type report struct {
		DryRun  bool           `json:"dry_run"`
		Configs map[string]int `json:"configs"`
		Devices map[string]int `json:"devices"`
		Params  map[string]int `json:"parameters"`
		Tenants int            `json:"tenants"`
		Remarks []struct {
			What, Remark string
			Lost         bool
		} `json:"remarks"`
	}
	run := func(args ...string) (report, int) {
		t.Helper()
		cmd := exec.Command(proc.Binary(t), append([]string{"import", "wazo", dir, "-o", "json", "--server", "http://" + server.Admin, "--token-file", filepath.Join(server.Dir, "admin.token")}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		code := 0
		if exit, is := err.(*exec.ExitError); is {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		var r report
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return r, code
	}
	devices := func() int { return len(server.API(t, 200, "GET", "/devices", nil)["items"].([]any)) }

	dry, code := run("--dry-run")
	if !dry.DryRun || dry.Configs["made"] != 6 || dry.Devices["made"] != 3 || code == 0 {
		t.Errorf("the dry run says %+v, exit %d", dry, code)
	}
	if n := devices(); n != 0 {
		t.Fatalf("the dry run made %d devices", n)
	}
	first, code := run()
	if first.Configs["made"] != 6 || first.Configs["refused"] != 1 || first.Devices["made"] != 3 || first.Tenants != 2 || code != 1 {
		t.Errorf("the import says %+v, exit %d", first, code)
	}
	told := map[string]string{}
	for _, r := range first.Remarks {
		told[r.What] += r.Remark + ";"
	}
	for what, about := range map[string]string{"config strange": "no_such_setting", "config damaged": "cannot be read", "device ghost": "no family"} {
		if !strings.Contains(told[what], about) {
			t.Errorf("of %s it tells %q", what, told[what])
		}
	}
	again, _ := run()
	if again.Configs["same"] != 6 || again.Devices["same"] != 3 || again.Configs["made"]+again.Devices["made"]+again.Configs["changed"]+again.Devices["changed"]+again.Params["changed"] != 0 {
		t.Errorf("again it says %+v", again)
	}

	get := func(path, agent string) (int, string) {
		t.Helper()
		return proc.Get(t, "http://"+server.Phones+path, agent)
	}
	if status, text := get("/key-of-one/0015650a0b0c.cfg", yealink+"00:15:65:0a:0b:0c"); status != 200 || !strings.Contains(text, "k4d9s2") || !strings.Contains(text, "q8w7e6r5") || !strings.Contains(text, "10.0.0.1") {
		t.Errorf("the phone with a line gets %d: %s", status, text)
	}
	if status, text := get("/snomD785-0004130A0B0C.htm", "Mozilla/4.0 (compatible; snomD785-SIP 10.1.175.16 1.1.4-IFX 0004130A0B0C)"); status != 200 || !strings.Contains(text, "ap4bv2c8qa") {
		t.Errorf("the phone in autoprov gets %d: %s", status, text)
	}
	if n := devices(); n != 3 {
		t.Errorf("there are %d devices", n)
	}
}

// What interrupts an import between two documents leaves what was imported; again, it is completed, and nothing is there twice.
func TestImportCutShort(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"configs", "devices"} {
		if err := os.Mkdir(filepath.Join(dir, kind), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const n = 60
	for i := range n {
		for path, doc := range map[string]object{
			fmt.Sprintf("configs/c%02d.json", i): {"id": fmt.Sprintf("c%02d", i), "parent_ids": []string{}, "raw_config": object{"sip_lines": object{"1": object{"username": fmt.Sprint("u", i), "password": "canary-p", "proxy_ip": "10.0.0.1"}}}},
			fmt.Sprintf("devices/d%02d.json", i): {"id": fmt.Sprintf("d%02d", i), "mac": fmt.Sprintf("00:15:65:0c:00:%02x", i), "plugin": "wazo-yealink-v86", "config": fmt.Sprintf("c%02d", i), "tenant_uuid": mainTenant, "is_new": i == 0},
		} {
			text, err := json.Marshal(doc)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, path), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	data := t.TempDir()
	server := proc.Start(t, data)
	begin := func() *exec.Cmd {
		return exec.Command(proc.Binary(t), "import", "wazo", dir, "-o", "json", "--server", "http://"+server.Admin, "--token-file", filepath.Join(data, "admin.token"))
	}
	count := func(path string) int {
		items, _ := server.API(t, 200, "GET", path, nil)["items"].([]any)
		return len(items)
	}
	cut := begin()
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	proc.Eventually(t, "some documents are there", func() bool { return count("/layers?limit=500") > 5 })
	_ = cut.Process.Kill()
	_ = cut.Wait() // killed
	server.Kill()  // and the server with it
	server = proc.Start(t, data)
	out, err := begin().Output()
	if err != nil {
		t.Fatalf("again: %v\n%s", err, out)
	}
	var r struct{ Configs, Devices map[string]int }
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Configs["same"] == 0 || r.Configs["made"]+r.Configs["same"] != n || r.Devices["made"]+r.Devices["same"] != n {
		t.Errorf("again it says %+v", r)
	}
	proc.Eventually(t, "all devices are in the list, which may be a moment behind", func() bool { return count("/devices?limit=500") == n })
	if out, err = begin().Output(); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil || r.Configs["same"] != n || r.Devices["same"] != n {
		t.Errorf("a third time it says %s, %v", out, err)
	}
}
