// Package e2e tells whole stories against the real program over real sockets.
package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ledgerline/tests/phonesim"
	"ledgerline/tests/proc"
)

// site is a server with one tenant, category, user and line.
type site struct {
	*proc.Server
	tenant, category, user, line string
	password                     string
	ledger                       string // directory of the ledger its events stand in
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOn(t, "ledger")
}

// newSiteOn is newSite on a store: "ledger", the embedded one, or "esdb", over the EventStoreDB protocol in a
// process of its own. args are further arguments of the server.
func newSiteOn(t *testing.T, store string, args ...string) *site {
	t.Helper()
	s := &site{password: "canary-first-password", ledger: t.TempDir()}
	if store == "esdb" {
		events, err := proc.LaunchESDB(proc.Binary(t), s.ledger, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(events.Kill)
		s.Server = proc.Start(t, t.TempDir(), append(args, "--store", "esdb://"+events.ESDB+"?tls=false", "--master-key-file", proc.MasterKey(t))...)
	} else {
		s.Server = proc.Start(t, s.ledger, args...)
	}
	s.tenant = s.create(t, "/tenants", map[string]any{"name": "Acme", "domain": "acme.example"})
	s.create(t, "/layers", map[string]any{"id": "acme.phones", "tenant_id": s.tenant,
		"settings": map[string]any{"sip_proxy_ip": "pbx.acme.example", "sip_registrar_ip": "pbx.acme.example", "timezone": "Europe/Berlin", "admin_password": "canary-admin-password"}})
	s.category = s.create(t, "/categories", map[string]any{"tenant_id": s.tenant, "name": "desk", "kind": "provisioning", "layer_id": "acme.phones"})
	s.user = s.create(t, "/users", map[string]any{"tenant_id": s.tenant, "display_name": "Canary Zoë <Müller> & Söhne", "email": "canary.zoe@acme.example"})
	s.line = s.create(t, "/lines", map[string]any{"tenant_id": s.tenant, "user_id": s.user, "number": "4711", "username": "acme4711", "password": s.password})
	return s
}

func (s *site) create(t *testing.T, path string, body map[string]any) string {
	t.Helper()
	id, _ := s.API(t, http.StatusCreated, http.MethodPost, path, body)["id"].(string)
	if id == "" {
		t.Fatalf("POST %s answers no id", path)
	}
	return id
}

func (s *site) code(t *testing.T) string {
	t.Helper()
	code, _ := s.API(t, http.StatusCreated, http.MethodPost, "/codes", map[string]any{"tenant_id": s.tenant, "category_id": s.category, "user_id": s.user, "purpose": "self_service"})["code"].(string)
	if len(code) != 12 {
		t.Fatalf("code has %d digits", len(code))
	}
	return code
}

// phone plugs a simulated phone in, over "http" or "tftp".
func (s *site) phone(t *testing.T, vendor, transport string, seed uint64) *phonesim.Phone {
	t.Helper()
	fleet, err := phonesim.Fleet(1, vendor, seed)
	if err != nil {
		t.Fatal(err)
	}
	c := fleet[0]
	c.Server = "http://" + s.Phones + "/"
	if transport == "tftp" {
		c.Server = "tftp://" + s.TFTP + "/"
	}
	p, err := phonesim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func account(t *testing.T, r phonesim.Result) phonesim.Account {
	t.Helper()
	if len(r.Parsed.Problems) > 0 {
		t.Errorf("the phone finds fault with its files: %v", r.Parsed.Problems)
	}
	for _, a := range r.Parsed.Accounts {
		if a.Enabled {
			return a
		}
	}
	t.Fatalf("no account in the phone's files")
	return phonesim.Account{}
}

// The life of a phone, from the code to the scrap heap.
func TestStory(t *testing.T) {
	for i, c := range []struct{ vendor, transport, store string }{
		{"yealink", "http", "ledger"}, {"yealink", "tftp", "ledger"}, {"snom", "http", "ledger"}, {"grandstream", "http", "ledger"}, {"grandstream", "tftp", "ledger"},
		{"yealink", "http", "esdb"}, {"snom", "http", "esdb"}, {"grandstream", "tftp", "esdb"},
	} {
		t.Run(c.vendor+" over "+c.transport+" on "+c.store, func(t *testing.T) {
			s := newSiteOn(t, c.store)
			p := s.phone(t, c.vendor, c.transport, uint64(i))
			device := "/devices/" + string(p.MAC())

			// It boots unknown, is discovered, and gets a working file without an account.
			boot, err := p.Boot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.State() != phonesim.Unconfigured {
				t.Fatalf("state %s after the first boot: %v", p.State(), boot.Files)
			}
			s.expectState(t, device, "autoprov")

			// It redeems the code and has its user's line.
			redeemed, err := p.Redeem(t.Context(), s.code(t))
			if err != nil {
				t.Fatal(err)
			}
			a := account(t, redeemed)
			if a.UserName != "acme4711" || !a.Password.Equal(phonesim.NewPassword(s.password)) || !strings.Contains(a.Server, "pbx.acme.example") {
				t.Fatalf("account %s at %s, password as set: %v", a.UserName, a.Server, a.Password.Equal(phonesim.NewPassword(s.password)))
			}
			s.expectState(t, device, "configured")

			// The line's password changes; the next poll brings the new file.
			s.API(t, http.StatusNoContent, http.MethodPost, "/lines/"+s.line+"/rotate", map[string]any{"password": "canary-second-password"})
			var polled phonesim.Result
			proc.Eventually(t, "a poll brings something new", func() bool {
				if polled, err = p.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				return polled.Changed
			})
			if a := account(t, polled); !a.Password.Equal(phonesim.NewPassword("canary-second-password")) {
				t.Fatal("the new file has another password")
			}
			// Unchanged files are not sent again.
			again, err := p.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if again.Changed {
				t.Error("a second poll brought something new")
			}

			// Reset: the phone is nobody's again, and its secret path is dead.
			s.API(t, http.StatusOK, http.MethodPost, device+"/reset", map[string]any{})
			s.expectState(t, device, "autoprov")
			if err := p.FactoryReset(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
			if p.State() != phonesim.Unconfigured {
				t.Fatalf("state %s after the reset", p.State())
			}

			// Deleted, it is gone; the history stays.
			s.API(t, http.StatusNoContent, http.MethodDelete, device, nil)
			proc.Eventually(t, "the device is deleted in the views", func() bool {
				v := s.API(t, http.StatusOK, http.MethodGet, "/devices?limit=500", nil)
				items, _ := v["items"].([]any)
				return len(items) == 0
			})
			history := s.history(t, device)
			for _, want := range []string{"device.discovered", "device.assigned", "device.line_associated", "device.config_regenerated", "device.config_delivered", "device.reset", "device.deleted"} {
				if !strings.Contains(history, want) {
					t.Errorf("the history lacks %s: %s", want, history)
				}
			}
			s.verify(t)
			s.noSecrets(t, "canary-first-password", "canary-second-password", "canary-admin-password")
		})
	}
}

func (s *site) expectState(t *testing.T, device, state string) {
	t.Helper()
	var now any
	proc.Eventually(t, fmt.Sprintf("%s is %s", device, state), func() bool {
		now = s.API(t, http.StatusOK, http.MethodGet, device, nil)["state"]
		return now == state
	})
}

func (s *site) history(t *testing.T, path string) string {
	t.Helper()
	items, _ := s.API(t, http.StatusOK, http.MethodGet, path+"/history?limit=500", nil)["items"].([]any)
	var types []string
	for _, it := range items {
		types = append(types, fmt.Sprint(it.(map[string]any)["type"]))
	}
	return strings.Join(types, " ")
}

func (s *site) verify(t *testing.T) {
	t.Helper()
	out, err := exec.Command(proc.Binary(t), "audit", "verify", "--data", s.ledger).CombinedOutput()
	if err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
}

// noSecrets searches log, views, every other file, the server's own log and its metrics, for the texts as
// they are, in base64 and in hex.
func (s *site) noSecrets(t *testing.T, secrets ...string) {
	t.Helper()
	resp, err := http.Get("http://" + s.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]byte{"metrics": metrics, "server log": []byte(s.Log())}
	for _, dir := range []string{s.Dir, s.ledger} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			places[filepath.Base(path)] = b
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(places) < 6 {
		t.Fatalf("only %d places to search", len(places))
	}
	for _, secret := range secrets {
		forms := []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)], hex.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
		for place, b := range places {
			for _, form := range forms {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("a secret stands in %s", place)
				}
			}
		}
	}
}

// What was erased cannot be found anywhere any more; the history and its chain stand.
func TestErasure(t *testing.T) {
	for _, store := range []string{"ledger", "esdb"} {
		t.Run("on "+store, func(t *testing.T) { erasure(t, newSiteOn(t, store)) })
	}
}

func erasure(t *testing.T, s *site) {
	p := s.phone(t, "yealink", "http", 77)
	if _, err := p.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Redeem(t.Context(), s.code(t)); err != nil {
		t.Fatal(err)
	}
	if name := s.API(t, http.StatusOK, http.MethodGet, "/users/"+s.user, nil)["display_name"]; name != "Canary Zoë <Müller> & Söhne" {
		t.Fatalf("display name %q", name)
	}
	s.API(t, http.StatusNoContent, http.MethodDelete, "/devices/"+string(p.MAC()), nil)
	for _, subject := range []string{"device-" + string(p.MAC()), "user-" + s.user} {
		s.API(t, http.StatusOK, http.MethodPost, "/erase", map[string]any{"subject": subject, "reason": "asked to be forgotten"})
	}
	proc.Eventually(t, "the user reads as erased", func() bool {
		return s.API(t, http.StatusOK, http.MethodGet, "/users/"+s.user, nil)["display_name"] == "[erased]"
	})
	proc.Eventually(t, "the line reads as erased", func() bool {
		return s.API(t, http.StatusOK, http.MethodGet, "/lines/"+s.line, nil)["number"] == "[erased]"
	})
	s.verify(t)
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	out, err := exec.Command(proc.Binary(t), append([]string{"key", "check", "--data", s.Dir, "-o", "json"}, s.Args("--master-key-file")...)...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"destroyed": 3`)) {
		t.Fatalf("key check: %v\n%s", err, out)
	}
}

// A backup taken while the server works opens elsewhere, and what was destroyed since stays destroyed only
// where the log says so.
func TestBackupAndRestore(t *testing.T) {
	s := newSite(t)
	copies := filepath.Join(t.TempDir(), "backup")
	if out, err := exec.Command(proc.Binary(t), "backup", "--data", s.Dir, "--out", copies).CombinedOutput(); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	elsewhere := filepath.Join(t.TempDir(), "restored")
	if out, err := exec.Command(proc.Binary(t), "restore", "--from", copies, "--data", elsewhere, "--master-key-file", filepath.Join(s.Dir, "master.key")).CombinedOutput(); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	token, err := os.ReadFile(filepath.Join(s.Dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "admin.token"), token, 0o600); err != nil {
		t.Fatal(err)
	}
	restored := proc.Start(t, elsewhere, "--master-key-file", filepath.Join(s.Dir, "master.key"))
	if name := restored.API(t, http.StatusOK, http.MethodGet, "/users/"+s.user, nil)["display_name"]; name != "Canary Zoë <Müller> & Söhne" {
		t.Fatalf("display name %q in the restored server", name)
	}
	// A damaged backup is refused.
	if err := os.WriteFile(filepath.Join(copies, "blobs.db"), []byte("not what was written"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(proc.Binary(t), "restore", "--from", copies, "--data", filepath.Join(t.TempDir(), "again"), "--master-key-file", filepath.Join(s.Dir, "master.key")).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("blobs.db")) {
		t.Fatalf("a damaged backup was restored: %v\n%s", err, out)
	}
}

// One directory, one server.
func TestSecondServerIsRefused(t *testing.T) {
	s := proc.Start(t, t.TempDir())
	_, err := proc.Launch(proc.Binary(t), s.Dir)
	if err == nil || !strings.Contains(err.Error(), "ledger is in use") {
		t.Fatalf("a second server on the same directory: %v", err)
	}
}

// The embedded ledger opens with the tool everybody has.
func TestLedgerOpensWithSQLite(t *testing.T) {
	sqlite3, err := exec.LookPath("sqlite3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("sqlite3 is not installed; .ci/run installs it")
		}
		t.Log("sqlite3 is not installed: not tried")
		return
	}
	s := newSite(t)
	out, err := exec.Command(sqlite3, "-readonly", filepath.Join(s.Dir, "ledger.db"), "select type, data from events where type='line.defined'").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`line.defined|{"line_id"`)) || !bytes.Contains(out, []byte(`"ciphertext"`)) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The demo tells the same story on an event store in another process.
func TestDemoOnAnEventStore(t *testing.T) {
	events, err := proc.LaunchESDB(proc.Binary(t), t.TempDir(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Kill)
	demo := func() (string, error) {
		out, err := exec.Command(proc.Binary(t), "demo", "--store", "esdb://"+events.ESDB+"?tls=false", "--exit").CombinedOutput()
		return string(out), err
	}
	out, err := demo()
	if err != nil || !strings.Contains(out, "their leaf hashes come to") || strings.Count(out, " configured ") != 12 {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := demo(); err == nil || !strings.Contains(out, "another vault") {
		t.Fatalf("a second demo on the same store: %v\n%s", err, out)
	}
}
