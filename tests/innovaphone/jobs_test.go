package innovaphone

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ledgerline/adapters/sysclient/wire"
	"ledgerline/domain"
	"ledgerline/tests/phonesim"
	"ledgerline/tests/phonesim/innovaphone"
	"ledgerline/tests/proc"
)

// The build that software jobs bring; phones come with 135421.
const newBuild = "140001"

// images is a directory of firmware and boot code, for --update-files.
func images(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	putImages(t, dir, newBuild)
	return dir
}

func putImages(t *testing.T, dir, build string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, build), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"boot222.bin", "ip222.bin"} {
		if err := os.WriteFile(filepath.Join(dir, build, name), []byte("image "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// software makes a job that brings a build to products, from our own files.
func (s *site) software(build string, products ...string) string {
	s.t.Helper()
	var devices []any
	for _, p := range products {
		devices = append(devices, map[string]any{"id": p, "versions": []string{"new"}})
	}
	return s.create("/jobs", map[string]any{"tenant_id": s.tenant, "type": "software", "release": "new", "base_url": "http://" + s.Phones + "/update/files",
		"catalogue": map[string]any{"devices": devices, "versions": []any{map[string]any{"id": "new", "build": build, "text": "new [" + build + "]"}}}})
}

// config makes a job of configuration.
func (s *site) config(kind string, parameters map[string]any, categories ...string) string {
	s.t.Helper()
	return s.create("/jobs", map[string]any{"tenant_id": s.tenant, "type": kind, "categories": categories, "parameters": parameters})
}

// state is how far a job has come on a device, and why: "" when it never had it.
func (s *site) state(job string, mac domain.MAC) (state, reason string) {
	s.t.Helper()
	token, err := s.Token()
	if err != nil {
		s.t.Fatal(err)
	}
	status, body, err := s.Call(s.t.Context(), http.DefaultClient, token, http.MethodGet, "/jobs/"+job+"/devices", nil)
	if err != nil || status != http.StatusOK {
		return "", fmt.Sprintf("status %d, %v", status, err) // the views may not have come to the job yet
	}
	var list struct {
		Items []struct{ Device, State, Reason string }
	}
	if err := json.Unmarshal(body, &list); err != nil {
		s.t.Fatal(err)
	}
	for _, d := range list.Items {
		if d.Device == string(mac) {
			state, reason = d.State, d.Reason
		}
	}
	return state, reason
}

func (s *site) expectJob(job string, mac domain.MAC, want string) {
	s.t.Helper()
	state, reason := "", ""
	s.t.Cleanup(func() {
		if state != want {
			s.t.Logf("job %s is %q, not %s: %s\n%s", job, state, want, reason, s.Log())
		}
	})
	proc.Eventually(s.t, "job "+job+" is "+want, func() bool {
		state, reason = s.state(job, mac)
		return state == want
	})
}

// watchJob follows a job by its feed; the channel gets what it showed once the feed has ended.
func (s *site) watchJob(job string) <-chan []string {
	s.t.Helper()
	token, err := s.Token()
	if err != nil {
		s.t.Fatal(err)
	}
	proc.Eventually(s.t, "the views have come to the job", func() bool {
		status, _, err := s.Call(s.t.Context(), http.DefaultClient, token, http.MethodGet, "/jobs/"+job, nil)
		return err == nil && status == http.StatusOK
	})
	done, begun := make(chan []string, 1), make(chan struct{})
	go func() {
		var seen []string
		defer func() {
			if len(seen) == 0 {
				close(begun)
			}
			done <- seen
		}()
		for data := range s.feed(s.t.Context(), token, "/jobs/"+job+"/progress") {
			if seen = append(seen, data); len(seen) == 1 {
				close(begun)
			}
		}
	}()
	<-begun
	return done
}

// runs are the lines a phone has run, without those of update scripts.
func runs(p *phone) (lines []string) {
	for _, line := range p.Commands() {
		if words := strings.Fields(line); line == "iresetn" || strings.HasPrefix(line, "mod cmd UP0") || words[0] == "config" && len(words) > 2 && words[2] != "SYSCLIENT" && words[2] != "UP1" {
			lines = append(lines, line)
		}
	}
	return lines
}

func (p *phone) times(step string) (n int) {
	for _, s := range p.steps() {
		if strings.HasPrefix(s, step) {
			n++
		}
	}
	return n
}

// A phone that comes new gets boot code and firmware, restarts, and then one configuration after the other; each is applied
// as soon as the phone shows it. What is changed while it is connected reaches it at once, without its coming anew.
func TestANativePhoneGetsItsJobs(t *testing.T) {
	s := newSite(t, "--update-files", images(t))
	soft := s.software(newBuild, "IP222")
	ntp := s.config("NTP", map[string]any{"ntp1": "one.example", "ntp2": "two.example", "tz": "CET-1CEST-2,M3.5.0/2,M10.5.0/3"})
	jobs := map[string]string{
		"MEDIA":        s.config("MEDIA", map[string]any{"stunServer": "stun.example", "turnServer": "turn.example", "turnUser": "u", "turnPassword": "canary-turn-password", "tosRtp": "0xb8"}),
		"PHONE":        s.config("PHONE", map[string]any{"gk1": "192.0.2.1", "coder": "OPUS-WB", "frameSize": 20, "exclusive": true}),
		"TLS_PROFILE":  s.config("TLS_PROFILE", map[string]any{"profile": "secure"}, s.desk),
		"ALARM_SERVER": s.config("ALARM_SERVER", map[string]any{"url": "https://alarms.example/in?x=1&y=2"}),
		"EXPERT":       s.config("EXPERT", map[string]any{"script": "# of the site\r\nconfig add LDAPDIR0 /server ldap%3A%2F%2Fdir.example%2F\r\nvars create SITE/NAME p hall"}),
	}
	elsewhere := s.config("NTP", map[string]any{"ntp1": "lobby.example"}, s.lobby)
	watched := s.watchJob(soft)
	code := s.code(s.tenant, s.desk)
	p := s.phone(mac(0x200), func(c *innovaphone.Config) { c.EnterCode = enters(code) })
	s.expectJob(soft, p.MAC(), "verified")
	s.expectJob(ntp, p.MAC(), "applied")
	for _, job := range jobs {
		s.expectJob(job, p.MAC(), "applied")
	}
	if state, _ := s.state(elsewhere, p.MAC()); state != "" {
		t.Errorf("a job of another category is %s", state)
	}
	if n := p.times(innovaphone.StepReboot); n != 1 || !strings.Contains(p.Version(), newBuild[2:]) {
		t.Errorf("it restarted %d times and runs %s", n, p.Version())
	}
	for at, want := range map[[2]string]string{{"NTP0", "/addr"}: "one.example", {"NTP0", "/tz"}: "CET-1CEST-2,M3.5.0/2,M10.5.0/3", {"MEDIA", "/turn-pwd"}: "canary-turn-password",
		{"MEDIA", "/tos-rtp"}: "0xb8", {"PHONE", "/coder"}: "OPUS-WB", {"TLS0", "/profile"}: "secure", {"LOG0", "/alarm-url"}: "https://alarms.example/in?x=1&y=2", {"LDAPDIR0", "/server"}: "ldap://dir.example/"} {
		if got := p.Option(at[0], at[1]); got != want {
			t.Errorf("%s %s is %q", at[0], at[1], got)
		}
	}
	lines := runs(p)
	files := "http://" + s.Phones + "/update/files/" + newBuild
	if want := []string{"mod cmd UP0 boot " + files + "/boot222.bin ser " + newBuild, "mod cmd UP0 prot " + files + "/ip222.bin ser " + newBuild, "iresetn", "config add NTP0 /addr one.example"}; !slices.Equal(lines[:4], want) {
		t.Errorf("it ran %q", lines[:4])
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "config add LDAPDIR0") || p.Var("SITE/NAME") != "hall" {
		t.Errorf("the script came before %q", last)
	}
	s.once(p.MAC(), "device.job_verified", "device.job_rebooting", "device.assigned")
	if counts := s.history(p.MAC()); counts["device.job_applied"] != 6 || counts["device.job_failed"] != 0 || counts["device.job_sent"] != 7 {
		t.Errorf("on record are %v", counts)
	}

	// Whoever watches sees it begin, and where it ends.
	seen := <-watched
	if n := len(seen); n < 2 || seen[0] != `{"state":"live","devices":0,"registered":0,"open":0,"counts":{}}` || seen[n-1] != `{"state":"live","devices":1,"registered":1,"open":0,"counts":{"verified":1}}` {
		t.Errorf("the feed showed %q", seen)
	}

	lost := p.times(innovaphone.StepLost)
	s.API(t, http.StatusNoContent, http.MethodPut, "/jobs/"+ntp, map[string]any{"parameters": map[string]any{"ntp1": "three.example"}})
	proc.Eventually(t, "the change is applied", func() bool { return s.history(p.MAC())["device.job_applied"] == 7 })
	if got := p.Option("NTP0", "/addr"); got != "three.example" || p.times(innovaphone.StepLost) != lost {
		t.Errorf("the time server is %q, and it was lost %d times", got, p.times(innovaphone.StepLost)-lost)
	}
	if strings.Contains(s.Log(), "canary-turn") {
		t.Error("a password is in the log")
	}
}

// The server is killed at each step of a phone's jobs: in the end all are done, and each is on record as done once.
func TestServerKilledBetweenJobs(t *testing.T) {
	s := newSite(t, "--update-files", images(t))
	soft := s.software(newBuild, "IP222")
	ntp := s.config("NTP", map[string]any{"ntp1": "one.example"})
	tls := s.config("TLS_PROFILE", map[string]any{"profile": "strict"})
	for i, at := range []string{"request GET /!mod cmd UP0 boot", "request GET /!mod cmd UP0 prot", "request GET /!iresetn", innovaphone.StepReboot, "request GET /!config add NTP0", "request GET /!config write",
		"request GET /!config add TLS0", "request GET /cfg.txt"} {
		t.Run(at, func(t *testing.T) {
			code := s.code(s.tenant, s.desk)
			reached := make(chan struct{})
			var once sync.Once
			p := s.phone(mac(0x210+i), func(c *innovaphone.Config) {
				c.EnterCode = enters(code, code, code)
				told := c.Step
				c.Step = func(step, detail string) {
					told(step, detail)
					if strings.HasPrefix(strings.TrimSpace(step+" "+detail), at) {
						once.Do(func() { close(reached) })
					}
				}
			})
			<-reached
			s.kill()
			s.expectJob(ntp, p.MAC(), "applied")
			s.expectJob(tls, p.MAC(), "applied")
			s.once(p.MAC(), "device.jobs_selected")
			state, _ := s.state(soft, p.MAC())
			if counts := s.history(p.MAC()); state != "verified" || counts["device.job_verified"] != 1 || counts["device.job_skipped"] != 0 || counts["device.job_applied"] != 2 || p.Option("NTP0", "/addr") != "one.example" || p.Option("TLS0", "/profile") != "strict" {
				t.Errorf("the software is %s; on record are %v", state, counts)
			}
			p.unplug()
		})
	}
}

// Software that is not there fails, three times, and keeps the configuration back no longer; put there, it is tried again
// on request. A newer job takes the place of one that has not come through.
func TestSoftwareThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, "--update-files", dir)
	soft := s.software(newBuild, "IP222")
	ntp := s.config("NTP", map[string]any{"ntp1": "one.example"})
	code := s.code(s.tenant, s.desk)
	p := s.phone(mac(0x220), func(c *innovaphone.Config) { c.EnterCode = enters(code) })
	s.expectIn(p)
	for attempt := 1; ; attempt++ {
		proc.Eventually(t, fmt.Sprint("attempt ", attempt, " has failed"), func() bool { return s.history(p.MAC())["device.job_failed"] == attempt })
		if attempt == domain.JobAttempts {
			break
		}
		if state, _ := s.state(ntp, p.MAC()); state != "queued" {
			t.Fatalf("the configuration is %s after attempt %d", state, attempt)
		}
		p.unplug() // it does not wait a minute for the next attempt, but comes anew
		p.on()
	}
	s.expectJob(ntp, p.MAC(), "applied")
	if state, reason := s.state(soft, p.MAC()); state != "failed" || reason != "it answered 400 to command 1 of 2: mod cmd …" {
		t.Errorf("the software is %s: %s", state, reason)
	}
	putImages(t, dir, newBuild)
	s.API(t, http.StatusOK, http.MethodPost, "/jobs/"+soft+"/retry", map[string]any{})
	s.expectJob(soft, p.MAC(), "verified")

	second := s.software("140002", "IP222")
	proc.Eventually(t, "the second has failed", func() bool { return s.history(p.MAC())["device.job_failed"] == domain.JobAttempts+1 })
	putImages(t, dir, "140003")
	third := s.software("140003", "IP222")
	s.expectJob(third, p.MAC(), "verified")
	s.expectJob(second, p.MAC(), "superseded")
	if p.Version() != "13r3 sr1 [14.0003/140003/1300]" {
		t.Errorf("it runs %s", p.Version())
	}
}

// A device of another make gets messages: passwords under its own, neither scripts nor software.
func TestAForeignDeviceGetsItsJobs(t *testing.T) {
	s := newSite(t)
	soft := s.software(newBuild, "OTHER1")
	media := s.config("MEDIA", map[string]any{"turnServer": "turn.example", "turnPassword": "canary-turn-password"})
	tls := s.config("TLS_PROFILE", map[string]any{"profile": "fast"})
	expert := s.config("EXPERT", map[string]any{"script": "vars create A p 1"})
	code := s.code(s.tenant, s.desk)
	p := s.phone(mac(0x230), func(c *innovaphone.Config) {
		c.Model, c.Foreign, c.Code, c.UpdateURL, c.DevicesURL = "OTHER1", true, code, "", "ws://"+s.Phones+"/acme.example/devices/sysclients"
	})
	s.expectJob(media, p.MAC(), "sent")
	s.expectJob(tls, p.MAC(), "sent")
	s.expectJob(soft, p.MAC(), "skipped")
	s.expectJob(expert, p.MAC(), "skipped")
	got := map[string]map[string]any{}
	last := 0
	for _, m := range p.Configs() {
		var v map[string]any
		if err := json.Unmarshal(m.Config, &v); err != nil {
			t.Fatal(err)
		}
		kind, _ := v["type"].(string)
		got[kind] = v
		if m.Last {
			last++
		}
	}
	if kinds := slices.Sorted(maps.Keys(got)); !slices.Equal(kinds, []string{"MEDIA", "TLS_PROFILE"}) || last != 1 || got["TLS_PROFILE"]["profile"] != "fast" {
		t.Errorf("it got %v, %d times the last", kinds, last)
	}
	seed, _ := got["MEDIA"]["turnSeed"].(string)
	hidden, _ := got["MEDIA"]["turnPassword"].(string)
	if clear, err := wire.Decrypt(seed, p.Password(), hidden); err != nil || clear != "canary-turn-password" {
		t.Errorf("the password does not open: %v", err)
	}
	// Nobody says what it made of them, until it comes back; also when the server was killed meanwhile.
	s.kill()
	s.expectJob(media, p.MAC(), "applied")
	s.expectJob(tls, p.MAC(), "applied")
	if n := len(p.Configs()); n != 2 {
		t.Errorf("it got %d messages", n)
	}
}

// Another vendor's phone has the same jobs in its files.
func TestAnotherVendorsPhoneGetsItsJobs(t *testing.T) {
	s := newSite(t)
	code := s.API(t, http.StatusCreated, http.MethodPost, "/codes", map[string]any{"tenant_id": s.tenant, "category_id": s.desk, "user_id": s.user, "purpose": "self_service"})["code"].(string)
	fleet, err := phonesim.Fleet(1, "yealink", 7)
	if err != nil {
		t.Fatal(err)
	}
	c := fleet[0]
	c.Model, c.Firmware, c.Server = "T54W", "96.86.0.20", "http://"+s.Phones+"/"
	p, err := phonesim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Redeem(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	soft := s.software("96.86.0.100", "T54W")
	ntp := s.config("NTP", map[string]any{"ntp1": "one.example"})
	tls := s.config("TLS_PROFILE", map[string]any{"profile": "fast"})
	proc.Eventually(t, "its files are made with the jobs", func() bool {
		_, err := p.Poll(t.Context())
		state, _ := s.state(ntp, p.MAC())
		return err == nil && state == "applied"
	})
	s.expectJob(soft, p.MAC(), "sent")
	s.expectJob(tls, p.MAC(), "skipped")
	why := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+string(p.MAC())+"/explain?key=ntp_ip", nil)
	if text := fmt.Sprint(why); !strings.Contains(text, "job "+ntp) || !strings.Contains(text, "one.example") {
		t.Errorf("the time server is explained by %s", text)
	}
	// It loads the firmware and comes back with it.
	c.Firmware, c.Server = "96.86.0.100", p.Server()
	updated, err := phonesim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer updated.Close()
	if _, err := updated.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expectJob(soft, p.MAC(), "verified")
	s.once(p.MAC(), "device.job_verified", "device.job_applied")
}
