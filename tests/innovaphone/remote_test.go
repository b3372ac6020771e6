package innovaphone

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ledgerline/domain"
	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
)

// central is a registry of its own, far from any site.
type central struct {
	*proc.Server
	t   *testing.T
	dir string
	at  string // where phones, and Devices servers, ask it
}

func (c *central) up() {
	c.t.Helper()
	c.Server = proc.Start(c.t, c.dir, "--registry", c.at)
}

// register makes a site known, and answers what the site has to be started with.
func (c *central) register(id string) []string {
	c.t.Helper()
	key := filepath.Join(c.t.TempDir(), "devices.key")
	public, err := exec.CommandContext(c.t.Context(), proc.Binary(c.t), "registry", "key", key).Output()
	if err != nil {
		c.t.Fatal(err)
	}
	c.API(c.t, http.StatusCreated, http.MethodPost, "/registry-servers", map[string]any{"id": id, "name": id, "public_key": strings.TrimSpace(string(public))})
	return []string{"--registry-url", "http://" + c.at, "--registry-server-id", id, "--registry-key-file", key}
}

// Flow B over several sites: the registry is a server of its own, which draws a site's codes and leads its phones there. It is
// away when the rollout begins, and killed while codes are drawn anew, when a phone has typed its code and when one is led; the
// site is killed as well. In the end every user has one phone, and neither server ever wrote a code down.
func TestRolloutOverARemoteRegistry(t *testing.T) {
	c := &central{t: t, dir: t.TempDir(), at: ports.Address(t)}
	c.up()
	s := newSite(t, c.register("site-b")...)
	users := s.asUsers()
	const n = 5
	plan := make([]map[string]any, n)
	for i := range plan {
		plan[i] = map[string]any{"user_id": s.create("/users", map[string]any{"tenant_id": s.tenant, "display_name": fmt.Sprintf("User %d", i+1)})}
	}

	c.Kill()
	answer := s.API(t, http.StatusServiceUnavailable, http.MethodPost, "/codes", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "purpose": "self_service"})
	if answer["code"] != "registry-unavailable" {
		t.Errorf("without a registry a code is answered %v", answer)
	}
	id := s.create("/rollouts", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "name": "First floor", "users": plan})
	proc.Eventually(t, "the rollout has asked in vain", func() bool {
		return slices.ContainsFunc(strings.Split(s.Log(), "\n"), func(line string) bool {
			return strings.Contains(line, `"carry-out-rollout"`) && strings.Contains(line, `"outcome":"again"`)
		})
	})
	log := s.Log()
	c.up()
	proc.Eventually(t, "all codes are issued", func() bool { return s.counts(id)["pending"] == float64(n) })
	first := s.sheet(id, "")

	// All anew, while the registry is killed: each row has one code in the end, and what it had before leads nowhere.
	s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/reissue", map[string]any{"rows": []int{1, 2, 3, 4, 5}})
	c.Kill()
	s.kill()
	c.up()
	var codes []string
	proc.Eventually(t, "all rows have other codes", func() bool {
		codes = s.sheet(id, "")
		for i := range codes {
			if codes[i] == first[i] {
				return false
			}
		}
		return s.counts(id)["pending"] == float64(n)
	})
	hearing := s.listens(users)
	// comes is a phone from the factory with a row's code; at a step of it something happens, once.
	comes := func(row int, at string, happens func(), typed ...string) *phone {
		reached := make(chan struct{})
		var once sync.Once
		p := s.phone(mac(0x400+row), func(cfg *innovaphone.Config) {
			cfg.UpdateURL, cfg.EnterCode = "http://"+c.at+"/init", enters(append(typed, codes[row-1], codes[row-1], codes[row-1])...)
			told := cfg.Step
			cfg.Step = func(step, detail string) {
				told(step, detail)
				if step == at {
					once.Do(func() { close(reached) })
				}
			}
		})
		<-reached
		happens()
		return p
	}
	restart := func() { c.Kill(); c.up() }
	in := func(row int, p *phone) {
		t.Helper()
		s.expectIn(p)
		s.row(id, row, "registered")
		s.hears(hearing, codes[row-1], p.MAC())
	}
	all := []*phone{
		comes(1, innovaphone.StepForm, func() {}, first[0]), // its old code first, which gets it the form again
		comes(2, innovaphone.StepCode, restart),
		comes(3, innovaphone.StepURL, restart),
	}
	for i, p := range all {
		in(i+1, p)
	}
	if !strings.Contains(all[0].Option("SYSCLIENT", "/sysadmin"), s.Phones) || all[0].times(innovaphone.StepForm) < 2 {
		t.Errorf("the first phone was led to %s by %q", all[0].Option("SYSCLIENT", "/sysadmin"), all[0].steps())
	}
	// Led, with the registry away and the site killed, the fourth comes in all the same: Devices alone redeems.
	fourth := comes(4, innovaphone.StepURL, func() { c.Kill(); s.kill() })
	hearing.leave()
	hearing = s.listens(users)
	in(4, fourth)
	// The fifth finds no registry, and waits for it.
	fifth := comes(5, innovaphone.StepFailed, c.up)
	in(5, fifth)
	for _, p := range append(all, fourth, fifth) {
		s.once(p.MAC(), "device.discovered", "device.assigned", "device.sysclient_password_set")
	}
	for _, code := range append(codes, first...) {
		for who, text := range map[string]string{"the site": log + s.Log(), "the registry": c.Log()} {
			if strings.Contains(text, code) {
				t.Errorf("%s has written a code into its log", who)
			}
		}
	}
	// A used code gets a stranger the form again, at the registry.
	stranger := s.phone(mac(0x4ff), func(cfg *innovaphone.Config) { cfg.UpdateURL, cfg.EnterCode = "http://"+c.at+"/init", enters(codes[0]) })
	proc.Eventually(t, "the stranger sees the form again", func() bool { return stranger.times(innovaphone.StepForm) > 1 })
	if stranger.did(innovaphone.StepURL) {
		t.Error("a used code led a stranger to Devices")
	}
}

// A site has as many codes drawn as the registry lets it: its operator reads so, and rows of a rollout say so until there is
// room again.
func TestARegistryThatDrawsNoMore(t *testing.T) {
	c := &central{t: t, dir: t.TempDir(), at: ports.Address(t)}
	c.Server = proc.Start(t, c.dir, "--registry", c.at, "--codes-per-server", "1")
	s := newSite(t, c.register("site-b")...)
	code := s.issue(s.tenant, s.desk)
	drawn := func() bool {
		items, _ := c.API(t, http.StatusOK, http.MethodGet, "/codes", nil)["items"].([]any)
		return len(items) == 1
	}
	proc.Eventually(t, "the registry's views have the code", drawn)
	answer := s.API(t, http.StatusConflict, http.MethodPost, "/codes", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "purpose": "self_service"})
	if answer["code"] != "too-many-codes" || !strings.Contains(fmt.Sprint(answer["detail"]), "http://"+c.at) {
		t.Errorf("beyond the bound a code is answered %v", answer)
	}
	id := s.create("/rollouts", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "users": []map[string]any{{"user_id": s.user}}})
	s.row(id, 1, "failed")
	rows, _ := s.API(t, http.StatusOK, http.MethodGet, "/rollouts/"+id+"/rows", nil)["items"].([]any)
	if row, _ := rows[0].(map[string]any); !strings.Contains(fmt.Sprint(row["cause"]), domain.ErrTooManyCodes.Error()) {
		t.Errorf("the row fails by %v", row["cause"])
	}
	p := s.phone(mac(0x410), func(cfg *innovaphone.Config) {
		cfg.UpdateURL, cfg.EnterCode = "http://"+c.at+"/init", enters(code.digits)
	})
	s.expectIn(p)
	proc.Eventually(t, "the row has a code", func() bool {
		s.API(t, http.StatusNoContent, http.MethodPost, "/rollouts/"+id+"/reissue", map[string]any{})
		return s.counts(id)["pending"] == 1.0
	})
}
