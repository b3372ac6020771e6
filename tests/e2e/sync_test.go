package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ledgerline/tests/ports"
	"ledgerline/tests/proc"
	"ledgerline/tests/sippeer"
)

// family is a phone with what it says when it fetches and what it obeys.
type family struct {
	vendor, model, mac, agent string
	takes                     []string // values of Event, as the vendor's manual has them
}

var families = []family{
	{"Yealink", "T54W", "0015651a2b01", "Yealink SIP-T54W 96.86.0.15 00:15:65:1a:2b:01", []string{"check-sync", "check-sync;reboot=true"}},
	{"Snom", "D785", "0004131a2b02", "Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004 0004131A2B02 SXM:0 UXM:0)", []string{"check-sync;reboot=false", "check-sync;reboot=true"}},
	{"Grandstream", "GXP2170", "000b821a2b03", "Grandstream Model HW GXP2170 SW 1.0.11.64 DevId 000b821a2b03", []string{"check-sync"}},
	{"Polycom", "VVX450", "64167f1a2b04", "FileTransport PolycomVVX-VVX_450-UA/6.3.1.8427", []string{"check-sync"}},
	{"Fanvil", "X4U", "0c383e1a2b05", "Fanvil X4U 2.12.1 0c383e1a2b05", []string{"check-sync", "check-sync;reboot=true"}},
}

// handset is one phone of a family: its SIP half, and its record here.
type handset struct {
	family
	sip *sippeer.Phone
	id  string
}

// handset makes a phone known, gives it the site's line, and lets it fetch for the first time.
func (s *site) handset(t *testing.T, f family, transport string) *handset {
	t.Helper()
	h := &handset{family: f, id: s.create(t, "/devices", map[string]any{"mac": f.mac, "vendor": f.vendor, "model": f.model, "tenant_id": s.tenant, "category_id": s.category})}
	s.API(t, http.StatusOK, http.MethodPost, "/devices/"+h.id+"/lines", map[string]any{"line_id": s.line})
	h.sip = sippeer.NewPhone(t, &sippeer.Phone{User: "acme4711", Password: s.password, MAC: f.mac, Takes: f.takes, Challenge: true}, transport, nil)
	s.fetchAll(t, h)
	return h
}

// fetchAll is the phone fetching everything it may, by its MAC.
func (s *site) fetchAll(t *testing.T, h *handset) {
	t.Helper()
	proc.Eventually(t, h.vendor+" is known", func() bool {
		known, _ := s.API(t, http.StatusOK, http.MethodGet, "/devices?text="+h.id, nil)["items"].([]any)
		return len(known) > 0
	})
	list, _ := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+h.id+"/files", nil)["files"].([]any)
	if len(list) == 0 {
		proc.Eventually(t, h.vendor+" has files", func() bool {
			list, _ = s.API(t, http.StatusOK, http.MethodGet, "/devices/"+h.id+"/files", nil)["files"].([]any)
			return len(list) > 0
		})
	}
	own := 0
	for _, f := range list {
		path := fmt.Sprint(f.(map[string]any)["path"])
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Phones+"/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", h.agent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ToLower(path), h.mac) {
			own++
			if resp.StatusCode != http.StatusOK || len(body) == 0 {
				t.Errorf("%s: GET %s: %s", h.vendor, path, resp.Status)
			}
		}
	}
	if own == 0 {
		t.Fatalf("%s has no file of its own among %v", h.vendor, list)
	}
}

// syncState is what came of the latest request to a phone.
func (s *site) syncState(t *testing.T, h *handset) (state, outcome string) {
	t.Helper()
	sync, _ := s.API(t, http.StatusOK, http.MethodGet, "/devices/"+h.id, nil)["sync"].(map[string]any)
	return fmt.Sprint(sync["state"]), fmt.Sprint(sync["outcome"], " ", sync["status"], " ", sync["detail"])
}

// synchronize changes something for the phone, has it told, and sees it fetch: sent is not applied until then.
func (s *site) synchronize(t *testing.T, h *handset, vlan int) {
	t.Helper()
	s.API(t, http.StatusOK, http.MethodPut, "/devices/"+h.id+"/config", map[string]any{"settings": map[string]any{"vlan_enabled": true, "vlan_id": vlan}})
	s.API(t, http.StatusAccepted, http.MethodPost, "/devices/"+h.id+"/sync", map[string]any{})
	select {
	case event := <-h.sip.Told:
		if event != h.takes[0] {
			t.Errorf("%s was told %q, want %q", h.vendor, event, h.takes[0])
		}
	case <-time.After(time.Minute):
		state, outcome := s.syncState(t, h)
		t.Fatalf("%s was told nothing; its sync is %s: %s", h.vendor, state, outcome)
	}
	proc.Eventually(t, h.vendor+" took the message and has not fetched", func() bool { state, _ := s.syncState(t, h); return state == "sent_not_fetched" })
	s.fetchAll(t, h)
	proc.Eventually(t, h.vendor+" has fetched", func() bool { state, _ := s.syncState(t, h); return state == "applied" })
}

// through makes addr the outbound proxy of the tenant's phones.
func (s *site) through(t *testing.T, addr, transport string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	s.create(t, "/layers", map[string]any{"id": "tenant." + s.tenant, "tenant_id": s.tenant,
		"settings": map[string]any{"sip_outbound_proxy_ip": host, "sip_outbound_proxy_port": port, "sip_transport": transport}})
}

// Phones of five families with one account behind one address: each is told in its family's words, the others are
// not, and each fetches what it was to fetch.
func TestPhonesOfFiveFamiliesAreToldAndFetch(t *testing.T) {
	s := newSite(t)
	registrar := sippeer.NewRegistrar(t, &sippeer.Registrar{Domain: "pbx.acme.example", Passwords: map[string]string{"acme4711": s.password}}, "udp", nil)
	s.through(t, registrar.Addr, "udp")
	var phones []*handset
	for _, f := range families {
		h := s.handset(t, f, "udp")
		if err := h.sip.Register(t.Context(), "pbx.acme.example", registrar.Addr); err != nil {
			t.Fatal(err)
		}
		phones = append(phones, h)
	}
	for i, h := range phones {
		s.synchronize(t, h, 100+i)
		for _, other := range phones {
			select {
			case event := <-other.sip.Told:
				t.Errorf("%s was told %q beside %s", other.vendor, event, h.vendor)
			default:
			}
		}
	}
	// A restart, where the family knows a word for it.
	s.API(t, http.StatusAccepted, http.MethodPost, "/devices/"+phones[1].id+"/sync", map[string]any{"reboot": true})
	if event := <-phones[1].sip.Told; event != "check-sync;reboot=true" {
		t.Errorf("told %q", event)
	}
	for _, want := range []string{"device.sync_requested", "device.sync_outcome"} {
		if history := s.history(t, "/devices/"+phones[0].id); !strings.Contains(history, want) {
			t.Errorf("the history lacks %s: %s", want, history)
		}
	}
	s.verify(t)
	s.noSecrets(t, s.password, "canary-admin-password")
}

// Kamailio, a registrar and proxy that is not ours: two phones with one account behind one address.
func TestThroughKamailio(t *testing.T) {
	s := newSite(t)
	addr, ok := kamailio(t, s.password)
	if !ok {
		return
	}
	s.through(t, addr, "udp")
	var phones []*handset
	for _, f := range families[:2] {
		h := s.handset(t, f, "udp")
		proc.Eventually(t, "kamailio registers "+f.vendor, func() bool { return h.sip.Register(t.Context(), "pbx.acme.example", addr) == nil })
		phones = append(phones, h)
	}
	for i, h := range phones {
		s.synchronize(t, h, 100+i)
	}
	for _, h := range phones {
		select {
		case event := <-h.sip.Told:
			t.Errorf("%s was told %q once more", h.vendor, event)
		default:
		}
	}
}

// kamailio starts a registrar and proxy that authenticates the one account there is; ok is false where Debian's
// kamailio is not installed.
func kamailio(t *testing.T, password string) (addr string, ok bool) {
	t.Helper()
	bin, err := exec.LookPath("kamailio")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/kamailio"); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("kamailio is not installed")
			}
			t.Log("kamailio is not installed: nothing was tried")
			return "", false
		}
		bin = "/usr/sbin/kamailio"
	}
	addr = ports.Address(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(kamailioConfig, addr, password)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bin, "-f", config, "-DD", "-E", "-Y", dir, "-P", filepath.Join(dir, "pid"), "-m", "16", "-M", "4", "-w", dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: main process and workers
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("kamailio: %s", b)
		}
	})
	return addr, true
}

const kamailioConfig = `#!KAMAILIO
debug=1
children=1
listen=udp:%s
alias="pbx.acme.example"
disable_tcp=yes
auto_aliases=no
log_stderror=yes
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
request_route {
	if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("pbx.acme.example", "%[2]s", "0")) { www_challenge("pbx.acme.example", "1"); exit; }
		if (!save("location")) { sl_reply_error(); }
		exit;
	}
	if (!pv_proxy_authenticate("pbx.acme.example", "%[2]s", "0")) { proxy_challenge("pbx.acme.example", "1"); exit; }
	consume_credentials();
	if (uri==myself) {
		if (!lookup("location")) { sl_send_reply("480", "Temporarily Unavailable"); exit; }
	}
	t_relay();
}
`
