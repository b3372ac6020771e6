package provd_test

import (
	"encoding/json"
	"io"
	"net/http"
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
		r, err := http.NewRequest(http.MethodGet, "http://"+server.Phones+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", agent)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
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
