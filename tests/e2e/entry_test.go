package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"ledgerline/tests/phonesim"
	"ledgerline/tests/proc"
)

// A phone nobody has configured shows a page that asks for the code. A wrong one is refused, on the page; the right one is redeemed, the
// phone restarts by its browser's own action and has its user's line.
func TestCodeTypedInOnThePhone(t *testing.T) {
	for i, vendor := range []string{"yealink", "snom"} {
		t.Run(vendor, func(t *testing.T) {
			s := newSite(t)
			p := s.phone(t, vendor, "http", uint64(40+i))
			device := "/devices/" + string(p.MAC())
			if _, err := p.Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.EnterCode(t.Context(), "000000000000"); !errors.Is(err, phonesim.ErrNoFile) {
				t.Fatalf("a wrong code: %v", err)
			}
			s.expectState(t, device, "autoprov")
			code := s.code(t)
			done, err := p.EnterCode(t.Context(), code[:4]+" "+code[4:8]+" "+code[8:])
			if err != nil {
				t.Fatal(err)
			}
			if a := account(t, done); a.UserName != "acme4711" || !a.Password.Equal(phonesim.NewPassword(s.password)) {
				t.Fatalf("account %s, password as set: %v", a.UserName, a.Password.Equal(phonesim.NewPassword(s.password)))
			}
			s.expectState(t, device, "configured")
			if history := s.history(t, device); !strings.Contains(history, "device.assigned") {
				t.Errorf("history: %s", history)
			}
			if p.State() != phonesim.Configured {
				t.Errorf("state %s", p.State())
			}
			// Configured, it is asked no more.
			if _, err := p.EnterCode(t.Context(), code); !errors.Is(err, phonesim.ErrNoPage) {
				t.Errorf("the configured phone still has the page: %v", err)
			}
			s.noSecrets(t, s.password, code)
		})
	}
}

// What a code typed in on the page may not do is what no code may do.
func TestThePageIsNoWayAround(t *testing.T) {
	s := newSite(t)
	p := s.phone(t, "yealink", "http", 50)
	if _, err := p.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	code := s.code(t)
	ask := func(path string) (int, string) {
		t.Helper()
		return proc.Get(t, "http://"+s.Phones+path, "Mozilla/5.0")
	}
	for _, path := range []string{"/enter/none/" + string(p.MAC()), "/enter/gigaset/" + string(p.MAC()), "/enter/yealink/nomac", "/enter/yealink", "/enter/yealink/" + string(p.MAC()) + "/x",
		"/enter/none/" + string(p.MAC()) + "?code=" + code} {
		if status, _ := ask(path); status != http.StatusNotFound {
			t.Errorf("%s: status %d", strings.Replace(path, code, "<code>", 1), status)
		}
	}
	// Used by one phone, refused to another, in the same words as a code that never was.
	if _, err := p.EnterCode(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	_, used := ask("/enter/yealink/001565aabbcc?code=" + code)
	_, unknown := ask("/enter/yealink/001565aabbcc?code=000000000000")
	_, nonsense := ask("/enter/yealink/001565aabbcc?code=hello")
	if used != unknown || used != nonsense || !strings.Contains(used, "Not accepted") {
		t.Errorf("refusals differ:\n%s\n%s\n%s", used, unknown, nonsense)
	}
}
