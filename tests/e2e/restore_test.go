package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ledgerline/tests/proc"
)

// What was erased today does not come back with yesterday's backup: its ledger and blobs, put beside today's vault,
// are served, folded anew, and hold none of it in any form.
func TestYesterdaysLedgerWithTodaysVault(t *testing.T) {
	s := newSite(t)
	p := s.phone(t, "yealink", "http", 78)
	if _, err := p.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Redeem(t.Context(), s.code(t)); err != nil {
		t.Fatal(err)
	}
	yesterday := filepath.Join(t.TempDir(), "yesterday")
	if out, err := exec.Command(proc.Binary(t), "backup", "--data", s.Dir, "--out", yesterday).CombinedOutput(); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	for _, subject := range []string{"device-" + string(p.MAC()), "user-" + s.user} {
		s.API(t, http.StatusOK, http.MethodPost, "/erase", map[string]any{"subject": subject, "reason": "asked to be forgotten"})
	}
	proc.Eventually(t, "the user reads as erased", func() bool {
		return s.API(t, http.StatusOK, http.MethodGet, "/users/"+s.user, nil)["display_name"] == "[erased]"
	})
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	again := t.TempDir()
	for name, from := range map[string]string{"ledger.db": yesterday, "blobs.db": yesterday, "vault.db": s.Dir, "master.key": s.Dir, "admin.token": s.Dir} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(again, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	erased := s.Dir
	s.Server, s.ledger = proc.Start(t, again), again
	if name := s.API(t, http.StatusOK, http.MethodGet, "/users/"+s.user, nil)["display_name"]; name != "[erased]" {
		t.Errorf("yesterday's ledger says again: %q", name)
	}
	evidence := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+string(p.MAC())+"/evidence", nil)
	if evidence["proven"] != false {
		t.Errorf("the files of an erased device are proven: %v", evidence)
	}
	s.verify(t)
	s.noSecrets(t, s.password, "Canary Zoë", "canary.zoe@acme.example")
	if code := s.Stop(t); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	for _, dir := range []string{again, erased} {
		out, err := exec.Command(proc.Binary(t), "audit", "verify", "--data", dir).CombinedOutput()
		if err != nil {
			t.Errorf("verify %s: %v\n%s", dir, err, out)
		}
	}
}
