package phonesim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ledgerline/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a provisioning server of fixed files that writes down what it is asked.
type server struct {
	mu    sync.Mutex
	files map[string]string
	asked []string // "path" or "path 304"
	agent string
	users []string // of HTTP Basic, "" for none
}

func (s *server) put(path, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = content
}

func (s *server) set(files map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
}

// took returns what was asked since the last call.
func (s *server) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// get looks a file up and writes down that it was asked for.
func (s *server) get(path, note string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, path+note)
	content, ok := s.files[path]
	return content, ok
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	user, _, _ := r.BasicAuth()
	s.agent, s.users = r.UserAgent(), append(s.users, user)
	etag := `"` + digest(s.files[r.URL.Path]) + `"`
	s.mu.Unlock()
	note := ""
	if r.Header.Get("If-None-Match") == etag {
		note = " 304"
	}
	content, ok := s.get(r.URL.Path, note)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "", fixedTime, strings.NewReader(content))
}

func serve(t testing.TB, files map[string]string) (*server, string) {
	t.Helper()
	s := &server{files: files}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func newPhone(t testing.TB, c Config) *Phone {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func mustBoot(t testing.TB, p *Phone) Result {
	t.Helper()
	res, err := p.Boot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustPoll(t testing.TB, p *Phone) Result {
	t.Helper()
	res, err := p.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	cfgHead  = "#!version:1.0.0.1\n"
	someLine = "account.1.enable = 1\naccount.1.user_name = 101\naccount.1.sip_server.1.address = sip.example.com\n"
)

// bootCase is a phone, what its server has, and what it must ask for, in order.
type bootCase struct {
	name  string
	phone Config
	files map[string]string
	asks  []string
	agent string
	state State
}

func bootCases(t testing.TB) []bootCase {
	yealink, snom, gs := fixture(t, "yealink.cfg"), fixture(t, "snom.xml"), fixture(t, "grandstream-v1.xml")
	return []bootCase{
		{"yealink without boot file", aYealink,
			map[string]string{"/y000000000096.cfg": cfgHead + "lang.gui = German\n", "/805ec0aabbcc.cfg": yealink},
			[]string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/y000000000096.cfg", "/805ec0aabbcc.cfg"},
			"Yealink SIP-T54W 96.86.0.70 80:5e:c0:aa:bb:cc", Configured},
		{"yealink with its boot file", aYealink,
			map[string]string{
				"/805ec0aabbcc.boot": cfgHead + "include:config <common.cfg>\ninclude:config \"own/$MAC.cfg\"\ninclude:config missing.cfg\noverwrite_mode = 1\n",
				"/common.cfg":        cfgHead, "/own/805ec0aabbcc.cfg": yealink,
			},
			[]string{"/805ec0aabbcc.boot", "/common.cfg", "/own/805ec0aabbcc.cfg", "/missing.cfg"},
			"Yealink SIP-T54W 96.86.0.70 80:5e:c0:aa:bb:cc", Configured},
		{"yealink with the common boot file", Config{Vendor: "yealink", Model: "W70B", MAC: "805ec0aabbcc"},
			map[string]string{"/y000000000000.boot": cfgHead + "include:config a.cfg\n", "/a.cfg": cfgHead},
			[]string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/a.cfg"},
			"Yealink W70B 146.86.0.37 80:5e:c0:aa:bb:cc", Unconfigured},
		{"old yealink knows no boot file", Config{Vendor: "yealink", Model: "T22P", Firmware: "7.73.0.50", MAC: "001565aabbcc"},
			map[string]string{"/001565aabbcc.cfg": yealink},
			[]string{"/y000000000005.cfg", "/001565aabbcc.cfg"},
			"Yealink SIP-T22P 7.73.0.50 00:15:65:aa:bb:cc", Configured},
		{"very old yealink shows no MAC", Config{Vendor: "yealink", Model: "T46G", Firmware: "28.71.0.81", MAC: "001565aabbcc"},
			map[string]string{"/001565aabbcc.cfg": cfgHead},
			[]string{"/y000000000028.cfg", "/001565aabbcc.cfg"},
			"Yealink-T46G 28.71.0.81 28.1.0.128.0.0.0", Unconfigured},
		{"yealink guest", aYealink,
			map[string]string{"/805ec0aabbcc.cfg": cfgHead + strings.Replace(someLine, "101", "guest", 1)},
			[]string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/y000000000096.cfg", "/805ec0aabbcc.cfg"},
			"Yealink SIP-T54W 96.86.0.70 80:5e:c0:aa:bb:cc", Unconfigured},
		{"snom with lists", aSnom,
			map[string]string{
				"/snomD785.htm":              `<setting-files><file url="snom-general.xml"/><file url="gui_lang.xml"/></setting-files>`,
				"/snom-general.xml":          "<settings><phone-settings/></settings>",
				"/gui_lang.xml":              `<gui-languages><language url="en.xml" name="English"/></gui-languages>`,
				"/snomD785-000413922D24.htm": `<setting-files><file url="000413922D24.xml"/></setting-files>`,
				"/000413922D24.xml":          snom,
			},
			[]string{"/snomD785.htm", "/snom-general.xml", "/gui_lang.xml", "/snomD785-000413922D24.htm", "/000413922D24.xml"},
			"Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004 000413922D24 SXM:0 UXM:0)", Configured},
		{"snom with settings at once", Config{Vendor: "snom", Model: "720", MAC: "000413922D24"},
			map[string]string{"/snom720-000413922D24.htm": snom},
			[]string{"/snom720.htm", "/snom720-000413922D24.htm"},
			"Mozilla/4.0 (compatible; snom720-SIP 8.9.3.80 1.1.3-u 000413922D24)", Configured},
		{"old snom shows no MAC; MAC file only", Config{Vendor: "snom", Model: "370", MAC: "000413922D24"},
			map[string]string{"/000413922D24.xml": snom},
			[]string{"/snom370.htm", "/snom370-000413922D24.htm", "/000413922D24.xml"},
			"Mozilla/4.0 (compatible; snom370-SIP 8.7.3.25 1.1.3-u)", Configured},
		{"snom DECT base", Config{Vendor: "snom", Model: "M900", MAC: "000413922D24"},
			map[string]string{"/snomM900.htm": "<settings/>"},
			[]string{"/snomM900.htm", "/snomM900-000413922D24.htm"},
			"Snom M900 07.40.0001 000413922D24", Unconfigured},
		{"grandstream", aGrandstream,
			map[string]string{"/cfg000b82aabbcc.xml": gs, "/cfg.xml": "not asked for"},
			[]string{"/cfg000b82aabbcc", "/cfg000b82aabbcc.xml"},
			"Grandstream Model HW GRP2614 V1.0 SW 1.0.9.26 DevId 000b82aabbcc", Configured},
		{"grandstream falls back to model and common file", aGrandstream,
			map[string]string{"/cfg.xml": `<gs_provision version="1"><config version="1"><P271>0</P271></config></gs_provision>`},
			[]string{"/cfg000b82aabbcc", "/cfg000b82aabbcc.xml", "/cfggrp2614.xml", "/cfg.xml"},
			"Grandstream Model HW GRP2614 V1.0 SW 1.0.9.26 DevId 000b82aabbcc", Unconfigured},
		{"grandstream binary", aGXP2000,
			map[string]string{"/cfg000b82aabbcc": gsBinary("000b82aabbcc", "P35=101&P47=sip.example.com&gnkey=0b82")},
			[]string{"/cfg000b82aabbcc"},
			"Grandstream GXP2000 (gxp2000e.bin:1.2.5.3/boot55e.bin:1.1.6.9) DevId 000b82aabbcc", Configured},
	}
}

// Each vendor asks in its own order, under its own name, and stops where its firmware stops.
func TestBootOrder(t *testing.T) {
	for _, tt := range bootCases(t) {
		t.Run(tt.name, func(t *testing.T) {
			s, url := serve(t, tt.files)
			tt.phone.Server = url
			p := newPhone(t, tt.phone)
			res := mustBoot(t, p)
			diff(t, "asked", s.took(), tt.asks)
			diff(t, "agent", s.agent, tt.agent)
			diff(t, "state", res.State, tt.state)
			for i, f := range res.Files {
				content, ok := tt.files[tt.asks[i]]
				want := File{Name: f.Name, Path: tt.asks[i], Status: 404}
				if ok {
					want = File{Name: f.Name, Path: tt.asks[i], Status: 200, Size: int64(len(content)), SHA256: digest(content), ETag: `"` + digest(content) + `"`, Body: Body(content)}
				}
				if f.modified = ""; !cmp.Equal(want, f, cmp.AllowUnexported(File{})) {
					t.Errorf("file %v, want %v", f, want)
				}
			}
		})
	}
}

// A poll costs a server that did not change nothing but 304s, and takes exactly what did change.
func TestPoll(t *testing.T) {
	own := fixture(t, "yealink.cfg")
	s, url := serve(t, map[string]string{"/y000000000096.cfg": cfgHead, "/805ec0aabbcc.cfg": own})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	mustBoot(t, p)
	s.took()

	if res := mustPoll(t, p); res.Changed || res.Files[3].SHA256 != digest(own) || !res.Files[3].Unchanged || res.Files[3].Status != 304 {
		t.Errorf("poll of unchanged files: changed %v, %+v", res.Changed, res.Files[3])
	}
	diff(t, "polled", s.took(), []string{"/805ec0aabbcc.boot", "/y000000000000.boot", "/y000000000096.cfg 304", "/805ec0aabbcc.cfg 304"})

	s.put("/805ec0aabbcc.cfg", strings.Replace(own, "pa55 word", "n3w", 1))
	res := mustPoll(t, p)
	if !res.Changed || res.Files[3].Unchanged || !res.Files[2].Unchanged {
		t.Errorf("poll of a changed file: changed %v, %v", res.Changed, res.Files)
	}
	diff(t, "password", res.Parsed.Accounts[0].Password.Reveal(), "n3w")
	if res := mustBoot(t, p); res.Changed || res.Files[3].Status != 200 {
		t.Errorf("a boot asks without condition and finds nothing new: changed %v, %v", res.Changed, res.Files)
	}
}

// A file that is gone changes nothing: the other files, unchanged, are not applied over what it once said.
func TestPollVanished(t *testing.T) {
	s, url := serve(t, map[string]string{"/y000000000096.cfg": cfgHead + "lang.gui = French\n", "/805ec0aabbcc.cfg": cfgHead + "lang.gui = German\n"})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	mustBoot(t, p)
	s.set(map[string]string{"/y000000000096.cfg": cfgHead + "lang.gui = French\n"})
	res := mustPoll(t, p)
	diff(t, "language", res.Parsed.Raw["lang.gui"], "German")
	diff(t, "changed", res.Changed, false)
}

// The same bytes under a new ETag are no change, and the new ETag is the one to ask with.
func TestPollNewETag(t *testing.T) {
	var asked []string
	etag := `"a"`
	p := newPhone(t, Config{Vendor: "grandstream", Model: "GXP2000", MAC: "000b82aabbcc", Server: "http://prov", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) *http.Response {
		asked = append(asked, r.Header.Get("If-None-Match"))
		return answer(200, "ETag", etag, gsBinary("000b82aabbcc", "gnkey=0b82"))
	})}})
	mustBoot(t, p)
	etag = `"b"`
	if res := mustPoll(t, p); res.Changed || !res.Files[0].Unchanged {
		t.Errorf("the same bytes changed: %v", res.Files)
	}
	mustPoll(t, p)
	diff(t, "asked with", asked, []string{"", `"a"`, `"b"`})
}

// A server without ETags is asked with the date it gave.
func TestPollModified(t *testing.T) {
	var asked []string
	p := newPhone(t, Config{Vendor: "grandstream", Model: "GXP2000", MAC: "000b82aabbcc", Server: "http://prov", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) *http.Response {
		since := r.Header.Get("If-Modified-Since")
		if asked = append(asked, since); since != "" {
			return answer(304, "", "", "")
		}
		return answer(200, "Last-Modified", "Tue, 03 Mar 2026 12:00:00 GMT", gsBinary("000b82aabbcc", "gnkey=0b82"))
	})}})
	mustBoot(t, p)
	for range 2 {
		res := mustPoll(t, p)
		diff(t, "status", res.Files[0].Status, 304)
	}
	diff(t, "asked with", asked, []string{"", "Tue, 03 Mar 2026 12:00:00 GMT", "Tue, 03 Mar 2026 12:00:00 GMT"})
}

// Names and numbers by which servers know the odd models.
func TestIdentity(t *testing.T) {
	tests := []struct{ vendor, model, agent, common string }{
		{"yealink", "T46S", "Yealink SIP-T46S 66.86.0.15 80:5e:c0:aa:bb:cc", "y000000000066.cfg"},
		{"yealink", "T31P", "Yealink SIP-T31P 124.86.0.75 80:5e:c0:aa:bb:cc", "y000000000124.cfg"},
		{"yealink", "T28P", "Yealink SIP-T28P 2.73.0.50 80:5e:c0:aa:bb:cc", "y000000000000.cfg"},
		{"yealink", "CP920", "Yealink SIP-CP920 78.86.0.15 80:5e:c0:aa:bb:cc", "y000000000078.cfg"},
		{"yealink", "T49G", "Yealink SIP VP-T49G 96.86.0.70 80:5e:c0:aa:bb:cc", "y000000000051.cfg"},
		{"yealink", "VP530", "VP530 96.86.0.70 80:5e:c0:aa:bb:cc", "y000000000023.cfg"},
		{"snom", "D735", "Mozilla/4.0 (compatible; snomD735-SIP 10.1.33.33 2010.12-00004 805EC0AABBCC SXM:0 UXM:0)", ""},
		{"grandstream", "HT802", "Grandstream Model HW HT802 V1.0 SW 1.0.43.11 DevId 805ec0aabbcc", ""},
	}
	for _, tt := range tests {
		p := newPhone(t, Config{Vendor: strings.ToUpper(tt.vendor), Model: tt.model, MAC: "80:5E:C0:AA:BB:CC", Server: "http://127.0.0.1"})
		diff(t, tt.model, p.UserAgent(), tt.agent)
		diff(t, "MAC", p.MAC(), domain.MAC("805ec0aabbcc"))
		vendor, model := p.Vendor()
		diff(t, "vendor and model", vendor+model.Name, tt.vendor+tt.model)
		if tt.common != "" {
			diff(t, "common file", yealinkCommonFile(p.id), tt.common)
		}
	}
}

// Settings are in flash memory: what is not sent any more stays, %NULL% clears, overwrite_mode starts anew,
// a reset forgets.
func TestSettingsPersist(t *testing.T) {
	s, url := serve(t, map[string]string{"/805ec0aabbcc.cfg": cfgHead + someLine})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	steps := []struct {
		name, path, file string
		state            State
		user             string
	}{
		{"first", "/805ec0aabbcc.cfg", cfgHead + someLine, Configured, "101"},
		{"not sent", "/805ec0aabbcc.cfg", cfgHead + "account.1.user_name =\n", Configured, "101"},
		{"cleared", "/805ec0aabbcc.cfg", cfgHead + "account.1.user_name = %NULL%\n", Unconfigured, ""},
		{"again", "/805ec0aabbcc.cfg", cfgHead + someLine, Configured, "101"},
		{"overwritten", "/805ec0aabbcc.boot", cfgHead + "overwrite_mode = 1\n", Unconfigured, ""},
	}
	for _, step := range steps {
		s.put(step.path, step.file)
		res := mustPoll(t, p)
		diff(t, step.name, res.State, step.state)
		diff(t, step.name, res.Parsed.Raw["account.1.user_name"], step.user)
	}
	if err := p.FactoryReset(); err != nil || p.State() != Booting || p.Parsed().Raw != nil {
		t.Errorf("reset: %v, %v", err, p)
	}
}

// A malformed file is refused whole and named; the others count, and what was set before stays.
func TestMalformedFile(t *testing.T) {
	s, url := serve(t, map[string]string{"/y000000000096.cfg": cfgHead, "/805ec0aabbcc.cfg": cfgHead + someLine})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	mustBoot(t, p)
	s.put("/805ec0aabbcc.cfg", cfgHead+"account.1.enable = 0\noops\n")
	s.put("/y000000000096.cfg", cfgHead+"lang.gui = French\n")
	for range 2 { // a poll that finds the same bad file says so again
		res, err := p.Poll(t.Context())
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "805ec0aabbcc.cfg: malformed file: line 3: no = between") {
			t.Errorf("error %v", err)
		}
		diff(t, "state", res.State, Configured)
		diff(t, "other file", res.Parsed.Raw["lang.gui"], "French")
		if !errors.Is(res.Files[3].Refused, ErrMalformed) {
			t.Errorf("file %v is not refused", res.Files[3])
		}
	}
}

// A code in the path redeems with the first request; the file moves the phone to its own directory, where the
// code is not told to anybody.
func TestRedeem(t *testing.T) {
	for _, by := range []CodeBy{CodeInPath, CodeInBasic} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			dir := "/c/123456789012/"
			if by == CodeInBasic {
				dir = "/"
			}
			s, url := serve(t, nil)
			moved := cfgHead + someLine + "static.auto_provision.server.url = " + url + "/d/5ecret\n"
			s.set(map[string]string{dir + "805ec0aabbcc.cfg": moved, "/d/5ecret/805ec0aabbcc.cfg": moved})
			p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url, CodeBy: by})
			res, err := p.Redeem(t.Context(), "123456789012")
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"805ec0aabbcc.boot", "y000000000000.boot", "y000000000096.cfg", "805ec0aabbcc.cfg"}
			var want []string
			for _, d := range []string{dir, "/d/5ecret/"} {
				for _, n := range names {
					want = append(want, d+n)
				}
			}
			diff(t, "asked", s.took(), want)
			users := slices.Repeat([]string{""}, 8)
			if by == CodeInBasic {
				users = slices.Concat(slices.Repeat([]string{"123456789012"}, 4), slices.Repeat([]string{""}, 4))
			}
			diff(t, "users", s.users, users)
			diff(t, "state", res.State, Configured)
			diff(t, "server", res.Server, url+"/d/5ecret/")
			mustPoll(t, p)
			diff(t, "polled", s.took()[3], "/d/5ecret/805ec0aabbcc.cfg 304")
		})
	}
}

// A refused code changes nothing, is not told why, and shows in no error.
func TestRedeemRefused(t *testing.T) {
	s, url := serve(t, map[string]string{"/000413922D24.xml": "<settings/>"})
	p := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url})
	mustBoot(t, p)
	res, err := p.Redeem(t.Context(), "999999999999")
	if !errors.Is(err, ErrNoFile) || strings.Contains(err.Error(), "999999999999") {
		t.Errorf("error %v", err)
	}
	diff(t, "server", res.Server, url+"/")
	s.took()
	mustPoll(t, p)
	diff(t, "goes on where it was", s.took()[2], "/000413922D24.xml 304")
	for _, code := range []string{"", ".", "..", strings.Repeat("1", 65)} {
		if _, err := p.Redeem(t.Context(), code); !errors.Is(err, ErrCode) {
			t.Errorf("code %q: %v", code, err)
		}
	}
	diff(t, "nothing asked with a bad code", s.took(), []string(nil))
	if _, err := p.Redeem(t.Context(), "../x?y"); !errors.Is(err, ErrNoFile) {
		t.Error(err)
	}
	diff(t, "escaped", s.took()[0], "/c/../x?y/snomD785.htm")
}

// Every vendor's way to name another server moves the phone there at once.
func TestMove(t *testing.T) {
	tests := []struct {
		phone     Config
		from, to  string
		file, new string
	}{
		{aYealink, "/805ec0aabbcc.cfg", "/new/805ec0aabbcc.cfg", cfgHead + "static.auto_provision.server.url = URL/new/\n", cfgHead + someLine},
		{aSnom, "/000413922D24.xml", "/new/000413922D24.xml", "<settings><phone-settings><setting_server>URL/new/{mac}.xml</setting_server></phone-settings></settings>", "<settings/>"},
		{aGrandstream, "/cfg.xml", "/new/cfg.xml", `<gs_provision version="1"><config version="1"><P237>HOST/new</P237><P212>1</P212></config></gs_provision>`, `<gs_provision version="1"><config version="1"/></gs_provision>`},
		{aGXP2000, "/cfg000b82aabbcc", "/new/cfg000b82aabbcc", gsBinary("000b82aabbcc", "P1=1&gnkey=0b82"), gsBinary("000b82aabbcc", "gnkey=0b82")},
	}
	for _, tt := range tests {
		t.Run(tt.phone.Vendor+tt.phone.Model, func(t *testing.T) {
			s, url := serve(t, nil)
			host := strings.TrimPrefix(url, "http://")
			file := strings.NewReplacer("URL", url, "HOST", host).Replace(tt.file)
			if tt.phone.Model == "GXP2000" {
				file = gsBinary("000b82aabbcc", "P237="+host+"/new&P212=1&gnkey=0b82")
			}
			s.set(map[string]string{tt.from: file, tt.to: tt.new})
			tt.phone.Server = url
			p := newPhone(t, tt.phone)
			res := mustBoot(t, p)
			asked := s.took()
			diff(t, "last asked", asked[len(asked)-1], tt.to)
			if !strings.HasPrefix(res.Server, url+"/new/") {
				t.Errorf("at %s", res.Server)
			}
		})
	}
}

// Servers that send a phone round and round are left after a few moves.
func TestLost(t *testing.T) {
	s, url := serve(t, map[string]string{})
	for i := range 9 {
		s.put(fmt.Sprintf("/%d/805ec0aabbcc.cfg", i), fmt.Sprintf("%sstatic.auto_provision.server.url = %s/%d/\n", cfgHead, url, (i+1)%9))
	}
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url + "/0/"})
	res, err := p.Boot(t.Context())
	if !errors.Is(err, ErrLost) {
		t.Errorf("error %v", err)
	}
	diff(t, "requests", len(res.Files), 4*(maxMoves+1))
}

// Lists that include each other end.
func TestIncludeBounds(t *testing.T) {
	_, url := serve(t, map[string]string{"/snomD785.htm": `<setting-files><file url="snomD785.htm"/></setting-files>`})
	if _, err := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url}).Boot(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 4 deep") {
		t.Errorf("deep: %v", err)
	}
	_, url = serve(t, map[string]string{"/snomD785.htm": `<setting-files>` + strings.Repeat(`<file url="a.xml"/>`, 100) + `</setting-files>`})
	if _, err := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url}).Boot(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 64 files") {
		t.Errorf("wide: %v", err)
	}
	_, url = serve(t, map[string]string{"/snomD785.htm": `<setting-files><file url="file:///etc/passwd"/></setting-files>`})
	if _, err := newPhone(t, Config{Vendor: "snom", MAC: "000413922d24", Server: url}).Boot(t.Context()); !errors.Is(err, ErrBadServer) {
		t.Errorf("other scheme: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Vendor: "snom", MAC: "000413922d24", Server: "http://127.0.0.1"}
	tests := []struct {
		change func(*Config)
		want   error
	}{
		{func(c *Config) { c.Vendor = "acme" }, ErrUnknownVendor},
		{func(c *Config) { c.MAC = "0004" }, domain.ErrBadMAC},
		{func(c *Config) { c.Server = "" }, ErrBadServer},
		{func(c *Config) { c.Server = "ftp://host/" }, ErrBadServer},
		{func(c *Config) { c.Server = "http:///path" }, ErrBadServer},
		{func(c *Config) { c.Server = "http://[::1" }, ErrBadServer},
		{func(c *Config) { c.Code = ".." }, ErrCode},
		{func(c *Config) { c.Model = "D785/../x" }, nil},
		{func(c *Config) { c.Firmware = "1\r\nX: y" }, nil},
		{func(c *Config) { c.BlockSize = 8 }, nil},
	}
	for i, tt := range tests {
		c := good
		tt.change(&c)
		p, err := New(c)
		if err == nil || p != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("case %d: %v, want %v", i, err, tt.want)
		}
	}
}

// A phone that boots again while it is polled does one after the other.
func TestConcurrent(t *testing.T) {
	_, url := serve(t, map[string]string{"/805ec0aabbcc.cfg": cfgHead + someLine})
	p := newPhone(t, Config{Vendor: "yealink", MAC: "805ec0aabbcc", Server: url})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			do := p.Boot
			if i%2 == 0 {
				do = p.Poll
			}
			if _, err := do(context.Background()); err != nil {
				t.Error(err)
			}
			_, _ = p.State(), p.Server()
		})
	}
	wg.Wait()
	diff(t, "state", p.State(), Configured)
}

// A fleet is the same every time, grows at its end, and has no address twice.
func TestFleet(t *testing.T) {
	for _, v := range Vendors() {
		fleet, err := Fleet(20000, v.Name, 7)
		if err != nil {
			t.Fatal(err)
		}
		short, err := Fleet(10, v.Name, 7)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "shorter fleet", fmt.Sprint(short), fmt.Sprint(fleet[:10]))
		other, err := Fleet(10, v.Name, 8)
		if err != nil || other[0].MAC == short[0].MAC {
			t.Errorf("another seed, the same phones (%v)", err)
		}
		seen := map[domain.MAC]bool{}
		for _, c := range fleet {
			if mac, err := domain.ParseMAC(string(c.MAC)); err != nil || mac != c.MAC || seen[mac] || !slices.Contains(v.OUIs, mac.OUI()) {
				t.Fatalf("%s: MAC %s, %v", v.Name, c.MAC, err)
			}
			seen[c.MAC] = true
		}
		diff(t, "second model", fleet[1].Model, v.Models[1].Name)
		newPhone(t, Config{Vendor: v.Name, MAC: fleet[0].MAC, Server: "tftp://127.0.0.1"})
	}
	if _, err := Fleet(1, "acme", 1); !errors.Is(err, ErrUnknownVendor) {
		t.Error(err)
	}
	for _, n := range []int{-1, maxFleet + 1} {
		if _, err := Fleet(n, "snom", 1); err == nil {
			t.Errorf("a fleet of %d", n)
		}
	}
}
